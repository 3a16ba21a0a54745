"""Records of any file of ours, and what is common to those that compare speed with nearness."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

from skipdit.results import Record, read


def read_all(paths: Sequence[Path]) -> list[Record]:
    """All records, of files with one a line, and of JSON documents: a record, or "records" inside, as --json writes.

    Raises ValueError, with the file's name, for other files and where there are no records at all.
    """
    records = [record for path in paths for record in _file(path)]
    rounds = sum(record.name == "round" for record in records)
    if rounds:
        raise ValueError(f"{rounds} records are single rounds of a bench: give its FILE.jsonl, not FILE.rounds.jsonl")
    if not records:
        raise ValueError(f"{', '.join(map(str, paths)) or 'no file'}: there are no records in it")
    return records


def _file(path: Path) -> list[Record]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        if path.suffix == ".json" and "Extra data" not in str(error):
            raise ValueError(f"{path} holds no records: {error}") from error
        return read(path)  # one a line
    try:
        within = said.get("records", [said]) if isinstance(said, dict) else said
        return [Record.from_json(json.dumps(each)) for each in within]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no records: {error}") from error


@dataclass(frozen=True)
class Point:
    """One way to draw the same pictures faster: how much faster, and how near it stays."""

    group: str  # what it is compared within: model, sampler, steps
    label: str
    series: str  # points of one method are joined
    fewer: bool  # fewer steps, uncached
    speedup: float  # measured
    quartiles: tuple[float, float] | None
    ideal: float | None
    psnr: float
    interval: tuple[float, float] | None  # of the mean, 95 %
    record: Record


def points(records: Sequence[Record]) -> list[Point]:
    """Of the records that tell both; the uncached run itself is none."""
    captions = groups(records)
    told = [(_point(record), caption) for record, caption in zip(records, captions, strict=True)]
    return [replace(point, group=caption) for point, caption in told if point is not None]


def groups(records: Sequence[Record]) -> list[str]:
    """What each record is compared within: benches that differ in more than the candidate stay apart, named by that."""
    names = [_named(record)[0] for record in records]
    told = [_conditions(record) for record in records]
    alike: dict[str, list[tuple[str, ...]]] = {}
    for name, conditions in zip(names, told, strict=True):
        alike.setdefault(name, []).append(conditions)
    differs = {name: [len(set(column)) > 1 for column in zip(*rows, strict=True)] for name, rows in alike.items()}
    return [", ".join([name, *compress(own, differs[name])]) for name, own in zip(names, told, strict=True)]


def _conditions(record: Record) -> tuple[str, ...]:
    """Of a bench: what decides its figures besides the candidate."""
    f, where = record.figures, record.provenance
    if "of_steps" not in f:
        return ()
    drawn = (f"guidance {f.get('guidance')}", f"seed {where.seed}", f"batch {where.batch}")
    return (*drawn, where.machine, f"threads: {where.threads}", where.dtype)


def _point(record: Record) -> Point | None:
    f = record.figures
    speedup, psnr = f.get("speedup", f.get("over_skip")), mean_of(f.get("psnr"))
    if speedup is None or psnr is None or f.get("kind") == "uncached":
        return None
    group, label = _named(record)
    fewer = "steps" in label and not record.policy and not f.get("passes")
    said = f["psnr"].get("ci95") if isinstance(f["psnr"], dict) else None
    quartiles = f.get("speedup_quartiles")
    ideal = f.get("ideal_speedup", f.get("ideal_over_skip", f.get("ideal")))
    series = "fewer steps" if fewer else " + ".join(re.sub(r"\(.*\)", "", way) for way in label.split(" + "))
    low_high = (said[0], said[1]) if said else None
    spread = (quartiles[0], quartiles[1]) if quartiles else None
    return Point(group, label, series, fewer, speedup, spread, ideal, psnr, low_high, record)


def mean_of(value: Any) -> float | None:
    """A figure, or the mean of a summary."""
    if isinstance(value, dict):
        value = value.get("mean")
    return value if _number(value) else None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(record: Record) -> tuple[str, str]:
    """(group, label) of a record of `skipdit bench`, of a grid ("MODEL: METHOD"), or of another."""
    f = record.figures
    if "of_steps" in f:
        ways = " + ".join(way for way in (record.policy, f["passes"]) if way)
        group = f"{record.name.removeprefix('bench ')}, {f['sampler']}, {f['of_steps']} steps"
        return group, ways or f"{f['steps']} steps"
    model, _, method = record.name.partition(": ")
    if method:
        return model, record.policy or method.replace("fewer steps", f"{record.provenance.steps} steps")
    return "demo" if "over_skip" in f else record.name, record.policy or record.name

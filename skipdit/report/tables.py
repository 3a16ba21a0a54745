"""Tables as data, and as Markdown: one a group for what compares speed with nearness, one a kind for all the rest."""

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from skipdit.report.reading import Point, mean_of, points
from skipdit.results import Record

CHECKED = ("ssim", "lpips")
LONG = 30  # characters of a list or text that a cell shows


class Table(NamedTuple):
    """Rows below headings; the first column names, the others are right-aligned. `best` rows are on the front."""

    caption: str
    headings: list[str]
    rows: list[list[str]]
    best: list[bool]
    note: str


def tables(records: Sequence[Record]) -> list[Table]:
    """All records in tables; pictures and plans, which are drawn, are left out."""
    told = points(records)
    groups = dict.fromkeys(point.group for point in told)
    compared = [_compared(name, [point for point in told if point.group == name]) for name in groups]
    shown = {id(point.record) for point in told}
    rest = [r for r in records if id(r) not in shown and r.figures.get("kind") not in ("uncached", "plain")]
    alike: dict[tuple[str, ...], list[Record]] = {}
    for record in rest:
        alike.setdefault(tuple(record.figures), []).append(record)
    return compared + [table for table in map(_plain, alike.values()) if len(table.headings) > 1]


def front(told: Sequence[Point]) -> list[Point]:
    """Those that no other beats in both, slowest first."""
    best: list[Point] = []
    for point in sorted(told, key=lambda point: (-point.speedup, -point.psnr)):
        if not best or point.psnr > best[-1].psnr:
            best.append(point)
    return best[::-1]


def _compared(group: str, told: list[Point]) -> Table:
    ahead = any(_ahead(point) for point in told)
    checked = [name for name in CHECKED if any(mean_of(p.record.figures.get(name)) is not None for p in told)]
    plain = any(point.record.figures.get("over_plain") for point in told)
    headings = ["", "speed-up", *(["over plain"] if plain else []), "ideal", "PSNR, dB", *map(str.upper, checked)]
    headings += ["held", *(["over fewer steps, dB"] if ahead else [])]
    best, rows = front(told), sorted(told, key=lambda point: (point.speedup, point.psnr))
    lines = []
    for point in rows:
        f = point.record.figures
        cells = [short(point.label), _times(point.speedup, point.quartiles)]
        cells += [_times(f.get("over_plain"))] if plain else []
        cells += [_times(point.ideal), _spread(point.psnr, point.interval, ".1f")]
        cells += [_number(mean_of(f.get(name)), ".4f") for name in checked]
        cells += [f"{f['bytes_held'] / 1e6:.2f} MB" if f.get("bytes_held") else ""]
        lines.append(cells + ([_ahead(point)] if ahead else []))
    return Table(group, headings, lines, [point in best for point in rows], _note(rows[0].record))


def _plain(records: list[Record]) -> Table:
    """A column a figure that fits into one."""
    names = [name for name in records[0].figures if all(_fits(record.figures[name]) for record in records)]
    words = zip(*(record.name.split(" ") for record in records), strict=False)
    shared = " ".join(each[0] for each in takewhile(lambda each: len(set(each)) == 1, words))
    rows = [[_own(r, shared), *(_cell(r.figures[name]) for name in names)] for r in records]
    notes = dict.fromkeys(map(_note, records))
    return Table(
        shared.removesuffix(" of").rstrip(":,") or "Others", ["", *names], rows, [False] * len(rows), "\n\n".join(notes)
    )


def _own(record: Record, shared: str) -> str:
    """What names a record among those whose names begin alike."""
    parts = (record.name.removeprefix(shared).strip(), record.policy)
    return ", ".join(part for part in parts if part) or record.name


def markdown(table: Table) -> str:
    """A table as Markdown; what is on the front is bold."""
    rule = "|".join(["---", *["---:"] * (len(table.headings) - 1)])
    lines = [f"### {table.caption}", "", f"| {' | '.join(table.headings)} |", f"|{rule}|"]
    for row, best in zip(table.rows, table.best, strict=True):
        first = f"**{row[0]}**" if best else row[0]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in [first, *row[1:]])} |")
    return "\n".join([*lines, "", table.note]) + "\n"


def short(policy: str) -> str:
    """Long lists of numbers and the folders of paths cut: the whole stands in the records."""
    policy = re.sub(r"'[^']*/([^'/]*)'", r"'\1'", policy)
    return re.sub(r"(\((?:[\d.]+, ){3})(?:[\d.]+, ){5,}[\d.]+,?\)", r"\1...)", policy)


# ---- cells ----------------------------------------------------------------------------------------------------------


def _ahead(point: Point) -> str:
    rival = point.record.figures.get("fewer_steps")
    if not isinstance(rival, dict) or not rival.get("ahead"):
        return ""
    low, high = rival["ahead"]["ci95"]
    return f"{rival['ahead']['mean']:+.1f} ({low:+.1f} ... {high:+.1f}), {rival['steps']} steps"


def _times(value: float | None, quartiles: tuple[float, float] | None = None) -> str:
    return "" if value is None else _spread(value, quartiles, ".2f") + "x"


def _spread(value: float, interval: tuple[float, float] | None, form: str) -> str:
    if interval is None:
        return f"{value:{form}}"
    return f"{value:{form}} ({interval[0]:{form}} ... {interval[1]:{form}})"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _fits(value: Any) -> bool:
    return value is None or mean_of(value) is not None or (isinstance(value, str | bool) and len(str(value)) <= LONG)


def _cell(value: Any) -> str:
    number = mean_of(value)
    if number is None or isinstance(number, int):
        return "" if value is None else str(value)
    return f"{number:.3f}" if abs(number) < 100 else f"{number:,.0f}"


def _note(record: Record) -> str:
    where = record.provenance
    told = f"{where.machine}, threads: {where.threads}, torch {where.torch}, {where.dtype}, batch {where.batch}"
    return f"{told}, seed {where.seed}, {where.commit}; `{where.command}`"

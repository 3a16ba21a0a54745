"""docs/peers.md's tables, from docs/records/peers.jsonl: python docs/peers.py

python -m skipdit.bench peers --steps 20 --out docs/records/peers.jsonl    # measures; needs cache-dit
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pages import fill, markdown

from skipdit.bench.families import FAMILIES
from skipdit.results import Record, read

HERE = Path(__file__).parent
PAGE = HERE / "peers.md"
Figures = dict[str, Any]


def main() -> None:
    records = read(HERE / "records" / "peers.jsonl")
    alone, against, added = (_by_family(records, kind) for kind in ("alone", "against", "added"))
    tables = {
        "alone": _table(alone, _reached),
        "faster": _table(against, lambda f: _ratio(f["faster"])),
        "error": _table(against, lambda f: _ratio(f["error_over_theirs"])),
        "added": _table(added, _added),
    }
    fill(PAGE, tables)


def _by_family(records: list[Record], kind: str) -> dict[str, dict[str, Figures]]:
    """{what was measured: {family: figures}} of one kind of record."""
    found: dict[str, dict[str, Figures]] = {}
    for record in records:
        family, _, what = record.name.partition(": ")
        if _kind(what) == kind:
            found.setdefault(what.removeprefix("bookkeeping, "), {})[family] = record.figures
    return found


def _kind(what: str) -> str:
    if what.startswith("bookkeeping, "):
        return "added"
    return "against" if ", over " in what else "alone"


def _table(rows: dict[str, dict[str, Figures]], cell: Callable[[Figures], str]) -> str:
    told = ([what, *(cell(found[f]) if f in found else "" for f in FAMILIES)] for what, found in rows.items())
    return "\n".join(markdown(["", *FAMILIES], told)) + "\n"


def _reached(figures: Figures) -> str:
    note = figures["note"] or ""
    if figures["speedup"] is None:
        return "raises"
    if "skips nothing" in note:
        return "skips nothing"
    return f"{figures['speedup']:.2f} of {figures['ideal']:.2f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _added(figures: Figures) -> str:
    mine, theirs = figures["added_ms"], figures["their_added_ms"]
    return "" if mine is None or theirs is None else f"{mine:.2f} / {theirs:.2f}"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()

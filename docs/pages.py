"""Tables in pages: each stands between its marks, <!-- NAME --> and <!-- end -->."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from skipdit.aside import written_aside
from skipdit.results import Provenance, Record

Columns = Mapping[str, tuple[str, str]]  # heading: (figure, its form)


def fill(page: Path, tables: Mapping[str, str]) -> None:
    """Put every table between its marks; the rest of the page stays. Raises ValueError where a mark is missing."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.S)
        text, found = mark.subn(lambda m, table=table: m[1] + table + m[2], text)
        if not found:
            raise ValueError(f"{page} has no place for the table {name}: write <!-- {name} --> and <!-- end -->")
    with written_aside(page) as aside:
        aside.write_text(text, encoding="utf-8")


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table's lines in Markdown."""
    return [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


def rows(
    records: Iterable[Record], columns: Columns, name: Callable[[Record], str], short: Callable[[str], str] = str
) -> list[str]:
    """A table's lines: a record each, its name, its policy or steps, its figures."""
    found = []
    for record in records:
        setting = f"`{short(record.policy)}`" if record.policy else f"{record.provenance.steps} steps"
        found.append([name(record), setting, *cells(record.figures, columns)])
    return markdown(["", "setting", *columns], found)


def cells(figures: Mapping[str, Any], columns: Columns) -> list[str]:
    """The figures of a row; what could not be had stays empty."""
    return ["" if figures[key] is None else f"{figures[key]:{form}}" for key, form in columns.values()]


def machine(where: Provenance) -> str:
    """What it was measured on, in words."""
    return f"{where.machine}, torch {where.torch}, {where.threads} thread, {where.dtype}"

"""Records as a table for people, held against a goal."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from skipdit.results import Record


@dataclass(frozen=True)
class Goal:
    """What a figure should reach."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float | None) -> bool:
        """Whether it does; a figure that could not be had, or has no meaning in this row, is no failure."""
        if value is None:
            return True
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def verdict(self, records: Sequence[Record]) -> str:
        """A sentence on how many of the records reach it."""
        values = [r.figures[self.figure] for r in records if r.figures.get(self.figure) is not None]
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        wanted = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
        return f"goal: {self.figure} {wanted}: met by {sum(map(self.met, values))} of {len(values)}"


def show(console: Console, caption: str, records: Sequence[Record], goals: Sequence[Goal] = ()) -> None:
    """Print records: a table for those with the same figures, a row a record; the goals and the conditions beneath."""
    console.print(caption, style="bold", soft_wrap=True)
    for figures, alike in groupby(records, key=lambda record: tuple(record.figures)):
        _show_alike(console, figures, list(alike), [goal for goal in goals if goal.figure in figures])


def _show_alike(console: Console, figures: Sequence[str], records: Sequence[Record], goals: Sequence[Goal]) -> None:
    table = Table()
    table.add_column("", no_wrap=True)
    for name in figures:
        table.add_column(name, justify="right")
    for record in records:
        missed = [goal for goal in goals if not goal.met(record.figures[goal.figure])]
        cells = [_cell(value) for value in record.figures.values()]
        table.add_row(record.policy or record.name, *cells, style="red" if missed else None)
    console.print(table)
    for goal in goals:
        console.print(goal.verdict(records))
    where = records[0].provenance
    console.print(
        f"{where.machine}, {where.cores} cores, {where.threads} threads, torch {where.torch}, {where.dtype}, "
        f"{where.steps} steps, {where.commit}\n",
        style="dim",
        soft_wrap=True,
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"

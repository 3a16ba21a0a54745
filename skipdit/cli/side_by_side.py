"""Many policies at once, a line each: name, bar, figures; and the reasons of those that don't fit."""

from collections.abc import Sequence
from typing import Any

from skipdit.cli.bar import bar, folded
from skipdit.cli.terminal import out

FIGURES = 34  # columns that the figures take, with what lies between
NAMES = (20, 34)  # columns of the names, at least and at most


def show(rows: Sequence[dict[str, Any]], steps: int, sampler: str) -> None:
    """A line a policy, as rehearsals and skipdit.cli.planned tell it."""
    from rich.table import Table

    console = out()
    fitting, refused = [r for r in rows if "refused" not in r], [r for r in rows if "refused" in r]
    names, cell = widths(steps, console.width)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True, overflow="ellipsis", max_width=names, style="cyan")
    table.add_column(f"{steps} steps, {sampler}", no_wrap=True)
    for heading in ("share", "blocks", "ideal", "held"):
        table.add_column(heading, no_wrap=True, justify="right")
    for row in fitting:
        table.add_row(*_line(row, cell))
    console.print()
    console.print(table)
    console.print(_legend(cell, any(row.get("pictures") for row in fitting)))
    if not refused:
        return
    console.print("\n[bold]Not with their defaults[/]")
    reasons = Table.grid(padding=(0, 2))
    for row in refused:
        reasons.add_row(f"[cyan]{row['policy']}[/]", row["refused"].replace("[", r"\["))
    console.print(reasons)


def widths(steps: int, width: int) -> tuple[int, int]:
    """Columns for the names, and how many steps a cell of the bar stands for, so that a line fits."""
    names = max(NAMES[0], min(NAMES[1], width - FIGURES - steps))
    return names, -(-steps // max(10, width - FIGURES - names))


def _line(row: dict[str, Any], cell: int) -> tuple[str, ...]:
    from rich.markup import escape

    from skipdit.rehearse.rehearsal import brief

    name, report = escape(brief(row["policy"])), row.get("report")
    if row["plan"] is None:
        return name, "[dim]a gate: decides as it runs[/]"
    line = name, bar(folded(row["plan"], cell)), f"{row['share']:.0%}{'*' if row.get('pictures') else ' '}"
    if report is None:
        return (*line, f"{row['run']}/{row['of']}")
    blocks, ideal = f"{report['blocks_run']}/{report['blocks_in_full']}", report["ideal_speedup"]
    return (*line, blocks, f"[bold]{ideal:.2f}x[/]" if ideal else "?", _size(report["bytes_held"]))


def _size(held: int) -> str:
    return f"{held / 1e3:.0f} kB" if held < 1e6 else f"{held / 1e6:.1f} MB"


def _legend(cell: int, measured: bool) -> str:
    folding = f"a cell is {cell} steps; " if cell > 1 else ""
    gates = "\n* a gate, which decides by what it sees: measured on 1 picture" if measured else ""
    return (
        f"\n[dim]filled: computed; {folding}share: computed, of what a policy ever spares; blocks: run, of all; "
        f"ideal: speed-up by FLOPs; held: at most, an image{gates}[/]"
    )

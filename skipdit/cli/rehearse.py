"""What skipdit inspect tells of many policies at once: a line each, and the reasons of those that don't fit."""

from collections.abc import Sequence
from typing import Any

from skipdit.cli.bar import bar, folded
from skipdit.cli.terminal import out, progress

BESIDES = 66  # columns of a line that aren't its bar
NAME = 27


def told(model: Any, said: Sequence[Any], every: bool, steps: int, sampler: str | None, quiet: bool) -> list[Any]:
    """Rehearsals of the policies that were said, among those of every method or alone, with a bar for who waits."""
    from skipdit.rehearse.every import every_method, lined_up
    from skipdit.rehearse.rehearsal import rehearse

    coming = every_method(model, steps, sampler, said) if every else (rehearse(model, p, steps, sampler) for p in said)
    found = []
    with progress(quiet=quiet) as shown:
        task = shown.add_task("rehearsing", total=len(lined_up(said)) if every else len(said))
        for each in coming:
            found.append(each)
            shown.update(task, advance=1, description=each.policy.partition("(")[0])
    return found


def show(rows: Sequence[dict[str, Any]], steps: int, sampler: str) -> None:
    """A line a policy, as `as_dict` has them (or skipdit.cli.planned), then those that don't fit."""
    from rich.table import Table

    console = out()
    fitting, refused = [r for r in rows if "refused" not in r], [r for r in rows if "refused" in r]
    cell = cell_of(steps, console.width)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True, overflow="ellipsis", max_width=NAME, style="bold cyan")
    table.add_column(f"{steps} steps, {sampler}", no_wrap=True)
    for heading in ("computed", "blocks", "ideal", "held"):
        table.add_column(heading, no_wrap=True, justify="right")
    for row in fitting:
        table.add_row(*_line(row, cell))
    console.print()
    console.print(table)
    console.print(f"\n[dim]filled: computed, {f'a cell is {cell} steps; ' if cell > 1 else ''}computed: of what a "
                  "method ever spares; ideal: speed-up by FLOPs; held: an image[/]")  # fmt: skip
    if any(row.get("pictures") for row in fitting):
        console.print("[dim]* a gate, which decides by what it sees: measured on 1 picture[/]")
    if refused:
        console.print("\n[bold]Not with their defaults[/]")
    for row in refused:
        console.print(f"[cyan]{row['policy']}[/]  {row['refused']}", soft_wrap=True)


def cell_of(steps: int, width: int) -> int:
    """How many steps a cell of the bar stands for, so that a line fits."""
    return -(-steps // max(10, width - BESIDES))


def _line(row: dict[str, Any], cell: int) -> tuple[str, ...]:
    from rich.markup import escape

    from skipdit.rehearse.rehearsal import brief

    name = escape(brief(row["policy"]))
    if row["plan"] is None:
        return name, "[dim]a gate: it decides during the run[/]"
    report = row.get("report")
    line = (name, bar(folded(row["plan"], cell)), f"{row['share']:.0%}{' *' if row.get('pictures') else '  '}")
    if report is None:
        return (*line, f"{row['run']}/{row['of']}")
    ideal, held = report["ideal_speedup"], report["bytes_held"]
    return (
        *line,
        f"{report['blocks_run']}/{report['blocks_in_full']}",
        f"[bold]{ideal:.2f}x[/]" if ideal else "?",
        f"{held / 1e3:.0f} kB" if held < 1e7 else f"{held / 1e6:.0f} MB",
    )

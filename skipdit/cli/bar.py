"""A plan as a line of text: a cell a step."""

from collections.abc import Sequence


def bar(plan: Sequence[float]) -> str:
    """One cell a step: filled where all is computed, empty where all is stood in for, half where some is."""
    cells = {1.0: "[green]█[/]", 0.0: "[dim]░[/]"}
    return "".join(cells.get(share, "[yellow]▒[/]") for share in plan)


def scale(first: float, last: float, width: int) -> str:
    """The first and the last timestep below a bar that fits on a line."""
    start, end = f"t = {first:.0f} ", f"{last:.0f}"
    return f"[dim]{start}{end.rjust(width - len(start))}[/]" if width <= 100 else ""


def folded(plan: Sequence[float], cell: int) -> list[float]:
    """The mean of every `cell` steps."""
    cells = [plan[at : at + cell] for at in range(0, len(plan), cell)]
    return [sum(steps) / len(steps) for steps in cells]

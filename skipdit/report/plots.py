"""Plots of records: the front of speed-up and PSNR, and which steps each policy computes."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skipdit.aside import written_aside
from skipdit.probes import picture
from skipdit.report.reading import Point, points
from skipdit.report.tables import front, short
from skipdit.results import Record

INK, FAINT, RULE = "#181820", "#74767f", "#e2e3e8"
FEWER, COMPUTED, SPARED = "#181820", "#2f6f4f", "#e3e4de"
COLOURS = ("#b8562b", "#2f6f4f", "#3d6fa5", "#8a4f9e", "#a3812a", "#2a8c8c", "#b0436e", "#6b7030")
BARS = 40  # plans that fit on one picture


def plots(records: Sequence[Record], folder: Path) -> dict[str, Path]:
    """{caption: PNG} of all that the records tell. Raises ImportError without matplotlib, which
    `pip install skipdit[train]` brings."""
    drawn: dict[str, Path] = {}
    if told := points(records):
        drawn["Speed-up and nearness"] = _pareto(told, folder / "pareto.png")
    if planned := [record for record in records if any(_spares(record))]:
        drawn["Computed steps"] = _plans(planned[:BARS], folder / "plans.png")
    if picture.of_steps(records) or picture.of_runs(records):
        picture.draw(records, folder / "similarity.png")
        drawn["Similarity"] = folder / "similarity.png"
    return drawn


# ---- speed-up and PSNR ----------------------------------------------------------------------------------------------


def _pareto(told: Sequence[Point], path: Path) -> Path:
    """A panel a group: methods as points, fewer steps as a black line, and the front that none beats."""
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(point.group for point in told))
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(max(7.5, 5.6 * columns), 5.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, group in zip(panels, groups, strict=False):
        _panel(axes, group, [point for point in told if point.group == group])
    for axes in panels[len(groups) :]:
        axes.set_axis_off()
    return _saved(figure, path)


def _panel(axes: Any, group: str, told: Sequence[Point]) -> None:
    lines: dict[str, list[Point]] = defaultdict(list)
    for point in told:
        lines[point.series].append(point)
    others = [name for name in lines if name != "fewer steps"]
    best = front(told)
    axes.step(
        [p.speedup for p in best], [p.psnr for p in best], where="pre", color="#c9cad1", linewidth=6, alpha=0.45,
        solid_capstyle="round", zorder=1,
    )  # fmt: skip
    for name, line in lines.items():
        line.sort(key=lambda point: point.speedup)
        colour = FEWER if name == "fewer steps" else COLOURS[others.index(name) % len(COLOURS)]
        _series(axes, line, colour)
    axes.set_title(group, loc="left", fontsize=10.5, color=INK, weight="bold")
    axes.set_xlabel("measured speed-up over the uncached model", fontsize=8.5, color=FAINT)
    axes.set_ylabel("PSNR to the uncached pictures, dB", fontsize=8.5, color=FAINT)
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}x")
    axes.margins(x=0.14, y=0.1)
    axes.grid(color=RULE, linewidth=0.8)
    _quiet(axes)
    axes.text(0.99, 0.985, "grey: the front", transform=axes.transAxes, ha="right", va="top", fontsize=7.5, color=FAINT)


def _series(axes: Any, line: Sequence[Point], colour: str) -> None:
    """Points of one method, joined, with their intervals and labels."""
    xs, ys = [point.speedup for point in line], [point.psnr for point in line]
    fewer = line[0].fewer
    axes.plot(xs, ys, "s-" if fewer else "o-", color=colour, markersize=4 if fewer else 5.5, linewidth=1.1, zorder=3)
    for point in line:
        sides = [[[abs(x - side)] for side in pair] if pair else None for x, pair in _pairs(point)]
        axes.errorbar(point.speedup, point.psnr, xerr=sides[0], yerr=sides[1], color=colour, linewidth=0.7, alpha=0.5)
        axes.annotate(
            short(point.label)[:40], (point.speedup, point.psnr), xytext=(6, -9 if fewer else 5),
            textcoords="offset points", fontsize=7, color=colour, zorder=4,
        )  # fmt: skip


def _pairs(point: Point) -> tuple[tuple[float, tuple[float, float] | None], ...]:
    return (point.speedup, point.quartiles), (point.psnr, point.interval)


# ---- computed steps -------------------------------------------------------------------------------------------------


def _plans(records: Sequence[Record], path: Path) -> Path:
    """A bar a record, a cell a step: dark where all is computed, light where all is stood in for."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    shades = LinearSegmentedColormap.from_list("computed", [SPARED, COMPUTED])
    figure = Figure(figsize=(10, 0.55 + 0.36 * len(records)), layout="constrained")
    axes = figure.subplots()
    longest = max(len(record.figures["plan"]) for record in records)
    for row, record in enumerate(records):
        plan = record.figures["plan"]
        edges = [longest * step / len(plan) for step in range(len(plan) + 1)]  # fewer steps are longer ones
        axes.pcolormesh(
            edges, [row + 0.14, row + 0.86], [plan], cmap=shades, vmin=0, vmax=1, edgecolors="white", linewidth=0.5
        )
        share = f"{sum(plan) / len(plan):.0%} of {len(plan)}"
        axes.text(longest * 1.01, row + 0.5, share, va="center", fontsize=8, color=FAINT)
    axes.set_yticks([row + 0.5 for row in range(len(records))], [_titled(record) for record in records])
    axes.set(xlim=(0, longest), ylim=(len(records), 0), xticks=[])
    axes.set_title("computed steps (dark), from noise to picture", loc="left", fontsize=10, color=INK)
    _quiet(axes)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=INK)
    return _saved(figure, path)


def _titled(record: Record) -> str:
    passes = record.figures.get("passes")
    model = record.name.removeprefix("bench ")
    return f"{model}: {short(record.policy)[:48]}{f' + {passes}' if passes else ''}"


def _spares(record: Record) -> list[bool]:
    """Step by step, of a plan that is drawn: one record a policy."""
    plan = record.figures.get("plan")
    return [share < 1 for share in plan] if isinstance(plan, list) else []


def _quiet(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(labelsize=8, labelcolor=FAINT, color=RULE)
    axes.set_axisbelow(True)


def _saved(figure: Any, path: Path) -> Path:
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=130, pil_kwargs={"optimize": True})
    return path

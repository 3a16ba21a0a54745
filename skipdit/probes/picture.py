"""Similarity as a picture, from records alone: how far each block moves at each step, how far cached runs drift."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from skipdit.aside import written_aside
from skipdit.results import Record

INK, FAINT, RULE = "#181820", "#74767f", "#e2e3e8"
LINES = ("#b8562b", "#2f6f4f", "#3d6fa5", "#8a4f9e", "#a3812a")  # one a model
DASHES = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))  # one a policy
FLOOR = 1e-7  # 1 - similarity: below, float32 knows nothing


def of_steps(records: Sequence[Record]) -> list[Record]:
    """The records of features from step to step."""
    return [record for record in records if "similar_steps" in record.figures]


def of_runs(records: Sequence[Record]) -> list[Record]:
    """The records of cached runs held against uncached ones."""
    return [record for record in records if "similar_to_uncached" in record.figures]


def draw(records: Sequence[Record], path: Path, title: str = "Similarity from step to step") -> None:
    """Write a PNG. Raises ValueError where no record tells of similarity, ImportError without matplotlib, which
    `pip install skipdit[train]` brings."""
    steps, runs = of_steps(records), of_runs(records)
    if not steps and not runs:
        raise ValueError("no record tells of similarity: skipdit probe makes such")
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(model_of(record) for record in [*steps, *runs]))
    colours = {name: LINES[place % len(LINES)] for place, name in enumerate(names)}
    figure = Figure(figsize=(max(9.5, 4.8 * len(steps)), 7.4 if steps else 4.2), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1, 1.12]) if steps else (None, figure)
    top, bottom = halves
    if steps:
        _maps(top, steps)
    panels = [(_profiles, steps), (_drifts, runs)]
    wanted = [(panel, told) for panel, told in panels if told]
    axes = bottom.subplots(
        1, len(wanted), squeeze=False, width_ratios=[1 if panel is _profiles else 1.6 for panel, _ in wanted]
    )[0]
    for place, (panel, told) in zip(axes, wanted, strict=True):
        panel(place, told, colours)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, weight="bold", color=INK)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=130, pil_kwargs={"optimize": True})


def model_of(record: Record) -> str:
    """ "similarity of emoji-skip" -> "emoji-skip"."""
    return record.name.removeprefix("similarity of ")


def moved(record: Record) -> list[list[float]]:
    """[block][step - 1]: 1 - similarity."""
    return [[max(FLOOR, 1 - value) for value in row] for row in record.figures["similar_steps"]]


# ---- the panels -----------------------------------------------------------------------------------------------------


def _maps(figure: Any, records: Sequence[Record]) -> None:
    """Blocks upwards, steps to the right; one scale for all."""
    from matplotlib.colors import LogNorm

    maps = [moved(record) for record in records]
    values = sorted(value for each in maps for row in each for value in row)
    norm = LogNorm(values[len(values) // 100], values[-1 - len(values) // 100])
    panels = figure.subplots(1, len(records), squeeze=False)[0]
    for axes, record, rows in zip(panels, records, maps, strict=True):
        steps = [step + 0.5 for step in range(len(rows[0]) + 1)]  # the edges of the cells 1, 2, ...
        mesh = axes.pcolormesh(steps, range(len(rows) + 1), rows, norm=norm, cmap="magma_r", rasterized=True)
        _plain(axes, model_of(record), _times(record))
        axes.set_yticks([0.5, len(rows) - 0.5], ["block 0", str(len(rows) - 1)])
        axes.tick_params(length=0)
    bar = figure.colorbar(mesh, ax=panels, pad=0.015, fraction=0.03, extend="both")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, labelcolor=FAINT, length=2, color=FAINT)
    bar.set_label("1 - cosine similarity\nto the step before", fontsize=8, color=FAINT)


def _profiles(axes: Any, records: Sequence[Record], colours: dict[str, str]) -> None:
    """Block by block, the median over the steps."""
    for record in records:
        name = model_of(record)
        medians = [1e4 * median(row) for row in moved(record)]
        axes.plot(medians, range(len(medians)), "o-", color=colours[name], markersize=4.5, linewidth=1.6, label=name)
    _plain(axes, "Each block, median of the steps", "1 - cosine similarity to the step before, in 1/10,000")
    axes.set_xlim(left=0)
    axes.set_ylabel("block", fontsize=8.5, color=FAINT)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right")


def _drifts(axes: Any, records: Sequence[Record], colours: dict[str, str]) -> None:
    """Step by step: where something was stood in for, the mean over the images in a band from the least to the most
    alike; thinner, where all was computed."""
    policies = list(dict.fromkeys(record.policy for record in records))
    for record in records:
        curves = {k: [max(FLOOR, 1 - v) for v in values] for k, values in record.figures["similar_to_uncached"].items()}
        line = dict(color=colours[model_of(record)], linestyle=DASHES[policies.index(record.policy) % len(DASHES)])
        bits = record.figures["computed"]
        stood_in, computed = ([step for step, bit in enumerate(bits) if bit == kind] for kind in "01")
        axes.plot(computed, [curves["mean"][step] for step in computed], **line, linewidth=0.7, alpha=0.55)
        mean, low, high = ([curves[name][step] for step in stood_in] for name in ("mean", "low", "high"))
        axes.plot(stood_in, mean, **line, linewidth=1.7, label=f"{model_of(record)}, {record.policy[:44]}")
        axes.fill_between(stood_in, low, high, color=line["color"], alpha=0.1, linewidth=0)
    _plain(axes, "Cached runs: output against the uncached run's", _times(records[0]))
    axes.set_yscale("log")
    axes.set_ylim(3 * FLOOR, 12 * axes.dataLim.y1)  # room for the legend
    axes.invert_yaxis()  # alike is up, as in the paper
    axes.text(
        0.99, 0.97, "thin: the steps computed", transform=axes.transAxes, ha="right", va="top", fontsize=8, color=FAINT
    )
    axes.set_ylabel("1 - cosine similarity", fontsize=8.5, color=FAINT)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower left", ncols=2)


def _plain(axes: Any, title: str, below: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_xlabel(below, fontsize=8.5, color=FAINT)
    axes.tick_params(labelsize=8, labelcolor=FAINT, color=RULE, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.set_axisbelow(True)


def _times(record: Record) -> str:
    times = record.figures["times"]
    return f"step (t from {times[0]:g} to {times[-1]:g})" if None not in times else "step"

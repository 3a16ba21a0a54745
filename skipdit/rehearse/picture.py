"""Rehearsals as a picture: a panel a policy, steps to the right, blocks or their parts upwards."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skipdit.aside import written_aside
from skipdit.rehearse.every import Refused
from skipdit.rehearse.rehearsal import Rehearsal, brief

COMPUTED, OTHER = "#2f6f4f", "#d5c6e6"
STAND_INS = {"held": "#e3e4de", "residual": "#f3d9a4", "forecast": "#b9d3ea"}  # light, beside the computed
INK, FAINT = "#181820", "#74767f"
HEAD, HIGH, GAP, LINE = 1.05, 1.2, 0.78, 0.17  # inches: above the panels, of one, between two, of a line of text
MEANING = {
    "held": "held: the last output, as it was",
    "residual": "residual: the fresh input plus the last change",
    "forecast": "forecast from the last outputs",
}


def draw(told: Sequence[Rehearsal | Refused], path: Path, title: str) -> None:
    """Write a PNG. Raises ImportError without matplotlib, which `pip install skipdit[train]` brings."""
    from matplotlib.figure import Figure

    shown = [each for each in told if isinstance(each, Rehearsal)]
    columns = min(4, max(1, len(shown)))
    rows = -(-len(shown) // columns) or 1
    width = 3.6 * max(2, columns)  # inches, as all here
    below = _reasons([each for each in told if isinstance(each, Refused)], 44 * max(2, columns))
    foot = LINE * (len(below) + 1) if below else 0
    height = HEAD + HIGH * rows + GAP * (rows - 1) + 0.3 + foot
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(
        left=0.45 / width, right=1 - 0.3 / width, top=1 - HEAD / height, bottom=(0.3 + foot) / height,
        wspace=0.16, hspace=GAP / HIGH,
    )  # fmt: skip
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, each in zip(panels, shown, strict=False):
        _panel(axes, each)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    _legend(figure, shown, title, 1 - 0.08 / height)
    for line, text in enumerate(reversed(below)):
        figure.text(0.45 / width, (0.1 + LINE * line) / height, text, fontsize=7, color=FAINT)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=110, pil_kwargs={"optimize": True})


def _panel(axes: Any, told: Rehearsal) -> None:
    """One cell a step and row, below its title."""
    from matplotlib.colors import ListedColormap

    steps, blocks = len(told.times), told.rows[-1][0] + 1
    height = blocks / len(told.rows)  # of a row, where a block is 1 high
    coarse = steps <= 100 and len(told.rows) <= 32  # or else lines between the cells would be all there is
    axes.pcolormesh(
        range(steps + 1), [height * row for row in range(len(told.rows) + 1)], told.computed, vmin=0, vmax=1,
        cmap=ListedColormap([STAND_INS.get(told.stand_in, OTHER), COMPUTED]),
        edgecolors="white" if coarse else "none", linewidth=0.35,
    )  # fmt: skip
    if height < 1 and coarse:
        axes.hlines(range(1, blocks), 0, steps, color="white", linewidth=1.6)
        for row, (block, part) in enumerate(told.rows):
            if block == blocks - 1:
                axes.text(steps * 1.01, height * (row + 0.5), part, fontsize=5.5, color=FAINT, va="center")
    axes.set(xlim=(0, steps), ylim=(0, blocks))
    axes.set_yticks([0.5, blocks - 0.5], ["0", str(blocks - 1)])
    axes.set_xticks([0.5, steps - 0.5], ["step 0", str(steps - 1)])
    parts = "" if height == 1 or coarse else f" ({', '.join(part for block, part in told.rows if not block)})"
    axes.set_ylabel(f"block{parts}", fontsize=6.5, color=FAINT, labelpad=-3)
    axes.tick_params(length=0, labelsize=6.5, labelcolor=FAINT, pad=2)
    axes.spines[:].set_visible(False)
    axes.text(0, 1.17, _cut(brief(told.policy), 46), transform=axes.transAxes, fontsize=8.5, color=INK, weight="bold")
    axes.text(0, 1.045, _figures(told), transform=axes.transAxes, fontsize=7, color=FAINT)


def _figures(told: Rehearsal) -> str:
    """The line below a panel's name."""
    ideal = told.report.ideal_speedup
    speed = f"{ideal:.2f}x ideal" if ideal else "FLOPs not countable"
    seen = f"  ·  measured on {told.pictures} picture" if told.pictures else ""
    return f"{speed}  ·  {told.share:.0%} computed{seen}"


def _legend(figure: Any, shown: Sequence[Rehearsal], title: str, top: float) -> None:
    from matplotlib.patches import Patch

    kinds = sorted({each.stand_in for each in shown}, key=lambda kind: [*STAND_INS, kind].index(kind))
    patches = [Patch(color=COMPUTED, label="computed")]
    patches += [Patch(color=STAND_INS.get(kind, OTHER), label=MEANING.get(kind, kind)) for kind in kinds]
    width, height = figure.get_size_inches()
    left = 0.45 / width
    figure.text(left, top - 0.12 / height, title, fontsize=12, color=INK, weight="bold", va="top")
    figure.legend(
        handles=patches, loc="upper left", bbox_to_anchor=(left, top - 0.36 / height), ncols=len(patches),
        frameon=False, fontsize=7.5, borderaxespad=0, borderpad=0, handlelength=1.2, handleheight=0.9,
        columnspacing=1.8, labelcolor=INK,
    )  # fmt: skip


def _reasons(refused: Sequence[Refused], width: int) -> list[str]:
    """What doesn't fit, a line each."""
    if not refused:
        return []
    return ["Not with their defaults:", *(_cut(f"{each.policy}: {each.reason}", width) for each in refused)]


def _cut(text: str, width: int) -> str:
    return textwrap.shorten(text, width, placeholder=" ...") if " " in text else text[:width]

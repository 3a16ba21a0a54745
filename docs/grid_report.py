"""Of the pictures in out/grid: docs/records/grid.jsonl, docs/grid.md's tables and docs/grid.png.

The records and the table of a model that has no pictures here stay as they are.
"""

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import matplotlib
from pages import fill, markdown
from safetensors import safe_open

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from skipdit.metrics.psnr import psnr
from skipdit.metrics.ssim import ssim
from skipdit.plan.evidence import interval, summary
from skipdit.plan.study import MOST
from skipdit.results import Provenance, Record, read, write

HERE, OUT = Path(__file__).parent, Path("out/grid")
RECORDS, PAGE, PICTURE = HERE / "records" / "grid.jsonl", HERE / "grid.md", HERE / "grid.png"
MODELS, BUDGETS = ("emoji-skip", "emoji-plain"), (1.5, 2.0, 3.0)
REACHED = 0.97  # of a budget, measured: what was chosen on 8 pictures may come out a little slower on 256


@dataclass
class Cell:
    """One setting on one model; a value a pair."""

    name: str
    policy: str
    steps: int
    speedup: float  # median over batches
    spread: tuple[float, float]  # its quartiles
    ideal: float
    psnr: list[float]
    ssim: list[float]
    provenance: Provenance

    def over(self, rival: "Cell") -> list[float]:
        """dB ahead of another, pair by pair, on the pairs that both have."""
        return [a - b for a, b in zip(self.psnr, rival.psnr, strict=False)]


def main() -> None:
    grids = {model: cells_of(OUT / model) for model in MODELS if (OUT / model / "uncached").exists()}
    if not grids:
        raise SystemExit(f"{OUT} holds no pictures: python docs/grid.py draw {MODELS[0]}")
    made = {model: [record(model, cell) for cell in cells] for model, cells in grids.items()}
    for known in read(RECORDS) if RECORDS.exists() else ():  # a model that was drawn elsewhere keeps what it has
        if (model := model_of(known)) not in grids:
            made.setdefault(model, []).append(known)
    _refuse_fewer(made)
    records = [one for model in MODELS for one in made.get(model, [])]
    write(RECORDS, records)
    draw(records)
    fill(PAGE, {model: table(cells) for model, cells in grids.items()})


def _refuse_fewer(made: dict[str, list[Record]]) -> None:
    """What is published is not lost to a drawing that isn't finished."""
    pairs = {_key(one): one.figures["psnr"]["pictures"] for records in made.values() for one in records}
    for known in read(RECORDS) if RECORDS.exists() else ():
        here, there = pairs.get(_key(known), 0), known.figures["psnr"]["pictures"]
        if here < there:
            what = f"{known.name} {known.policy}, {known.provenance.steps} steps"
            raise SystemExit(
                f"{what}: {here} pairs in {OUT}, {there} in {RECORDS}: draw them, or delete its line there"
            )


def _key(record: Record) -> tuple[str, str, int]:
    return record.name, record.policy, record.provenance.steps


def model_of(record: Record) -> str:
    return record.name.partition(": ")[0]


# ---- read -----------------------------------------------------------------------------------------------------------


def cells_of(folder: Path) -> list[Cell]:
    full = {path.name: read_drawn(path) for path in sorted((folder / "uncached").glob("[0-9][0-9][0-9].safetensors"))}
    cells = []
    for cell in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "uncached"):
        drawn = {p.name: read_drawn(p) for p in sorted(cell.glob("[0-9][0-9][0-9].safetensors")) if p.name in full}
        if drawn:
            cells.append(_cell(drawn, full))
    return cells


def read_drawn(path: Path) -> tuple[Any, dict[str, Any]]:
    """(pictures, what is said of them) of one file."""
    with safe_open(path, "pt") as file:
        return file.get_tensor("images"), json.loads(file.metadata()["cell"])


def _cell(drawn: dict[str, Any], full: dict[str, Any]) -> Cell:
    pairs = [(full[name], one) for name, one in drawn.items()]
    ratios = sorted(a["seconds"] / b["seconds"] for (_, a), (_, b) in pairs)
    said = pairs[0][1][1]
    decibels = [min(MOST, v) for (x, _), (y, _) in pairs for v in psnr(y, x).tolist()]
    similar = [v for (x, _), (y, _) in pairs for v in ssim(y, x).tolist()]
    spread = (ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4])
    ideal = fmean(b["ideal"] for _, (_, b) in pairs)
    return Cell(
        said["name"], said["policy"], said["steps"], median(ratios), spread, ideal, decibels, similar,
        Provenance(**said["provenance"]),
    )  # fmt: skip


def record(model: str, cell: Cell) -> Record:
    figures = {
        "speedup": cell.speedup,
        "speedup_quartiles": list(cell.spread),
        "ideal_speedup": cell.ideal,
        "psnr": summary(cell.psnr),
        "ssim": summary(cell.ssim),
    }
    return Record(f"{model}: {cell.name}", cell.policy, figures, cell.provenance)


# ---- table ----------------------------------------------------------------------------------------------------------


def rows(cells: list[Cell], budget: float) -> list[Cell]:
    """The best setting of each method that reached the budget, best first."""
    best: dict[str, Cell] = {}
    for cell in cells:
        if cell.speedup >= REACHED * budget and (
            cell.name not in best or fmean(cell.psnr) > fmean(best[cell.name].psnr)
        ):
            best[cell.name] = cell
    return sorted(best.values(), key=lambda cell: -fmean(cell.psnr))


def fewer_in_the_same_time(cells: list[Cell], cell: Cell) -> Cell | None:
    """DDIM with fewer steps, given at least as much time: the most steps that are drawn in no less."""
    rivals = [c for c in cells if c.name == "ddim, fewer steps" and c.speedup <= cell.speedup * 1.01]
    return min(rivals, key=lambda c: c.steps, default=None)


HEADINGS = ["", "setting", "pairs", "measured", "ideal", "PSNR, dB", "SSIM", "over fewer steps, dB"]


def table(cells: list[Cell]) -> str:
    lines = []
    for budget in BUDGETS:
        found = [_row(cell, fewer_in_the_same_time(cells, cell)) for cell in rows(cells, budget)]
        lines += [f"\n**{budget:g} times**\n", *markdown(HEADINGS, found)]
        there = {cell.name for cell in rows(cells, budget)}
        absent = sorted({cell.name for cell in cells} - there)
        lines += [f"\nDid not reach it: {', '.join(absent)}."] if absent else []
    return "\n".join(lines) + "\n"


def _row(cell: Cell, rival: Cell | None) -> list[str]:
    low, high = interval(cell.psnr)
    name = f"**{cell.name}**" if cell.name == "tuned plan" else cell.name
    setting = f"{cell.steps} steps" if "steps" in cell.name else f"`{_short(cell.policy)}`"
    ahead = ""
    if rival is not None and rival is not cell:
        gaps = cell.over(rival)
        a, b = interval(gaps)
        ahead = f"{fmean(gaps):+.1f} ({a:+.1f} … {b:+.1f}), {rival.steps} steps"
    near = f"{fmean(cell.psnr):.1f} ({low:.1f} … {high:.1f})"
    speed = [f"{cell.speedup:.2f}x", f"{cell.ideal:.2f}x"]
    return [name, setting, f"{len(cell.psnr)}", *speed, near, f"{fmean(cell.ssim):.4f}", ahead]


def _short(policy: str) -> str:
    """Long lists of numbers and paths cut: the whole stands in the records."""
    policy = re.sub(r"'[^']*/([^'/]*)'", r"'\1'", policy)
    return re.sub(
        r"('[01]{8})[01]{8,}'|(\((?:[\d.]+, ){3})(?:[\d.]+, ){8,}[\d.]+\)", lambda m: f"{m[1] or m[2]}…", policy
    )


# ---- plot -----------------------------------------------------------------------------------------------------------

GROUPS = {
    "ours": ("tuned plan", "skip_forecast", "skip_correction", "skip_plan"),
    "Skip-Cache": ("skip_cache",),
    "fewer steps": ("ddim, fewer steps", "dpm++, fewer steps"),
}
COLOURS = {"ours": "tab:red", "Skip-Cache": "tab:orange", "fewer steps": "black", "other methods": "tab:blue"}


def draw(records: list[Record]) -> None:
    """A panel a model."""
    lines: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for one in records:
        lines[model_of(one)][one.name.partition(": ")[2]].append(one)
    figure, panels = plt.subplots(1, len(lines), figsize=(7.5 * len(lines), 7), layout="constrained", squeeze=False)
    for axes, (model, methods) in zip(panels[0], lines.items(), strict=True):
        for name, line in methods.items():
            _line(axes, name, sorted(line, key=lambda one: one.figures["speedup"]))
        counts = sorted({one.figures["psnr"]["pictures"] for line in methods.values() for one in line})
        axes.set_title(f"{model}, {counts[0] if len(counts) == 1 else f'{counts[0]} to {counts[-1]}'} pairs")
        axes.set(xlabel="measured speed-up", ylabel="PSNR to the uncached picture, dB")
        axes.set_xscale("log", base=2)
        axes.set_xticks([1.5, 2, 3, 4], ["1.5x", "2x", "3x", "4x"])
        axes.grid(alpha=0.3)
    figure.savefig(PICTURE, dpi=110)


def _line(axes: Any, name: str, line: list[Record]) -> None:
    group = next((group for group, names in GROUPS.items() if name in names), "other methods")
    bold = name in ("tuned plan", "ddim, fewer steps")
    xs, ys = [one.figures["speedup"] for one in line], [one.figures["psnr"]["mean"] for one in line]
    axes.plot(xs, ys, ".-", color=COLOURS[group], linewidth=2.2 if bold else 1, alpha=1 if bold else 0.6, markersize=9)
    axes.annotate(name, (xs[-1], ys[-1]), xytext=(5, 0), textcoords="offset points", fontsize=8, color=COLOURS[group])

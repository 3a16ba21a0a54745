"""Draw the loss curves of the shipped twins on the same axes, and say which learnt faster.

    python docs/twins.py thin 1=runs/plain,runs/skip 2=runs/plain-core,runs/skip-core    # after training
    python docs/twins.py draw                                                            # docs/twins.png and figures

The first form averages the runs' metrics.jsonl into docs/records/twins.jsonl.
"""

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
RECORDS, PICTURE = HERE / "records" / "twins.jsonl", HERE / "twins.png"
CELL = 50  # steps averaged into one record


def thin(stages: list[str]) -> None:
    """Average losses over cells of 50 steps; both twins saw the same images, noise and timesteps at every step."""
    with RECORDS.open("w") as out:
        for stage, runs in (spec.split("=") for spec in stages):
            lines = [[json.loads(line) for line in (Path(run) / "metrics.jsonl").open()] for run in runs.split(",")]
            steps = min(map(len, lines))
            a, b = (np.array([line["loss"] for line in run[:steps]]) for run in lines)
            for start in range(0, steps - CELL + 1, CELL):
                cell = slice(start, start + CELL)
                figures = {"plain": a[cell].mean(), "skip": b[cell].mean()}
                rounded = {name: round(float(value), 6) for name, value in figures.items()}
                out.write(json.dumps({"stage": int(stage), "step": start + CELL, **rounded}) + "\n")


def draw() -> None:
    rows = [json.loads(line) for line in RECORDS.open()]
    first = max((row["step"] for row in rows if row["stage"] == 1), default=0)
    step = np.array([row["step"] + (first if row["stage"] == 2 else 0) for row in rows])
    plain, skip = (np.array([row[name] for row in rows]) for name in ("plain", "skip"))
    gap = 100 * (skip - plain) / plain
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, height_ratios=[2, 1], layout="constrained")
    top.semilogy(step, plain, label="plain DiT", color="tab:blue")
    top.semilogy(step, skip, label="Skip-DiT", color="tab:orange")
    top.set(ylabel="training loss (v, mean of 50 steps)", title="The emoji twins: same recipe, seed, images and noise")
    bottom.plot(step, gap, color="tab:red")
    bottom.axhline(0, color="black", linewidth=0.8)
    bottom.set(xlabel="optimizer step", ylabel="Skip-DiT minus plain, %")
    for axes in (top, bottom):
        axes.grid(True, which="both", alpha=0.3)
        axes.axvline(first, color="gray", linestyle="--", label="stage 2: the core concepts")
    top.legend()
    figure.savefig(PICTURE, dpi=120)
    for stage in sorted({row["stage"] for row in rows}):
        inside = np.array([row["stage"] == stage for row in rows])
        for name, part in (("first", gap[inside][: inside.sum() // 3]), ("last", gap[inside][-inside.sum() // 3 :])):
            error = 1.96 * part.std(ddof=1) / np.sqrt(len(part))
            print(f"stage {stage}, {name} third: Skip-DiT is {part.mean():+.2f} +- {error:.2f} % off the plain loss")


if __name__ == "__main__":
    if sys.argv[1:2] == ["thin"]:
        thin(sys.argv[2:])
    elif sys.argv[1:2] == ["draw"]:
        draw()
    else:
        sys.exit(__doc__)

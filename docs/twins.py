"""Draw the loss curves of the shipped twins on the same axes, and say which learnt faster.

python docs/twins.py thin runs/plain runs/skip      # once, after training: writes docs/records/twins.jsonl
python docs/twins.py draw                           # docs/twins.png and the figures for docs/models.md
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


def thin(plain: Path, skip: Path) -> None:
    """Average both runs' losses over cells of 50 steps; both saw the same images, noise and timesteps at every step."""
    losses = [[json.loads(line)["loss"] for line in (run / "metrics.jsonl").open()] for run in (plain, skip)]
    steps = min(map(len, losses))
    a, b = (np.array(values[:steps]) for values in losses)
    with RECORDS.open("w") as out:
        for start in range(0, steps - CELL + 1, CELL):
            cell = slice(start, start + CELL)
            record = {
                "step": start + CELL,
                "plain": a[cell].mean(),
                "skip": b[cell].mean(),
                "skip_minus_plain": (b - a)[cell].mean(),
            }
            out.write(json.dumps({k: round(float(v), 6) for k, v in record.items()}) + "\n")


def draw() -> None:
    rows = [json.loads(line) for line in RECORDS.open()]
    step, plain, skip, gap = (
        np.array([row[key] for row in rows]) for key in ("step", "plain", "skip", "skip_minus_plain")
    )
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, height_ratios=[2, 1], layout="constrained")
    top.semilogy(step, plain, label="plain DiT", color="tab:blue")
    top.semilogy(step, skip, label="Skip-DiT", color="tab:orange")
    top.set(ylabel="training loss (v, mean of 50 steps)", title="The emoji twins: same recipe, seed, images and noise")
    top.grid(True, which="both", alpha=0.3)
    top.legend()
    bottom.plot(step, 100 * gap / plain, color="tab:red")
    bottom.axhline(0, color="black", linewidth=0.8)
    bottom.set(xlabel="optimizer step", ylabel="Skip-DiT minus plain, %")
    bottom.grid(True, alpha=0.3)
    figure.savefig(PICTURE, dpi=120)
    for part, name in ((slice(0, len(rows) // 4), "first quarter"), (slice(-len(rows) // 4, None), "last quarter")):
        relative = 100 * gap[part] / plain[part]
        error = 1.96 * relative.std(ddof=1) / np.sqrt(len(relative))
        print(f"{name}: Skip-DiT's loss is {relative.mean():+.2f} % +- {error:.2f} of the plain DiT's")
    reached = [int(step[np.argmax(skip <= value)]) for value in (plain[-1:].mean(),) if (skip <= value).any()]
    print(
        f"plain ends at {plain[-1]:.4f} after {step[-1]} steps; Skip-DiT first gets there at step {reached or 'never'}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["thin"]:
        thin(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1:2] == ["draw"]:
        draw()
    else:
        sys.exit(__doc__)

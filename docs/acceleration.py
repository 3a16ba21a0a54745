"""Do skip branches speed training up? FID against training steps and seconds, the twins from scratch, two seeds.

    skipdit data emoji
    skipdit weights fetch inception efficientnet
    python docs/acceleration.py run data/emoji    # runs/acceleration, and a record a checkpoint; goes on where it was
    python docs/acceleration.py report            # docs/acceleration.png, and the table in docs/training.md

The plain DiT and the Skip-DiT of a seed see the same images, noise and timesteps at every step. They take turns from
mark to mark, so that both know the same machine; the learning rate warms up and then stays, so that no mark is nearer
to an end than another. What is judged is the averaged model.
"""

import argparse
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
import torch
from kept import by_efficientnet, by_inception
from pages import fill, machine, markdown
from torch import Tensor
from trained import DTYPES, told, trained

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from skipdit.backbones.dit import DiT
from skipdit.data.images import ImageSet, read_images
from skipdit.evaluate.generate import Drawing, generate
from skipdit.evaluate.images import Images, of_data, open_images
from skipdit.evaluate.scores import pooled, scores_of_concepts, seen
from skipdit.metrics.fid import fid
from skipdit.metrics.kid import kid
from skipdit.metrics.precision_recall import precision_recall
from skipdit.networks.inception import Seen
from skipdit.results import Provenance, Record, append, resumed

HERE, RUNS, OUT = Path(__file__).parent, Path("runs/acceleration"), Path("out/acceleration")
RECORDS, PAGE, PICTURE = HERE / "records" / "acceleration.jsonl", HERE / "training.md", HERE / "acceleration.png"
LABELS = HERE / "records" / "core_labels.txt"
KINDS = {"plain": "none", "skip": "replace"}  # kind: its --skips
SEEDS, MARKS = (0, 1), (200, 400, 800, 1200, 1600, 2400)
IMAGES, STEPS, GUIDANCE, BATCH, DRAWN = 256, 20, 2.0, 64, 7  # drawn at each mark; DRAWN is the seed of that
PREFIX = "acceleration: "


def run(folder: Path, marks: Sequence[int], precision: str) -> None:
    """Train to each mark and judge there: all four runs reach a mark before one goes on to the next."""
    against = references(folder)
    dtype = DTYPES[precision]
    done = {(r.name, r.figures["step"], r.provenance.dtype) for r in resumed(RECORDS)}
    for mark, seed, kind in ((m, s, k) for m in marks for s in SEEDS for k in KINDS):
        name = f"{PREFIX}{kind}, seed {seed}"
        if (name, mark, dtype) in done:
            continue
        print(f"{name}: to step {mark}", flush=True)
        words = ["--data", folder, "--labels", LABELS, "--skips", KINDS[kind], "--seed", seed, "--precision", precision]
        at = trained(RUNS / precision / f"{kind}-{seed}", mark, words)
        figures = {"kind": kind, "step": mark, **told(at.parent, mark, BATCH), **judged(at, against)}
        where = Provenance.here(dtype, BATCH, STEPS, seed)
        append(RECORDS, [Record(name, "", figures, where)])


@dataclass(frozen=True)
class References:
    """The pictures that were trained on, and what networks see in them."""

    data: ImageSet
    pictures: Images
    real: Seen
    features: Tensor  # (N, 1280)


def references(folder: Path) -> References:
    data = read_images(folder).resized(32).only(LABELS.read_text(encoding="utf-8").splitlines()).split()[0]
    pictures = of_data(folder, data)
    kept = (by_inception(OUT / "real.safetensors", pictures), by_efficientnet(OUT / "features.safetensors", pictures))
    return References(data, pictures, *kept)


def judged(at: Path, against: References) -> dict[str, float]:
    """What the averaged model of a checkpoint draws, held against the pictures that it was trained on."""
    model, out = DiT.from_pretrained(at / "ema").eval(), OUT / at.parent.name / at.name
    shutil.rmtree(out, ignore_errors=True)
    generate(model, out, IMAGES, Drawing("", STEPS, GUIDANCE, DRAWN, "ddim", "", BATCH), against.data)
    drawn = open_images(out)
    found = seen(drawn)
    real, concepts = against.real, (against.pictures, against.features)
    near = precision_recall(found.pool, real.pool)
    return {
        "images": IMAGES,
        "fid": fid(found.pool, real.pool),
        "kid": kid(found.pool, real.pool).mean,
        "precision": near.precision,
        "recall": near.recall,
        "concept_top1": scores_of_concepts(drawn, pooled(drawn), *concepts)["concept_top1"],
    }


# ---- the page -------------------------------------------------------------------------------------------------------

COLUMNS = {
    "FID": ("fid", ".1f"),
    "KID": ("kid", ".4f"),
    "concept top-1": ("concept_top1", ".3f"),
    "loss": ("loss", ".4f"),
}


def report(records: Sequence[Record]) -> None:
    draw(records)
    fill(PAGE, {"acceleration": table(records)})


def figures_at(records: Sequence[Record], mark: int) -> dict[tuple[str, int], dict[str, Any]]:
    """{(kind, seed): figures} at a mark."""
    return {(r.figures["kind"], r.provenance.seed): r.figures for r in records if r.figures["step"] == mark}


def reached_by_all(records: Sequence[Record]) -> Iterator[int]:
    """The marks that all runs have reached."""
    for mark in sorted({r.figures["step"] for r in records}):
        if len(figures_at(records, mark)) == len(KINDS) * len(SEEDS):
            yield mark


def table(records: Sequence[Record]) -> str:
    rows = []
    for mark in reached_by_all(records):
        here = figures_at(records, mark)
        ways = [(kind, *column) for column in COLUMNS.values() for kind in KINDS]
        rows.append([f"{mark}", *(" / ".join(f"{here[k, s][key]:{form}}" for s in SEEDS) for k, key, form in ways)])
    lines = [f"![FID against steps and time]({PICTURE.name})\n"]
    lines += markdown(["step", *(f"{name}, {kind}" for name in COLUMNS for kind in KINDS)], rows)
    where, f = records[-1].provenance, records[-1].figures
    lines.append(
        f"\nSeeds {' / '.join(map(str, SEEDS))}. {f['images']} images a figure, {where.steps} DDIM steps, guidance"
        f" {GUIDANCE:g}. A step takes the Skip-DiT {price(records):.2f} times the plain DiT's (median)."
        f" {machine(where)} training, {where.commit}."
    )
    return "\n".join(lines) + "\n"


def price(records: Sequence[Record]) -> float:
    """Seconds a step of the Skip-DiT over the plain DiT's, median over seeds and marks."""
    here = [figures_at(records, mark) for mark in reached_by_all(records)]
    return median(
        one["skip", seed]["seconds_a_step"] / one["plain", seed]["seconds_a_step"] for one in here for seed in SEEDS
    )


def draw(records: Sequence[Record]) -> None:
    """FID over steps, and over what the steps cost, in steps of the plain DiT."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    scales = {"plain": 1.0, "skip": price(records)}
    for kind, colour in zip(KINDS, ("tab:blue", "tab:orange"), strict=True):
        for seed in SEEDS:
            line = [r.figures for r in records if (r.figures["kind"], r.provenance.seed) == (kind, seed)]
            for axes, scale in zip(panels, (1.0, scales[kind]), strict=True):
                xs, ys = [scale * f["step"] for f in line], [f["fid"] for f in line]
                axes.plot(
                    xs, ys, marker=".", color=colour, label=f"{kind}, seed {seed}", linestyle="-" if seed == 0 else "--"
                )
    for axes, words in zip(panels, ("optimizer steps", "time, in steps of the plain DiT"), strict=True):
        axes.set(xlabel=words, xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):  # 300, not 3 x 10^2
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("{x:g}")
        axes.grid(True, which="both", alpha=0.3)
    panels[0].set(ylabel=f"FID of {records[-1].figures['images']} images to the training set")
    panels[0].legend()
    figure.savefig(PICTURE, dpi=110)


# ---- main -----------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("data", nargs="?", type=Path, default=Path("data/emoji"))
    parser.add_argument("--marks", type=int, nargs="+", default=MARKS, help="optimizer steps at which FID is taken")
    parser.add_argument("--precision", default="bf16", choices=("bf16", "no"), help="of training; drawing is float32")
    said = parser.parse_args()
    torch.set_num_threads(1)
    if said.what == "report":
        records = resumed(RECORDS)
        if not list(reached_by_all(records)):
            parser.error(f"{RECORDS} holds no mark that all runs have reached: python docs/acceleration.py run")
        return report(records)
    run(said.data, said.marks, said.precision)


if __name__ == "__main__":
    main()

"""Give the shipped plain DiT skip branches, train it on in two stages beside its plain self, and draw what happened.

    skipdit data emoji data/emoji
    python docs/conversion.py train join data/emoji       # and: train replace, train plain
    python docs/conversion.py draw                        # docs/conversion.png and the figures of docs/conversion.md

Every arm sees the same images, noise, timesteps and label dropout at every step. The first form adds to
docs/records/conversion.jsonl.
"""

import sys
import tempfile
from pathlib import Path

import torch

from skipdit import add_skips
from skipdit.backbones.dit import DiT
from skipdit.data import open_images
from skipdit.diffusion import path_of
from skipdit.results import Provenance, Record, append, read
from skipdit.train import Recipe, train
from skipdit.train.draws import fixed_draws
from skipdit.train.stages import DRAWS, losses

HERE = Path(__file__).parent
RECORDS, PICTURE = HERE / "records" / "conversion.jsonl", HERE / "conversion.png"
STEPS, WINDOW = 240, 20
RECIPE = dict(steps=STEPS, batch_size=32, lr=3e-4, warmup=20, decay=60, ema=0.99, precision="no")
STAGES = dict(two_stage=True, window=WINDOW, first_stage=160)


def learn(arm: str, data: str) -> None:
    """Train one arm; add records of its first loss, each window's, each look, and the average's on fixed draws."""
    torch.set_num_threads(1)
    labels = (HERE / "records" / "core_labels.txt").read_text(encoding="utf-8").split("\n")
    images, held = open_images(Path(data), 32).only(list(filter(None, labels))).split()
    model = DiT.from_pretrained("emoji-plain")
    path = path_of(model.config.prediction, model.config.learn_sigma)
    if arm != "plain":
        torch.manual_seed(0)
        add_skips(model, join=arm)
    recipe = Recipe(**RECIPE, **({} if arm == "plain" else STAGES))
    draws = {"held_out": fixed_draws(held, path, 1, DRAWS), "training": fixed_draws(images, path, 1, DRAWS)}
    here = Provenance.here("float32", recipe.batch_size, recipe.steps, recipe.seed)

    def fixed(step: int, average: DiT) -> None:
        figures = {f"{name}_loss": mean(losses(average, each, path)) for name, each in draws.items()}
        append(RECORDS, [Record(f"conversion {arm} average", "", {"step": step, **figures}, here)])

    window: list[float] = []

    def step_done(step: int, figures: dict) -> None:
        window.append(figures["loss"])
        if step == 1 or step % WINDOW == 0 or "held_loss" in figures:
            kept = {name: value for name, value in figures.items() if name != "samples_per_s"}
            kept |= {"step": step, "mean_loss": mean(window[-WINDOW:])}
            append(RECORDS, [Record(f"conversion {arm} step", "", kept, here)])

    fixed(0, model)
    with tempfile.TemporaryDirectory() as run:
        train(model, images, recipe, Path(run) / arm, save_every=WINDOW, keep=1, held=held,
              on_step=step_done, on_save=fixed)  # fmt: skip


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def of(arm: str, what: str) -> list[dict]:
    return [record.figures for record in read(RECORDS) if record.name == f"conversion {arm} {what}"]


def draw() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = {"plain": "tab:blue", "join": "tab:orange", "replace": "tab:green"}
    arms = [arm for arm in colours if of(arm, "step")]
    figure, panels = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    for axes, name in zip(panels, ("training_loss", "held_out_loss"), strict=True):
        for arm in arms:
            rows = of(arm, "average")
            label = {"plain": "plain", "join": "Join", "replace": "Replace"}[arm]
            axes.semilogy([r["step"] for r in rows], [r[name] for r in rows], ".-", color=colours[arm], label=label)
            for look in of(arm, "step"):
                if "first_stage_ends" in look:
                    axes.axvline(look["step"], color=colours[arm], linestyle="--", linewidth=1)
        axes.set(
            xlabel="optimizer step", title=f"256 fixed draws of {name.removesuffix('_loss').replace('_', '-')} images"
        )
        axes.grid(True, which="both", alpha=0.3)
    panels[0].set_ylabel("loss of the averaged model (v)")
    panels[0].legend()
    figure.savefig(PICTURE, dpi=120)
    for arm in arms:
        _tell(arm)


def _tell(arm: str) -> None:
    """The figures that docs/conversion.md quotes."""
    steps, averages = of(arm, "step"), of(arm, "average")
    print(f"{arm}: {steps[-1]['step']} steps, loss of the first batch {steps[0]['loss']!r}")
    for look in steps:
        if "held_loss" in look:
            gain, error = look["held_improvement"], look["held_error"]
            print(f"  look at {look['step']}: {look['held_loss']:.5f}, {gain:+.5f} +- {error:.5f}", end="")
            print(f"  {look.get('first_stage_ends', '')}")
    for row in (averages[0], averages[-1]):
        print(f"  step {row['step']}: training {row['training_loss']!r}, held out {row['held_out_loss']!r}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["train"] and sys.argv[2:3] in (["plain"], ["join"], ["replace"]) and len(sys.argv) == 4:
        learn(*sys.argv[2:])
    elif sys.argv[1:] == ["draw"]:
        draw()
    else:
        sys.exit(__doc__)

"""What is seen of a training run: its bar, its samples, and how it is asked to stop."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skipdit.cli.terminal import progress

WELL_KNOWN = (
    *("red apple", "rocket", "sunflower", "penguin", "tropical fish", "strawberry"),
    *("octopus", "sun with face", "hamburger", "fire engine", "cactus", "umbrella"),
)


class Shown:
    """The progress bar of a run; a step's figures go in, running means come out."""

    def __init__(self, steps: int, quiet: bool, what: str = "images", note: str = ""):
        self.what, self.note = what, note  # the note is said when the first step is done: the run has begun
        self.bar = progress("figures", quiet=quiet)
        self.task = self.bar.add_task("training", total=steps, figures="")
        self.loss = self.rate = 0.0
        self.seen = 0

    def __enter__(self) -> "Shown":
        self.bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    def __call__(self, step: int, figures: dict[str, Any]) -> None:
        self.seen += 1
        if self.note and self.seen == 1:
            self.say(self.note)
        share = max(0.02, 1 / self.seen)
        self.loss += share * (figures["loss"] - self.loss)
        self.rate += share * (figures["samples_per_s"] - self.rate)
        self.bar.update(self.task, completed=step, figures=f"loss {self.loss:.4f}  {self.rate:.0f} {self.what}/s")
        if "held_loss" in figures:
            self.say(_look(step, figures))

    def say(self, line: str) -> None:
        self.bar.console.print(line, soft_wrap=True, markup=False)


def _look(step: int, figures: dict[str, Any]) -> str:
    """What a look at the held-out images saw, in a line."""
    gain, error, why = figures["held_improvement"], figures["held_error"], figures.get("first_stage_ends")
    seen = f"step {step}  held-out loss {figures['held_loss']:.5f}, {gain:+.5f} better than before (+- {error:.5f})"
    return f"{seen}; the first stage ends: {why}" if why else seen


class Stop:
    """The loop asks it at each step; a signal makes it say yes."""

    heard = 0

    def __call__(self) -> bool:
        return bool(self.heard)


@contextmanager
def asked_to_stop() -> Iterator[Stop]:
    """Ctrl-C (and SIGTERM) lets the step end and a checkpoint be written; a second Ctrl-C doesn't wait for that."""
    stop = Stop()

    def hear(number: int, frame: Any) -> None:
        if "RANK" not in os.environ:  # torchrun passes on what its processes have heard already
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.write(2, b"\nending this step and saving; Ctrl-C again leaves at once\n")
        stop.heard = number

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def draw_samples(run: Path, step: int, ema: Any) -> Path:
    """Twelve pictures or clips, the same at every checkpoint, drawn in 20 steps."""
    from skipdit import films, pictures
    from skipdit.sample import sample

    names, styles = ema.config.class_names, ema.config.get("style_names")
    known = [name for name in WELL_KNOWN if name in names]
    spaced = [names[i * len(names) // 12] for i in range(12)]
    labels = [names.index(name) for name in (*known, *spaced)[:12]]
    said = [i % len(styles) for i in range(12)] if styles else None
    images = sample(ema, labels, said, steps=20).cpu()
    scale, path = max(1, 96 // images.shape[-1]), run / "samples" / f"step-{step:07d}.png"
    if images.ndim == 5:
        films.save(films.frames(images, 4, scale), path.with_suffix(".webp"))
        return pictures.save(films.strip(images, scale), path)
    return pictures.save(pictures.grid(images, 4, scale), path)

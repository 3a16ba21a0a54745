"""Training throughput of our loop against a bare PyTorch loop, step by step in turn."""

import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from skipdit.backbones.dit import DiT
from skipdit.bench.options import Options, Skipped
from skipdit.bench.table import Goal
from skipdit.data.images import ImageSet
from skipdit.diffusion import path_of
from skipdit.results import Record

GOALS = (Goal("of_bare", at_least=0.97),)
BATCH, IMAGES = 64, 8192
SIZE = dict(input_size=32, patch_size=4, hidden_size=192, depth=8, num_heads=4)


def measure(options: Options, steps: int = 12, batch: int = BATCH, size: dict[str, Any] = SIZE) -> list[Record]:
    """Images a second of `skipdit.train.train`, all it does included: drawing data, EMA, the log, the clock.

    The bare loop has the same model, loss, clipping, AdamW and attention kernel, one batch that lies ready, and none of
    the rest. It takes its steps from within our loop's `on_step`, so that both see the same machine. Raises Skipped
    where the packages for training are missing.
    """
    try:
        from skipdit.train import Recipe, train
    except ModuleNotFoundError as error:
        raise Skipped(f"training: {error.name} is missing: pip install 'skipdit[train]'") from error
    torch.manual_seed(options.seed)
    model = DiT(in_channels=3, num_classes=1000, learn_sigma=False, skips="replace", prediction="v_prediction", **size)
    recipe = Recipe(steps=steps * options.repeats + 1, batch_size=batch, seed=options.seed)
    clock = Clock(model, recipe, options.say)
    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            images(IMAGES, model.config.input_size),
            recipe,
            Path(folder) / "run",
            on_step=clock,
            save_every=10**9,
        )
    ours, bare = clock.ours[1:], clock.bare[1:]  # the first step of each warms up
    figures = {
        "images_per_s": batch / median(ours),
        "bare_images_per_s": batch / median(bare),
        "of_bare": median(b / a for a, b in zip(ours, bare, strict=True)),
    }
    options = replace(options, device=str(model.device), dtype="fp32")
    return [options.record(f"training {size['depth']} x {size['hidden_size']}", "", figures, batch, recipe.steps)]


def images(count: int, size: int) -> ImageSet:
    """A set of noise: drawing from it costs what drawing from pictures costs."""
    x = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(x, torch.arange(count) % 1000, None, tuple(map(str, range(1000))))


class Clock:
    """Called after each of our steps: writes down what it took, takes a bare step, writes that down, too."""

    def __init__(self, model: DiT, recipe: Any, say: Callable[[str], object]):
        self.ours: list[float] = []
        self.bare: list[float] = []
        self.model, self.recipe, self.say = model, recipe, say
        self.step: Callable[[], None] | None = None
        self.since = time.perf_counter()

    def __call__(self, step: int, figures: dict[str, float]) -> None:
        self.ours.append(self._lap())
        if self.step is None:
            self.step = bare_step(copy.deepcopy(self.model), self.recipe)
            self._lap()
        self.step()
        self.bare.append(self._lap())
        self.say(f"step {step} of {self.recipe.steps}")
        self._lap()

    def _lap(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        took, self.since = now - self.since, now
        return took


def bare_step(model: DiT, recipe: Any) -> Callable[[], None]:
    """One optimizer step as one writes it down without a library, on a batch that lies ready."""
    from skipdit.train.draws import draw
    from skipdit.train.loop import plain_attention

    device = model.device  # the one that our loop chose
    path = path_of(model.config.prediction, model.config.learn_sigma)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    draws = draw(images(recipe.batch_size, model.config.input_size), path, recipe, 0).to(device)
    x0, noise, t, y = draws.x0, draws.noise, draws.t, draws.given["y"]

    def step() -> None:
        with plain_attention(device):
            loss: Tensor = path.loss(model(path.noised(x0, noise, t), t, y), x0, noise, t).mean()
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad()

    return step

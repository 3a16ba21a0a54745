"""The pictures that a search looks at, and those that it must not: labels are split, and so are the seeds."""

import random
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from skipdit.branches import Tally
from skipdit.core.attach import attach
from skipdit.core.backbone import Backbone
from skipdit.core.policy import Policy
from skipdit.core.run import Run
from skipdit.core.what import hold
from skipdit.core.where import Inner
from skipdit.diffusion import SAMPLERS, path_of
from skipdit.metrics.psnr import psnr
from skipdit.plan.gram import Cuts, Watch
from skipdit.sample import OnStep, sample

MOST = 100.0  # dB: nearer than that counts as equal, and JSON knows no infinity


def halves(classes: int, seed: int) -> tuple[list[int], list[int]]:
    """Labels to calibrate on, and those held out."""
    order = random.Random(seed).sample(range(classes), classes)
    return order[: classes // 2], order[classes // 2 :]


def conditions(config: Any, labels: Sequence[int], count: int) -> tuple[list[int], list[int] | None]:
    """Labels and styles of so many pictures; both take turns."""
    known = config.get("num_styles", 0)
    styles = [i % known for i in range(count)] if known else None
    return [labels[i % len(labels)] for i in range(count)], styles


@dataclass
class Study:
    """A model, how it samples, and one set of conditions. `reference` holds the uncached pictures once drawn."""

    model: Any
    labels: list[int]
    styles: list[int] | None
    steps: int
    guidance: float
    sampler: str
    seed: int
    reference: Tensor = field(default_factory=lambda: torch.empty(0))
    run: Run | None = None  # of the last draw with a policy: its report counts FLOPs, which takes as long as a step
    tally: Tally = field(default_factory=Tally)  # of the last draw

    @classmethod
    def of(
        cls, model: Any, steps: int, guidance: float, sampler: str | None, seed: int, pictures: int, held_out: int
    ) -> "tuple[Study, Study]":
        """Two studies: half of the labels to calibrate on, the other half, with other seeds, to check with.

        Raises ValueError for a model with fewer than two labels.
        """
        config = model.config
        if config.num_classes < 2:
            raise ValueError("tune: a model with one label can't be checked on labels held out")
        sampler = sampler or SAMPLERS[config.prediction][0]

        def study(labels: Sequence[int], count: int, seed: int) -> Study:
            return cls(model, *conditions(config, labels, count), steps, guidance, sampler, seed)

        ours, others = halves(config.num_classes, seed)
        return study(ours, pictures, 2 * seed), study(others, held_out, 2 * seed + 1)

    @property
    def timesteps(self) -> tuple[float, ...]:
        config = self.model.config
        scheduler = path_of(config.prediction, config.learn_sigma).scheduler(self.sampler)
        scheduler.set_timesteps(self.steps)
        return tuple(float(t) for t in scheduler.timesteps)

    def first(self, count: int) -> "Study":
        """The same study of its first pictures alone."""
        styles = self.styles and self.styles[:count]
        return replace(self, labels=self.labels[:count], styles=styles, reference=self.reference[:count])

    def on(self, model: Any) -> "Study":
        """The same pictures of another model, none of them drawn yet."""
        return Study(model, self.labels, self.styles, self.steps, self.guidance, self.sampler, self.seed)

    def draw(
        self,
        policy: Policy | None = None,
        steps: int | None = None,
        passes: str | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """All pictures (N, C, H, W), in one batch."""
        self.tally = Tally()
        with attach(self.model, policy) if policy else nullcontext() as run:
            images = sample(
                self.model,
                self.labels,
                self.styles,
                steps=steps or self.steps,
                guidance=self.guidance,
                seed=self.seed,
                sampler=self.sampler,
                batch_size=len(self.labels),
                passes=passes,
                tally=self.tally,
                on_step=on_step,
            )
        self.run = run
        return images

    def decibels(self, images: Tensor) -> list[float]:
        """PSNR of each picture to the uncached one, in dB."""
        return [min(MOST, value) for value in psnr(images, self.reference).tolist()]

    def least(self, *policies: Policy | None, rounds: int, steps: int | None = None) -> list[float]:
        """Seconds that a draw takes with each policy, in turns: the least of all rounds.

        Other work on the machine only ever adds to a time. On a CPU the processor's own clock is read, which stands
        still while others have the processor.
        """
        clock = time.process_time if self.model.device.type == "cpu" else time.perf_counter
        spent: list[list[float]] = [[] for _ in policies]
        for _ in range(rounds):
            for policy, seconds in zip(policies, spent, strict=True):
                start = clock()
                self.draw(policy, steps)
                seconds.append(clock() - start)
        return [min(seconds) for seconds in spent]

    def watch(self, wheres: Sequence[Inner]) -> dict[Inner, Tensor]:
        """One uncached run, which leaves `reference` behind: the inner products (T, T) of what each span would hold."""
        watch = Watch(self.steps)
        self.reference = self.draw(Policy(Cuts(tuple(where.tail for where in wheres)), watch, hold()))
        backbone = Backbone.of(self.model)
        depth, unit = backbone.depth(self.model), backbone.unit
        return {where: watch.grams[(depth - where.tail) * unit] for where in wheres}

"""Delta-DiT: what a range of blocks adds is held, the rear range while outlines form, the front one while details do.

Pengtao Chen et al., "Delta-DiT: A Training-Free Acceleration Method Tailored for Diffusion Transformers",
arXiv 2406.01125, sec. 4. A cached step gives F(x) = x + delta, so the fresh input still flows.
Held: one tensor (B, T, D) a range; three where the ranges overlap (front only, both, rear only).
Without an official code, two things are our reading: the step after the switch is full, and `switch` is half the run.
"""

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from torch import nn

from skipdit.core.backbone import Backbone
from skipdit.core.check import number, whole
from skipdit.core.policy import Memory, Moment, Policy, Site, Span, Step, spell
from skipdit.core.what import residual


def delta_dit(every: int = 2, blocks: int = 14, switch: float = 0.5) -> Policy:
    """Hold the change over the rear blocks early, over the front blocks late.

    every     N: one full step, then N-1 cached ones
    blocks    Nc: how many blocks are cached; above half the depth the two ranges overlap
    switch    the last step of the early stage, from 0; below 1: the fraction of the run that the stage takes
    """
    spelling = spell(delta_dit, locals())
    whole("delta_dit", "every", every, low=1)
    return Policy(FrontAndRear(blocks), Stages(every, switch), residual(), spelling)


@dataclass(frozen=True)
class FrontAndRear:
    """The first `blocks` blocks and the last `blocks`: "front" and "rear", and "both" for those in both."""

    blocks: int

    def __post_init__(self) -> None:
        whole(self, "blocks", self.blocks, low=1)

    def __call__(self, model: nn.Module, backbone: Backbone) -> list[Site]:
        depth, unit = backbone.depth(model), backbone.unit
        if self.blocks > depth:
            raise ValueError(f"{self} reaches past the {depth} blocks of {type(model).__name__}")
        a, b = sorted((self.blocks, depth - self.blocks))
        middle = "both" if self.blocks > depth - self.blocks else ""
        spans = [Span(0, a * unit, "front"), Span(a * unit, b * unit, middle), Span(b * unit, depth * unit, "rear")]
        return [span for span in spans if span.kind and span.stop > span.start]


@dataclass(frozen=True)
class Stages:
    """Full at every n-th step and at the first after the switch; else the rear is spared before, the front after."""

    n: int
    switch: float
    gate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole(self, "n", self.n, low=1)
        number(self, "switch", self.switch)

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        last = self._last_early(step)
        if step.index % self.n == 0 or step.index == last + 1:
            return True
        return site.kind == ("front" if step.index <= last else "rear")

    def _last_early(self, step: Step) -> int:
        if self.switch >= 1 or self.switch == 0:
            return int(self.switch)
        if step.total is None:
            raise ValueError(f"{self} counts in fractions and needs the number of steps: pass timesteps to attach")
        return round(self.switch * step.total) - 1


def budget(steps: int, depth: int, share: float, switch: float = 0.5) -> Policy:
    """The policy for a share of the blocks' MACs: N = ceil(T Nb Mb / Mg), and Nc so that the total is Mg.

    steps, depth    T and Nb: of the run, and blocks of the model
    share           Mg / (T Nb Mb), above 0 and at most 1

    Raises ValueError for a share that no Nc of 1 ... Nb meets.
    """
    whole("delta_dit.budget", "steps", steps, low=1)
    whole("delta_dit.budget", "depth", depth, low=1)
    number("delta_dit.budget", "share", share, strict=True)
    every = ceil(1 / share)
    when = Stages(every, switch)
    full = sum(when({}, Step(i, steps), Span(0, depth), None) for i in range(steps))
    blocks = round(steps * depth * (1 - share) / (steps - full)) if full < steps else 0
    if not 1 <= blocks <= depth:
        raise ValueError(
            f"delta_dit.budget: share={share} of {steps} steps needs {blocks} of {depth} blocks cached with N={every}: "
            "choose another share or more steps"
        )
    return delta_dit(every, blocks, switch)


delta_dit.budget = budget  # type: ignore[attr-defined]

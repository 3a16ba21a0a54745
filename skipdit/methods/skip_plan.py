"""Skip-Cache step by step: each step has its own K, or is full.

Ours: Skip-Cache (arXiv 2411.17616) with nested spans, so that a step may spare more blocks than the one before.
Held: one tensor (B, T, D) a stream and ring: the outputs of the inner span and of the blocks between two values of K.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import nn

from skipdit.core.backbone import Backbone
from skipdit.core.check import whole
from skipdit.core.policy import Memory, Moment, Policy, Site, Span, Step, spell
from skipdit.core.what import hold


def skip_plan(branches: Sequence[int] = (0, 1)) -> Policy:
    """Hold the output of block L-K-1, with K from a list.

    branches    K of every step of the run; 0 is a full step

    Raises ValueError for a list that is empty or never spares anything; in the run, for another number of steps.
    """
    branches = tuple(branches)
    spelling = spell(skip_plan, locals())
    for branch in branches:
        whole("skip_plan", "branches", branch)
    if not any(branches):
        raise ValueError(f"skip_plan: branches={branches!r} names no step to spare anything at: give a K above 0")
    return Policy(Rings(tuple(sorted(set(branches) - {0}))), Branches(branches), hold(), spelling)


@dataclass(frozen=True)
class Rings:
    """The blocks inside the smallest K, cut at the larger ones; a piece's kind is the largest K that spares it."""

    branches: tuple[int, ...]

    def __call__(self, model: nn.Module, backbone: Backbone) -> list[Site]:
        depth, unit = backbone.depth(model), backbone.unit
        if 2 * self.branches[-1] >= depth:
            raise ValueError(f"{self} leaves no block to spare in {type(model).__name__} with {depth} blocks")
        pieces = []
        for k, larger in pairwise(self.branches):
            pieces += [Span(k * unit, larger * unit, str(k)), Span((depth - larger) * unit, (depth - k) * unit, str(k))]
        k = self.branches[-1]
        return [*pieces, Span(k * unit, (depth - k) * unit, str(k))]


@dataclass(frozen=True)
class Branches:
    """A piece of kind K is spared at the steps whose own K is above 0 and at most that. No kind: full steps only."""

    branches: tuple[int, ...]
    gate: ClassVar[bool] = False

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        if step.index >= len(self.branches) or step.total not in (None, len(self.branches)):
            raise ValueError(
                f"skip_plan is for {len(self.branches)} steps, but step {step.index} of {step.total or 'many'} came: "
                "make a plan for that number of steps"
            )
        branch = self.branches[step.index]
        return branch == 0 or (site.kind != "" and branch > int(site.kind))

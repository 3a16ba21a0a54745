"""SpeCa: the stack is forecast and its last block really run; where the two disagree, the next step is full.

Jiacheng Liu et al., "SpeCa: Accelerating Diffusion Transformers with Speculative Feature Caching", arXiv 2509.11628:
with y the last block's real output on a forecast input and y' its own forecast, |y - y'| / |y| <= tau0 beta^progress.
Held: order+1 tensors (B, T, D) of the stack before the last block, and as many of its last block.
The original throws a rejected step away and computes it again; here the last block has run when the verdict falls, so a
rejection makes the *next* step a full one. Written from the formula. Defaults: tau0, beta and floor of its DiT.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from skipdit.core.backbone import Backbone
from skipdit.core.check import number
from skipdit.core.policy import WATCHED, Flow, Memory, Moment, Policy, Site, Span, Step, spell
from skipdit.core.what import Estimate, forecast, taylor
from skipdit.core.when import Guarded


def speca(
    threshold: float = 0.3,
    decay: float = 0.05,
    floor: float = 0.01,
    order: int = 2,
    most: int = 8,
    warmup: int = 3,
) -> Policy:
    """Forecast all blocks but the last, which verifies.

    threshold    tau0: of the relative L2 error at the start of the run
    decay        beta: the threshold falls to tau0 beta at the end
    floor        of the threshold
    order        of the forecast (TaylorSeer's rule)
    most         forecasts in a row, at most
    warmup       full steps at the start
    """
    spelling = spell(speca, locals())
    what = forecast(order, rule=taylor)
    return Policy(AllButVerifier(), Guarded(Verified(what, threshold, decay, floor), warmup, most=most), what, spelling)


@dataclass(frozen=True)
class AllButVerifier:
    """All blocks but the last (or the last round of lists that take turns), and that one to be watched."""

    def __call__(self, model: nn.Module, backbone: Backbone) -> list[Site]:
        count, unit = len(backbone.order(model)), backbone.unit
        if count <= unit:
            raise ValueError(f"speca: {type(model).__name__} has one block: there is none to spare before the verifier")
        return [Span(0, count - unit), Span(count - unit, count, WATCHED)]


@dataclass(frozen=True)
class Verified:
    """Compute after a step whose watched block contradicted its forecast. Waits for the device once a pass."""

    draft: Estimate
    threshold: float
    decay: float
    floor: float
    gate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number(self, "threshold", self.threshold, strict=True)
        number(self, "decay", self.decay, strict=True)
        number(self, "floor", self.floor)

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        return memory.pop("rejected", False)

    def observe(self, memory: Memory, step: Step, site: Site, x: Flow, y: Flow) -> None:
        if site.kind != WATCHED:
            memory["full"] = step.index  # the stack before was computed in this pass
        elif memory.get("full") == step.index:
            self.draft.observe(memory, step, x, y)
        else:
            drafted = self.draft.predict(memory, step, x)[0]
            error = ((y[0] - drafted).norm() / y[0].norm()).item()
            memory["rejected"] = not error <= self.tolerated(step)

    def tolerated(self, step: Step) -> float:
        """max(floor, tau0 beta^progress). Raises ValueError where the number of steps isn't known."""
        if step.total is None:
            raise ValueError(f"{self} needs the number of steps: pass timesteps to attach, or use skipdit.sample")
        return max(self.floor, self.threshold * self.decay ** (step.index / step.total))

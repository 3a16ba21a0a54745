"""Guidance interval: guidance only at some noise levels or steps, the conditional branch alone elsewhere.

Tuomas Kynkäänniemi et al., "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in
Diffusion Models", arXiv 2404.07724, eq. 5: the scale is w where lo < sigma <= hi, and 1 elsewhere.
Held: nothing. Defaults: the paper's for SD-XL, (0.28, 5.42].
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from skipdit.branches import Branches, Passes
from skipdit.core.check import whole, window
from skipdit.core.policy import Memory, Step, spell


def interval(hi: float | None = 5.42, lo: float | None = 0.28, start: int = 0, stop: int | None = None) -> Passes:
    """Guide within bounds; None is no bound.

    hi, lo         noise levels: guided where lo < sigma <= hi. sigma is the noise as a share of the signal:
                   sqrt((1 - abar) / abar), on a flow t / (1 - t)
    start, stop    steps: guided at start ... stop-1, from 0
    """
    spelling = spell(interval, locals())
    return Interval(hi, lo, start, stop, spelling=spelling)


@dataclass(frozen=True)
class Interval(Passes):
    """Both branches inside, the conditional one outside."""

    hi: float | None = None
    lo: float | None = None
    start: int = 0
    stop: int | None = None
    drops: ClassVar[bool] = True

    def __post_init__(self) -> None:
        window("interval", self.hi, self.lo)
        whole("interval", "start", self.start)
        if self.stop is not None:
            whole("interval", "stop", self.stop, low=1)
            if self.stop <= self.start:
                raise ValueError(f"interval: stop={self.stop} must be above start={self.start}")

    def __call__(self, memory: Memory, branches: Branches, step: Step, x: Tensor) -> Tensor:
        if self.guided(step, branches.sigmas[step.index]):
            return branches.guide(*branches.both(x, step))
        return branches.cond(x, step)

    def guided(self, step: Step, sigma: float) -> bool:
        """Whether a step is inside."""
        below = self.hi is None or sigma <= self.hi
        above = self.lo is None or sigma > self.lo
        return below and above and self.start <= step.index and (self.stop is None or step.index < self.stop)

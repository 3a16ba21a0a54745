"""What a search chooses from: which blocks are spared and what stands in for them; and what a budget leaves of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from skipdit.core.policy import Policy
from skipdit.core.what import Estimate, forecast, hold, residual
from skipdit.core.when import At
from skipdit.core.where import Inner
from skipdit.plan.fitted import fit

# Estimators as a plan's search names them; "fitted 3" leans on the last three computed steps.
ESTIMATORS = ("hold", "residual", "forecast", "forecast change", "forecast 2", "fitted 2", "fitted 3", "fitted 4")


class Shape(NamedTuple):
    """All of a plan but its steps."""

    where: Inner
    estimator: str

    def __str__(self) -> str:
        return f"K={self.where.head},{self.where.tail} {self.estimator}"

    def estimate(self, gram: Tensor, mask: Sequence[int]) -> Estimate:
        """The estimator, fitted to the mask where it is one of those. Raises ValueError for an unknown name."""
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"estimator {self.estimator!r}: choose from {', '.join(ESTIMATORS)}")
        if self.estimator == "hold":
            return hold()
        if self.estimator == "residual":
            return residual()
        if self.estimator.startswith("forecast"):
            return forecast(2 if self.estimator.endswith("2") else 1, change="change" in self.estimator)
        keep = int(self.estimator.split()[1])
        return Estimate(fit(gram, mask, keep), keep=keep)

    def policy(self, gram: Tensor, mask: Sequence[int]) -> Policy:
        return Policy(self.where, At(tuple(mask)), self.estimate(gram, mask))


@dataclass(frozen=True)
class Goal:
    """What is asked for: one of the three.

    speedup    times as fast as uncached, in measured time
    psnr       dB to the uncached pictures, mean of the calibration pictures; then as fast as can be
    flops      the share of the FLOPs that may be spent

    Raises ValueError, by name, for none, for two, and for values that can't be met.
    """

    speedup: float | None = None
    psnr: float | None = None
    flops: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"tune: give one of speedup, psnr, flops, not {', '.join(given) or 'none'}")
        if self.speedup is not None and not self.speedup > 1:
            raise ValueError(f"tune: speedup={self.speedup} must be above 1")
        if self.psnr is not None and not 0 < self.psnr < 100:
            raise ValueError(f"tune: psnr={self.psnr} must lie between 0 and 100 dB")
        if self.flops is not None and not 0 < self.flops < 1:
            raise ValueError(f"tune: flops={self.flops} must lie between 0 and 1")

    @property
    def share(self) -> float | None:
        """Of an uncached run's time, or FLOPs; None where quality is asked for."""
        return 1 / self.speedup if self.speedup else self.flops


def wheres(depth: int) -> list[Inner]:
    """The spans worth trying: all blocks, and all but 1 or 2 at either end."""
    return [Inner(k, k) for k in (0, 1, 2) if 2 * k < depth]


def computed_within(share: float, cached: float, steps: int) -> int | None:
    """How many of the steps may be computed; None where not even two can.

    share     of an uncached run's cost that may be spent
    cached    cost of a step that is stood in for, over a computed one

    Solves n + (T - n) cached <= share T.
    """
    n = int((share * steps - cached * steps) / (1 - cached) + 1e-9)
    return min(n, steps - 1) if n >= 2 else None

"""Spectrum: the last block's output over the whole run is fitted by Chebyshev polynomials, and read off ahead.

"Spectrum", arXiv 2603.01623: h(t) = sum_m c_m T_m(tau), tau = 2 step / steps - 1, with c from a ridge regression on all
full steps. Linear in what is held, so it is one more rule of weights.
Held: `keep` tensors (B, T, D), one a full step.
The original shrinks the constant T_0 too, so that a feature that stands still is forecast too small; here it is left
free, and `paper=True` has the original. Defaults: M = 4, lambda = 0.1, window 2, as published (FLUX: 3.47x, PSNR 24.3)
with growth ours; the original keeps all full steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch

from skipdit.core.check import number, whole
from skipdit.core.policy import Memory, Moment, Policy, Site, Step, spell
from skipdit.core.what import Estimate
from skipdit.core.where import Inner


def chebyshev(
    window: float = 2,
    grow: float = 0.75,
    degree: int = 4,
    ridge: float = 0.1,
    steps: int = 50,
    warmup: int = 5,
    keep: int = 20,
    paper: bool = False,
) -> Policy:
    """Forecast the output of the last block.

    window    one full step in so many, rounded down, after the warm-up
    grow      the window grows by this with every full step
    degree    M: of the highest polynomial
    ridge     lambda
    steps     of the run, mapped to [-1, 1]
    warmup    full steps at the start
    keep      full steps that are fitted, the newest ones
    paper     shrink the constant too
    """
    spelling = spell(chebyshev, locals())
    whole("chebyshev", "keep", keep, low=1)
    return Policy(
        Inner(0, 0), Growing(window, grow, warmup), Estimate(Chebyshev(degree, ridge, steps, paper), keep), spelling
    )


@dataclass(frozen=True)
class Chebyshev:
    """Weights phi(at)^T (Phi^T Phi + lambda I)^-1 Phi^T, with Phi the polynomials at the full steps."""

    degree: int
    ridge: float
    steps: int
    paper: bool = False

    def __post_init__(self) -> None:
        whole(self, "degree", self.degree)
        whole(self, "steps", self.steps, low=1)
        number(self, "ridge", self.ridge, strict=True)

    def __call__(self, seen: Sequence[int], at: int) -> list[float]:
        return _weights(self, tuple(seen), at)

    def basis(self, at: Sequence[int]) -> torch.Tensor:
        tau = 2 * torch.tensor(at, dtype=torch.float64, device="cpu") / self.steps - 1  # (K,)
        columns = [torch.ones_like(tau), tau]
        while len(columns) <= self.degree:
            columns.append(2 * tau * columns[-1] - columns[-2])
        return torch.stack(columns[: self.degree + 1], dim=1)  # (K, M+1)


@lru_cache(maxsize=4096)
def _weights(rule: Chebyshev, seen: tuple[int, ...], at: int) -> list[float]:
    phi = rule.basis(seen)  # (K, M+1)
    shrunk = torch.full((rule.degree + 1,), rule.ridge, dtype=torch.float64, device="cpu")
    if not rule.paper:
        shrunk[0] = 0
    return (rule.basis([at]) @ torch.linalg.solve(phi.T @ phi + shrunk.diag(), phi.T))[0].tolist()  # (K,)


@dataclass(frozen=True)
class Growing:
    """All of the first `warmup` steps, then the last of every floor(window) steps, the window growing with each."""

    window: float
    grow: float
    warmup: int
    gate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        number(self, "window", self.window, low=1)
        number(self, "grow", self.grow)
        whole(self, "warmup", self.warmup, low=1)

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        full, after = self.warmup - 1, 0  # the last full step, and how many came after the warm-up
        while full < step.index:
            full += int(round(self.window + after * self.grow, 3))
            after += 1
        return step.index < self.warmup or full == step.index

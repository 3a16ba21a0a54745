"""HiCache: TaylorSeer with scaled Hermite polynomials in place of powers, which holds long leaps back.

Liang Feng et al., "HiCache", arXiv 2508.16984: in Taylor's sum x^n becomes h_n(x) = sigma^n H_n(sigma x), H_n the
physicists' polynomials. Written from the formula; the original is GPL.
Held: as TaylorSeer, order+1 tensors (B, T, D) a part; with `lite` order+1 tensors.
With sigma = 1/2 the first-order term is half of Taylor's: h_1(x) = 2 sigma^2 x. sigma = sqrt(1/2) gives a line in full.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

from skipdit.core.check import number, whole
from skipdit.core.policy import Policy, Where, spell
from skipdit.core.what import differences, forecast
from skipdit.core.when import Every
from skipdit.core.where import Inner, Parts


def hermite(
    every: int = 5,
    order: int = 2,
    sigma: float = 0.5,
    warmup: int = 3,
    parts: tuple[str, ...] = ("attn", "mlp"),
    lite: bool = False,
) -> Policy:
    """Forecast every part, or with `lite` the output of the last block alone.

    every     N: one full step, then N-1 forecast ones
    order     of the forecast
    sigma     how strongly it is held back
    warmup    full steps at the start
    """
    spelling = spell(hermite, locals())
    whole("hermite", "every", every, low=1)
    where: Where = Inner(0, 0) if lite else Parts(parts)
    return Policy(where, Every(every, warmup), forecast(order, rule=Hermite(sigma)), spelling)


@dataclass(frozen=True)
class Hermite:
    """sum_n D^n F h_n(x) / n!, with x the steps ahead."""

    sigma: float

    def __post_init__(self) -> None:
        number(self, "sigma", self.sigma, strict=True)

    def __call__(self, seen: Sequence[int], at: int) -> list[float]:
        terms, x = differences(seen), self.sigma * (at - seen[0])
        basis = [1.0, 2 * x]  # H_n+1 = 2 x H_n - 2 n H_n-1
        for n in range(1, len(seen) - 1):
            basis.append(2 * x * basis[n] - 2 * n * basis[n - 1])
        scaled = [self.sigma**n * basis[n] / factorial(n) for n in range(len(seen))]
        return [sum(a * term[i] for a, term in zip(scaled, terms, strict=True)) for i in range(len(seen))]

"""BaryCache: the last block's output is forecast by barycentric interpolation through the last full steps.

"BaryCache", as on its authors' page: weights u_j / sum u of the last outputs, with u_j = w_j / (t - t_j).
Held: `keep` tensors (B, T, D).
The published w_j are 1/2, -1, 1 ... 1/2 whatever the gaps, with |u_j| raised to a power; they miss a parabola on uneven
steps. By default the w_j here come from the steps themselves and are exact for polynomials of degree keep-1, on any
gaps; `paper=True` has the published ones. DiT-XL/2 256, DDIM-50, FID as its authors published: N=5 3.27, N=6 3.91.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from skipdit.core.check import whole
from skipdit.core.policy import Policy, spell
from skipdit.core.what import Estimate, Rule, polynomial
from skipdit.core.when import Every
from skipdit.core.where import Inner

POWERS = {2: 1.0, 3: 0.95, 4: 0.75}  # of |u_j|, by how many steps are kept


def barycentric(every: int = 5, keep: int = 2, warmup: int = 3, paper: bool = False) -> Policy:
    """Forecast the output of the last block.

    every     N: one full step, then N-1 forecast ones
    keep      H: full steps that it goes through; 2, 3 or 4
    warmup    full steps at the start
    paper     the published weights
    """
    spelling = spell(barycentric, locals())
    whole("barycentric", "every", every, low=1)
    if keep not in POWERS:
        raise ValueError(f"barycentric: keep={keep!r} must be 2, 3 or 4")
    rule: Rule = Published(POWERS[keep]) if paper else polynomial
    return Policy(Inner(0, 0), Every(every, warmup), Estimate(rule, keep), spelling)


@dataclass(frozen=True)
class Published:
    """The authors' weights: halved at both ends, clipped at 10, |u_j| raised to a power, made to sum to 1."""

    power: float

    def __call__(self, seen: Sequence[int], at: int) -> list[float]:
        if len(seen) == 1:
            return [1.0]
        ends = (0, len(seen) - 1)
        signs = [(-1.0) ** j * (0.5 if j in ends else 1.0) for j in range(len(seen))]
        terms = [max(-10.0, min(10.0, sign / (at - step))) for sign, step in zip(signs, seen, strict=True)]
        terms = [(1 if u > 0 else -1) * abs(u) ** self.power for u in terms]
        return [u / sum(terms) for u in terms]

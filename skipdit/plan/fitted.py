"""An estimator whose weights were fitted to calibration runs, step by step: the best weighted sum of what is held."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fitted:
    """A rule for `Estimate`: at step t the held values, newest first, count with the weights of that step.

    weights    ((step, (w_1, w_2, ...)), ...) for every step that is stood in for

    Calling raises ValueError for a step, or for a count of held values, that it was not fitted to.
    """

    weights: tuple[tuple[int, tuple[float, ...]], ...]

    @classmethod
    def of(cls, table: Mapping[int, Iterable[float]]) -> "Fitted":
        return cls(tuple((int(t), tuple(float(w) for w in row)) for t, row in sorted(table.items())))

    def __post_init__(self) -> None:
        object.__setattr__(self, "_at", dict(self.weights))

    def __repr__(self) -> str:
        return f"Fitted({len(self.weights)} steps)"

    def __call__(self, seen: Sequence[int], at: int) -> list[float]:
        found: tuple[float, ...] | None = self._at.get(at)  # type: ignore[attr-defined]
        if found is None or len(found) != len(seen):
            raise ValueError(
                f"{self} has no weights for {len(seen)} held values at step {at}: fitted weights hold for the plan "
                "they were fitted with, and for no other schedule"
            )
        return list(found)


def fit(gram: Tensor, computed: Sequence[int], keep: int, ridge: float = 1e-6) -> Fitted:
    """The weights w that make |sum_k w_k y_k - y_t|^2 smallest at every step t that is not computed.

    gram        (T, T) inner products of the values at all steps, see `skipdit.plan.gram`
    computed    steps in rising order; each t leans on the last `keep` of them before it
    ridge       of the mean square of the values, added to the diagonal: values of near steps are almost parallel

    Solves (G_aa + ridge mean(diag G_aa) I) w = g_at. Raises ValueError where the first step is not computed.
    """
    if not len(computed) or computed[0] != 0:
        raise ValueError(f"fit: the first step must be among the computed ones, not {tuple(computed)[:3]} ...")
    table: dict[int, list[float]] = {}
    held: list[int] = []
    anchors = set(computed)
    for t in range(len(gram)):
        if t in anchors:
            held = [t, *held][:keep]
            continue
        table[t] = solve(gram, held, t, ridge).tolist()
    return Fitted.of(table)


def solve(gram: Tensor, held: Sequence[int], t: int, ridge: float) -> Tensor:
    """The best weights (k,) of the values held from k steps, for step t."""
    a = list(held)
    square = gram[a][:, a]  # (k, k)
    eye = torch.eye(len(a), dtype=gram.dtype)
    return torch.linalg.solve(square + ridge * square.diagonal().mean() * eye, gram[a, t])

"""One uncached run as a matrix of inner products: the error of every linear estimator at every step follows from it.

With y_i the flow that leaves a site at step i and G its inner products, summed over a calibration batch, the error of
standing in at step t by sum_k w_k y_k is a quadratic form:

    |sum_k w_k y_k - y_t|^2 = w' G w - 2 w' g_t + G_tt

so all gaps, all schedules and all estimators are judged after a single run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from skipdit.core.backbone import Backbone
from skipdit.core.policy import Flow, Memory, Moment, Site, Span, Step


@dataclass(frozen=True)
class Cuts:
    """All blocks in as many spans as there are tails: one ends where each Inner(k, k) ends, so that a run shows all."""

    tails: tuple[int, ...]

    def __call__(self, model: nn.Module, backbone: Backbone) -> list[Site]:
        ends = sorted({(backbone.depth(model) - tail) * backbone.unit for tail in self.tails})
        return [Span(start, stop) for start, stop in pairwise([0, *ends])]


class Watch:
    """A schedule that always computes and watches: attach it to `Cuts`, sample, then read `grams`.

    grams    {where the span ends: (T, T) inner products of what leaves it, main stream, float64}

    Holds the flow of all steps while the run lasts: T times the main stream for every span.
    """

    gate: ClassVar[bool] = False

    def __init__(self, steps: int):
        self.steps = steps
        self.grams: dict[int, Tensor] = {}

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        return True

    def observe(self, memory: Memory, step: Step, site: Site, x: Flow, y: Flow) -> None:
        """Add the products of this step's flow with those of all steps of the same stream up to it."""
        assert isinstance(site, Span)
        now = y[0].detach().float().flatten()  # (B, T, D) -> (N,)
        if "flow" not in memory:
            memory["flow"] = now.new_empty(self.steps, len(now))
        flow, k = memory["flow"], step.index
        flow[k] = now
        gram = self.grams.setdefault(site.stop, torch.zeros(self.steps, self.steps, dtype=torch.float64))
        products = (flow[: k + 1] @ now).double().cpu()  # (k + 1,)
        gram[k, : k + 1] += products
        gram[:k, k] += products[:-1]


def error(gram: Tensor, held: Sequence[int], weights: Sequence[float], t: int) -> float:
    """|sum_k w_k y_k - y_t|^2 / |y_t|^2, the relative squared error of standing in at step t."""
    w = torch.tensor(weights, dtype=gram.dtype)  # (k,)
    a = list(held)
    square = w @ gram[a][:, a] @ w - 2 * w @ gram[a, t] + gram[t, t]
    return max(0.0, (square / gram[t, t]).item())


def curve(gram: Tensor, gap: int) -> list[float]:
    """The relative error, as a norm, of holding the value of `gap` steps before; step t of the result is t + gap."""
    return [error(gram, [t - gap], [1.0], t) ** 0.5 for t in range(gap, len(gram))]

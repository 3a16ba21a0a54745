"""What stands in for work that is spared: weighted sums of what was computed before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial
from typing import Any

from torch import Tensor

from skipdit.core.check import whole
from skipdit.core.policy import Flow, Memory, Step

Rule = Callable[[Sequence[int], int], list[float]]  # (computed steps, newest first; this step) -> their weights


@dataclass(frozen=True)
class Estimate:
    """A weighted sum of the last `keep` outputs of a site, or, with `change`, of what it added to its input."""

    rule: Rule
    keep: int = 1
    change: bool = False

    def __post_init__(self) -> None:
        whole(self, "keep", self.keep, low=1)

    def __repr__(self) -> str:
        name = getattr(self.rule, "__name__", repr(self.rule))
        return f"Estimate({name}, keep={self.keep}, change={self.change})"

    def observe(self, memory: Memory, step: Step, x: Flow, y: Flow) -> None:
        value = tuple(_minus(b, a) for a, b in zip(x, y, strict=True)) if self.change else y
        memory["seen"] = [(step.index, value), *memory.get("seen", [])][: self.keep]

    def predict(self, memory: Memory, step: Step, x: Flow) -> Flow:
        seen = memory["seen"]
        weights = self.rule([index for index, _ in seen], step.index)
        value: Flow = tuple(_weighted(weights, list(each)) for each in zip(*(flow for _, flow in seen), strict=True))
        return tuple(_plus(a, b) for a, b in zip(x, value, strict=True)) if self.change else value


def _minus(b: Any, a: Any) -> Any:
    """What was added; a stream that is not there (SD3's last block drops the text) stays None."""
    return None if b is None else b - a


def _plus(a: Any, b: Any) -> Any:
    return None if b is None else a + b


def _weighted(weights: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    """sum w_i v_i; a single weight of 1 hands the tensor on as it is."""
    if tensors[0] is None or (weights[0] == 1 and not any(weights[1:])):
        return tensors[0]
    total = tensors[0] * weights[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total = total + tensor * weight
    return total


def last(seen: Sequence[int], at: int) -> list[float]:
    """The newest value, unchanged."""
    return [1.0] + [0.0] * (len(seen) - 1)


def polynomial(seen: Sequence[int], at: int) -> list[float]:
    """Lagrange: the polynomial through all remembered values, exact for uneven gaps too."""
    weights = []
    for i in seen:
        weight = 1.0
        for j in seen:
            if j != i:
                weight *= (at - j) / (i - j)
        weights.append(weight)
    return weights


def differences(seen: Sequence[int]) -> list[list[float]]:
    """TaylorSeer's derivatives of order 0, 1, ... at the newest step, each as weights of the remembered values."""

    def derivative(order: int, k: int) -> list[float]:
        if order == 0:
            return [float(i == k) for i in range(len(seen))]
        newer, older = derivative(order - 1, k), derivative(order - 1, k + 1)
        return [(a - b) / (seen[k] - seen[k + 1]) for a, b in zip(newer, older, strict=True)]

    return [derivative(order, 0) for order in range(len(seen))]


def taylor(seen: Sequence[int], at: int) -> list[float]:
    """TaylorSeer (arXiv 2503.06923, eq. 8): differences of differences, each over its own gap, as derivatives.

    It is not exact even for a parabola, on even steps or uneven ones; `polynomial` is.
    """
    terms, ahead = differences(seen), at - seen[0]
    return [sum(ahead**n / factorial(n) * term[i] for n, term in enumerate(terms)) for i in range(len(seen))]


def adams_bashforth(seen: Sequence[int], at: int) -> list[float]:
    """Newest value plus the two-step Adams-Bashforth slope (3 d_0 - d_1) / 2 of the newest differences."""
    if len(seen) < 3:
        return polynomial(seen, at)
    first, second, ahead = seen[0] - seen[1], seen[1] - seen[2], at - seen[0]
    a, b = 1.5 * ahead / first, 0.5 * ahead / second
    return [1 + a, -a - b, b] + [0.0] * (len(seen) - 3)


def hold() -> Estimate:
    """The site's last output, as it was."""
    return Estimate(last)


def residual() -> Estimate:
    """The site's input plus what the site last added to its own."""
    return Estimate(last, change=True)


def forecast(order: int = 1, change: bool = False, rule: Rule = polynomial) -> Estimate:
    """An extrapolation of the given order from the last order + 1 computed steps."""
    whole(Estimate(rule), "order", order, low=1)
    return Estimate(rule, keep=order + 1, change=change)

"""SmoothCache: how far a part's output moves from step to step, and the schedule that follows from a threshold.

Joseph Liu et al., "SmoothCache: A Universal Inference Acceleration Technique for Diffusion Transformers",
arXiv 2411.10510, sec. 3.2, and the schedule as the authors' code generates it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar

from skipdit.core.check import whole
from skipdit.core.policy import Flow, Leaf, Memory, Moment, Site, Step
from skipdit.methods.smoothcache import schedule

Rows = Sequence[Sequence[float]]  # row r: the error of reusing what was computed r + 1 steps before


class Curves:
    """A schedule that always computes and watches: attach it with any estimator, sample, then read `rows`.

    lookahead    the largest gap R; a schedule stands in at most R steps in a row

    The error is |y_i - y_{i+r+1}|_1 / |y_{i+r+1}|_1 over the whole batch, in float32, by site, and the mean over all
    sites of a kind: "attn", "mlp", "cross", or "span".
    """

    gate: ClassVar[bool] = False

    def __init__(self, lookahead: int = 3):
        whole("Curves", "lookahead", lookahead, low=1)
        self.lookahead = lookahead
        self._seen: dict[tuple[str, int, int], list[float]] = defaultdict(list)  # (kind, row, step) -> errors

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        return True

    def observe(self, memory: Memory, step: Step, site: Site, x: Flow, y: Flow) -> None:
        now, held = y[0].detach().float(), memory.get("held", [])  # newest first
        for row, before in enumerate(held):
            change = ((before - now).abs().sum() / now.abs().sum()).item()
            self._seen[kind_of(site), row, step.index - row - 1].append(change)
        memory["held"] = [now.clone(), *held][: self.lookahead]

    def rows(self, kind: str = "span") -> list[list[float]]:
        """Row r holds the error between step i and step i + r + 1 at place i. Raises ValueError for an unknown kind."""
        kinds = sorted({k for k, _, _ in self._seen})
        if kind not in kinds:
            raise ValueError(f"curves: nothing of kind {kind!r} was watched; there is {', '.join(kinds) or 'nothing'}")
        found: list[list[float]] = []
        for row in range(self.lookahead):
            places = sorted(i for k, r, i in self._seen if k == kind and r == row)
            found.append([_mean(self._seen[kind, row, i]) for i in places])
        return found

    def kinds(self) -> dict[str, list[list[float]]]:
        """Every kind's rows."""
        return {kind: self.rows(kind) for kind in sorted({k for k, _, _ in self._seen})}


def kind_of(site: Site) -> str:
    """What a plan calls a site: the kind of a part, or "span"."""
    return (site.kind or site.path.rpartition(".")[2]) if isinstance(site, Leaf) else "span"


def smoothcache(rows: Rows, threshold: float, steps: int) -> tuple[int, ...]:
    """The steps that SmoothCache computes, by the search of `methods.smoothcache.schedule`."""
    return tuple(i for i, bit in enumerate(schedule(rows, threshold, steps)) if bit == "1")


def smoothcache_schedules(kinds: Mapping[str, Rows], threshold: float, steps: int) -> dict[str, tuple[int, ...]]:
    """Each kind's own schedule, as published: all depths of one kind share it."""
    return {kind: smoothcache(rows, threshold, steps) for kind, rows in kinds.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

"""What methods with a calibration of their own want to know of a model, measured on one uncached run each."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import ClassVar

from torch import Tensor

from skipdit.core.policy import Flow, Memory, Moment, Policy, Site, Step
from skipdit.core.what import hold
from skipdit.core.when import relative_change
from skipdit.core.where import Inner, Parts
from skipdit.methods.teacache import fitted, modulated
from skipdit.plan import linear
from skipdit.plan.curves import Curves
from skipdit.plan.study import Study


def smoothcache_curves(study: Study, parts: Sequence[str] = ("attn", "mlp"), lookahead: int = 3) -> Curves:
    """The error curves of each kind of part, for `curves.smoothcache_schedules` and `methods.smoothcache.schedule`."""
    curves = Curves(lookahead)
    study.reference = study.draw(Policy(Parts(tuple(parts)), curves, hold()))
    return curves


class Ratios:
    """A schedule that watches how fast the residual of all blocks grows or shrinks (MagCache, arXiv 2506.09045, eq. 5).

    seen    step -> mean over tokens of |r_t| / |r_t-1|, of every stream
    """

    gate: ClassVar[bool] = False

    def __init__(self) -> None:
        self.seen: dict[int, list[float]] = {0: [1.0]}

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        return True

    def observe(self, memory: Memory, step: Step, site: Site, x: Flow, y: Flow) -> None:
        now: Tensor = (y[0] - x[0]).detach().float().norm(dim=-1)  # (B, T)
        if "norm" in memory:
            self.seen.setdefault(step.index, []).append((now / memory["norm"]).mean().item())
        memory["norm"] = now


def magcache_ratios(study: Study) -> tuple[float, ...]:
    """g of every step of the run, for `methods.magcache(ratios)`; the first is 1 and not used."""
    ratios = Ratios()
    study.reference = study.draw(Policy(Inner(0, 0), ratios, hold()))
    return tuple(fmean(ratios.seen[step]) for step in range(study.steps))


class Changes:
    """Always computes, and watches how far the modulated input of the first block and the output of the last one move.

    inputs, outputs    relative L1 change from each step to the next (TeaCache, arXiv 2411.19108, sec. 3.3)
    """

    gate: ClassVar[bool] = True  # it wants to see the input

    def __init__(self) -> None:
        self.inputs: list[float] = []
        self.outputs: list[float] = []

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        assert moment is not None
        _note(self.inputs, memory, "input", modulated(moment))
        return True

    def observe(self, memory: Memory, step: Step, site: Site, x: Flow, y: Flow) -> None:
        _note(self.outputs, memory, "output", y[0])


def _note(changes: list[float], memory: Memory, name: str, now: Tensor) -> None:
    if name in memory:
        changes.append(relative_change(now, memory[name]))
    memory[name] = now


def teacache_polynomial(study: Study, degree: int = 4) -> tuple[float, ...]:
    """The polynomial from the input's change to the output's, for `methods.teacache(polynomial=...)`, in one call.

    Raises ValueError for a run too short for the degree.
    """
    changes = Changes()
    study.reference = study.draw(Policy(Inner(0, 0), changes, hold()))
    return fitted(changes.inputs, changes.outputs, degree)


def correction(study: Study, path: Path, computed: Sequence[int], branch: int = 1, rank: int = 16) -> None:
    """Fit the correction of `methods.skip_correction(path)` to one uncached run and write it down."""
    watch = linear.Differences(computed)
    study.reference = study.draw(Policy(Inner(branch, branch), watch, hold()))
    if watch.moments is None:
        raise ValueError(f"correction: all of {study.steps} steps are computed: there is nothing to correct")
    linear.save(linear.fit(watch.moments, rank), path)

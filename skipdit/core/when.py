"""When work is done anyway: schedules, which know only the clock, and gates, which look at tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from skipdit.core.check import number, whole, window
from skipdit.core.policy import Flow, Memory, Moment, Site, Step, When


def ends(owner: object, step: Step, tail: int) -> bool:
    """Whether a step is one of the run's last `tail`. Raises ValueError where the number of steps isn't known."""
    if tail and step.total is None:
        raise ValueError(f"{owner} needs the number of steps: pass timesteps to attach, or use skipdit.sample")
    return tail > 0 and step.index >= (step.total or 0) - tail


@dataclass(frozen=True)
class Every:
    """Compute the first of every `n` steps, all of the first `warmup`, and all of the last `tail`."""

    n: int
    warmup: int = 0
    tail: int = 0
    gate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole(self, "n", self.n, low=1)
        whole(self, "warmup", self.warmup)
        whole(self, "tail", self.tail)

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        if step.index < self.warmup or ends(self, step, self.tail):
            return True
        return (step.index - max(0, self.warmup - 1)) % self.n == 0


@dataclass(frozen=True)
class At:
    """Compute at these steps (and at the first)."""

    steps: tuple[int, ...]
    gate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for step in self.steps:
            whole(self, "steps", step)
        object.__setattr__(self, "steps", tuple(sorted(set(self.steps) | {0})))

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        return step.index in self.steps


@dataclass(frozen=True)
class Mask:
    """One bit a step, such as "1001010": 1 is computed, 0 is stood in for. It is made for that number of steps."""

    bits: str
    gate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.bits, str) or not self.bits or set(self.bits) - {"0", "1"}:
            raise ValueError(f"Mask: bits={self.bits!r} must be a string of 0 and 1, one a step, such as '1001010'")

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        if step.index >= len(self.bits) or step.total not in (None, len(self.bits)):
            raise ValueError(
                f"{self} is for {len(self.bits)} steps, but step {step.index} of {step.total or 'many'} came: "
                "calibrate for that number of steps"
            )
        return self.bits[step.index] == "1"


@dataclass(frozen=True)
class ByKind:
    """A schedule for each kind of site: ByKind((("attn", Every(2)), ("cross", Every(6)))).

    A site of a kind that isn't named is computed. One without a kind stands for all: computed where all kinds are.
    """

    schedules: tuple[tuple[str, When], ...]
    gate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.schedules:
            raise ValueError("ByKind: schedules=() names no kind of site")
        for kind, when in self.schedules:
            if when.gate:
                raise TypeError(f"ByKind: {when!r} for {kind!r} is a gate; each kind takes a schedule")

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        asked = [pair for pair in self.schedules if site.kind in ("", pair[0])]
        verdicts = [when(memory.setdefault(kind, {}), step, site, moment) for kind, when in asked]
        return all(verdicts)


@dataclass(frozen=True)
class Window:
    """Ask `inside` between two bounds; compute everywhere else.

    hi    compute at timesteps at or above it; the phase of `inside` counts from the last such step
    lo    compute at timesteps at or below it

    A bound below 1 is a fraction of the run: hi=0.7 computes the first 30 % of the steps, lo=0.05 the last 5 %.
    """

    inside: When
    hi: float | None = None
    lo: float | None = None
    gate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        window(self, self.hi, self.lo)
        if self.hi is not None and self.lo and (self.hi < 1) != (self.lo < 1):
            raise ValueError(f"Window: hi={self.hi} and lo={self.lo} mix a fraction of the run with a timestep")
        if self.inside.gate:
            raise TypeError(f"Window: {self.inside!r} is a gate; a window holds a schedule")

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        if self.hi is not None and _clock(step, self.hi, self) >= self.hi:
            memory["opened"] = step.index
            return True
        if self.lo is not None and _clock(step, self.lo, self) <= self.lo:
            return True
        opened = memory.setdefault("opened", step.index)
        inner = step._replace(index=step.index - opened, total=step.total and step.total - opened)
        return self.inside(memory.setdefault("inside", {}), inner, site, moment)


def _clock(step: Step, bound: float, owner: object) -> float:
    """The step on the scale of a bound: its timestep, or the fraction of the run that lies ahead of it."""
    if bound >= 1 or bound == 0:
        if step.t is None:
            raise ValueError(f"{owner} needs timesteps: pass them to attach, or use skipdit.sample")
        return step.t
    if step.total is None:
        raise ValueError(f"{owner} counts in fractions and needs the number of steps: pass timesteps to attach")
    return (step.total - step.index) / step.total


def head_change(moment: Moment) -> Tensor:
    """What the blocks before the site added to the main stream (B, T, D): First Block Cache's probe."""
    return moment.entry[0] - moment.start[0]


@dataclass(frozen=True)
class Drift:
    """Compute when a probe has moved by more than `threshold` since the last computed step (relative L1).

    The mean runs over the batch, so one image can decide for another. NaN means compute. Reads one number a pass, which
    synchronises the device.
    """

    threshold: float
    probe: Callable[[Moment], Tensor] = head_change
    gate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number(self, "threshold", self.threshold, strict=True)

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        assert moment is not None
        memory["now"] = now = self.probe(moment)
        last: Any = memory.get("probe")
        if last is None or last.shape != now.shape:
            return True
        return not relative_change(now, last) <= self.threshold

    def observe(self, memory: Memory, step: Step, site: Site, x: Flow, y: Flow) -> None:
        """The step was computed, whoever asked for it: the next ones are compared with it."""
        if "now" in memory:
            memory["probe"] = memory.pop("now")


def relative_change(now: Tensor, last: Tensor) -> float:
    """mean |now - last| / mean |last|, over everything. Waits for the device. Raises ValueError for another shape."""
    if now.shape != last.shape:
        raise ValueError(
            f"a gate remembers {tuple(last.shape)} but now gets {tuple(now.shape)}: one batch shape a run; attach anew "
            "for another batch"
        )
    return ((now - last).abs().mean() / last.abs().mean()).item()


@dataclass(frozen=True)
class Guarded:
    """A gate that is overruled: the first `warmup` and last `tail` steps are computed, and at most `most` in a row
    are stood in for. The gate sees every step all the same."""

    inside: When
    warmup: int = 0
    tail: int = 0
    most: int | None = None
    gate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole(self, "warmup", self.warmup)
        whole(self, "tail", self.tail)
        if self.most is not None:
            whole(self, "most", self.most, low=1)
        if not self.inside.gate:
            raise TypeError(f"Guarded: {self.inside!r} is a schedule; Every and Window have bounds of their own")

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        verdict = self.inside(memory.setdefault("inside", {}), step, site, moment)
        row = memory.get("row", 0)
        verdict |= step.index < self.warmup or ends(self, step, self.tail) or row == self.most
        memory["row"] = 0 if verdict else row + 1
        return verdict

    def observe(self, memory: Memory, step: Step, site: Site, x: Flow, y: Flow) -> None:
        if hasattr(self.inside, "observe"):
            self.inside.observe(memory["inside"], step, site, x, y)

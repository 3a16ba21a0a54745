"""attach(pipe, policy): caching for any diffusers pipeline, or any model, in one line."""

import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from skipdit.backbones.diffusers import backbone_of, known
from skipdit.core.attach import attach as attach_one
from skipdit.core.backbone import Backbone
from skipdit.core.clock import Clock
from skipdit.core.policy import Policy
from skipdit.core.report import Report, combined
from skipdit.core.run import Agree, Loop, Run


class attach:
    """Sample with a policy: `with attach(pipe, policy) as run: pipe(...)`, then `run.report()`.

    target       a diffusers pipeline, or a model. Of a pipeline, every transformer or U-Net that is known gets the
                 policy: it is attached to this instance and to no other, and it is found out from the calls when a run
                 begins, which step it is at and which guidance branch
    timesteps    of the sampler, for schedules that count from the end in a loop of your own around a model
    backbone     how an unknown class is laid out; `skipdit.infer(model, ...)` finds it out
    group        the processes that must decide alike, where a gate decides: all of them when left out, None for none

    The block is for this thread or task; `attach(pipe, policy).enable()` is for all threads until `disable()`, and
    `attached.report()` then tells of this thread's last run. A pipeline with one transformer gives its Run, one with
    several gives Runs, by component. Raises ValueError or TypeError, by name, for what doesn't fit; RuntimeError where
    a policy is attached already.
    """

    def __init__(
        self,
        target: Any,
        policy: Policy,
        timesteps: Sequence[float] | Tensor | None = None,
        backbone: Backbone | None = None,
        group: Any = "all",
    ):
        models, self.target = _models(target, backbone), target
        self._clocks, agree = threading.local(), _agreement(group)
        loop = self._loop = None if isinstance(target, nn.Module) else Sampler(target)
        self._each = {
            name: attach_one(model, policy, timesteps, backbone or backbone_of(model), loop, self._clock, agree)
            for name, model in models.items()
        }
        self._exits = ExitStack()

    def _clock(self) -> Clock:
        """This thread's clock, shared by the transformers that take turns in it."""
        if not hasattr(self._clocks, "clock"):
            self._clocks.clock = Clock()
        return self._clocks.clock

    def __enter__(self) -> "Run | Runs":
        with ExitStack() as exits:
            runs = {name: exits.enter_context(one) for name, one in self._each.items()}
            if self._loop is not None:
                exits.enter_context(self._loop.watched())
            self._exits = exits.pop_all()
        return next(iter(runs.values())) if len(runs) == 1 else Runs(runs)

    def __exit__(self, *error: object) -> None:
        self._exits.close()

    def enable(self) -> "attach":
        """Attach until `disable()`, for every thread; gives itself back."""
        with ExitStack() as exits:
            for one in self._each.values():
                one.enable()
                exits.callback(one.disable)
            self._exits = exits.pop_all()
        return self

    def disable(self) -> None:
        """Take the policy off. Does nothing where it is off already."""
        self._exits.close()

    @property
    def runs(self) -> dict[str, Run]:
        """This thread's run of each transformer that has run: the one going on, or the last."""
        return {name: one.run for name, one in self._each.items() if one.has_run}

    def report(self) -> Report:
        """Figures of this thread's last run, all transformers together."""
        return combined([run.report() for run in self.runs.values() if run.latest])


class Runs(Mapping[str, Run]):
    """The runs of a pipeline's transformers, by the names of the components."""

    def __init__(self, runs: dict[str, Run]):
        self._runs = runs

    def __getitem__(self, name: str) -> Run:
        return self._runs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def report(self) -> Report:
        """Figures of all of them together."""
        return combined([run.report() for run in self._runs.values() if run.latest])


class Sampler(Loop):
    """What a pipeline's scheduler tells of the loop: looked at, never touched.

    A new list of timesteps is a new run, always. Its count of steps is believed only where the pipeline runs in the
    thread that attached to it: elsewhere another pipeline may be driving the same transformer.
    """

    def __init__(self, pipe: Any):
        self._pipe = weakref.ref(pipe)
        self._here = False
        self._host: tuple[Any, list[float]] = (None, [])

    def watched(self) -> ExitStack:
        """A context in which this thread alone drives the pipeline."""
        self._here = True
        exits = ExitStack()
        exits.callback(setattr, self, "_here", False)
        return exits

    def era(self) -> Any:
        return getattr(self._scheduler(), "timesteps", None)

    def mark(self) -> Any:
        return getattr(self._scheduler(), "_step_index", None) if self._here else None

    def read(self, timestep: Tensor) -> float | None:
        """Where the timestep lies on a device: a view of the scheduler's list, or the step that the scheduler is at."""
        timesteps = self.era()
        if timestep.device.type == "cpu" or not isinstance(timesteps, Tensor):
            return None
        if timestep.untyped_storage().data_ptr() == timesteps.untyped_storage().data_ptr():
            return self._times()[timestep.storage_offset() - timesteps.storage_offset()]
        scheduler = self._scheduler()
        if not self._here or not hasattr(scheduler, "_step_index"):
            return None
        return self._times()[scheduler._step_index or getattr(scheduler, "_begin_index", None) or 0]

    def total(self, t: float | None) -> int | None:
        times = self._times()
        if t is None or not times:
            return None
        first = min(range(len(times)), key=lambda i: abs(times[i] - t))
        ahead = times[first:]
        return len(ahead) if self.mark_counts() else 1 + sum(a != b for a, b in pairwise(ahead))

    def mark_counts(self) -> bool:
        """Whether the scheduler's own count tells steps apart that have the same timestep."""
        return self._here and hasattr(self._scheduler(), "_step_index")

    def _scheduler(self) -> Any:
        return getattr(self._pipe(), "scheduler", None)

    def _times(self) -> list[float]:
        """The scheduler's timesteps, falling from about 1000, read once a run."""
        timesteps = self.era()
        if timesteps is None:
            return []
        if self._host[0] is not timesteps:
            times = [float(t) for t in (timesteps.tolist() if isinstance(timesteps, Tensor) else timesteps)]
            scale = 1000.0 if max(times, default=0) <= 1 else 1.0
            rises = len(times) > 1 and times[0] < times[-1]
            self._host = (timesteps, [1000 - scale * t if rises else scale * t for t in times])
        return self._host[1]


def _models(target: Any, backbone: Backbone | None) -> dict[str, nn.Module]:
    """The transformers and U-Nets to attach to, by name. Raises TypeError where there are none."""
    if isinstance(target, nn.Module):
        return {"": target}
    parts = getattr(target, "components", None)
    if not isinstance(parts, Mapping):
        raise TypeError(f"attach: {type(target).__name__} is neither a model nor a diffusers pipeline")
    found = {name: part for name, part in parts.items() if known(part)}
    if not found and backbone is not None:
        found = {name: part for name, part in parts.items() if _fits(part, backbone)}
    if not found:
        others = [f"{name} ({type(part).__name__})" for name, part in parts.items() if isinstance(part, nn.Module)]
        raise TypeError(
            f"attach: {type(target).__name__} has no denoiser that skipdit knows among {', '.join(others) or 'none'}"
            ": pass backbone=skipdit.infer(model, ...)"
        )
    unique = {id(part): name for name, part in reversed(found.items())}  # one that serves under two names counts once
    return {name: found[name] for name in sorted(unique.values(), key=list(found).index)}


def _fits(part: Any, backbone: Backbone) -> bool:
    try:
        return isinstance(part, nn.Module) and bool(backbone.order(part))
    except TypeError:
        return False


def _agreement(group: Any) -> Agree | None:
    """Lets all processes of a group take one verdict at a gate: any that computes makes all compute."""
    if group is None or not dist.is_available() or not dist.is_initialized():
        return None
    group = dist.group.WORLD if group == "all" else group
    if dist.get_world_size(group) < 2:
        return None

    def agree(verdict: bool) -> bool:
        device = "cpu" if "gloo" in dist.get_backend(group) else torch.accelerator.current_accelerator()
        flag = torch.tensor(int(verdict), device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=group)
        return bool(flag.item())

    return agree

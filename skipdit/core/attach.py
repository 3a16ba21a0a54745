"""Put a policy on a model for one run, and leave nothing behind."""

import inspect
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from skipdit.core.backbone import Backbone
from skipdit.core.flops import shapes_of
from skipdit.core.policy import Leaf, Policy, Site, Span, Step
from skipdit.core.run import Run, active, entered
from skipdit.core.stack import Stack

_lock = threading.Lock()
_installed: "weakref.WeakKeyDictionary[nn.Module, Installed]" = weakref.WeakKeyDictionary()


@contextmanager
def attach(
    model: nn.Module,
    policy: Policy,
    timesteps: Sequence[float] | Tensor | None = None,
    backbone: Backbone | None = None,
) -> Iterator[Run]:
    """Sample with a policy: `with attach(model, policy) as run: ...`, then `run.report()`.

    timesteps    of the sampler, for schedules that count from the end in a loop that is not ours; usually left out
    backbone     how the model is laid out, where its class doesn't say

    The run belongs to this thread (or asyncio task): others may sample the same model with other policies at once.
    Raises ValueError or TypeError, by name, for a policy that doesn't fit the model; RuntimeError when nested.
    """
    if not isinstance(policy, Policy):
        raise TypeError(f"attach: {policy!r} is no policy; call the method first, such as methods.skip_cache(every=2)")
    if active(model) is not None:
        raise RuntimeError(
            f"{type(model).__name__} has a policy attached in this thread already: leave that block first"
        )
    backbone = backbone or Backbone.of(model)
    sites = policy.where(model, backbone)
    if not sites:
        raise ValueError(f"{policy.where!r} matches nothing in {type(model).__name__}: nothing would be spared")
    stack, release = _install(model, backbone, sites)
    try:
        _check_joins(model, stack, sites)
        total = None if timesteps is None else len(timesteps)
        run = Run(policy, {site: _paths(site, stack, backbone) for site in sites}, len(stack), total)
        with entered(run, model, stack):
            try:
                yield run
            finally:
                run.release()
    finally:
        release()


def plan(policy: Policy, timesteps: Sequence[float] | Tensor) -> list[bool]:
    """What a schedule decides at every step of a sampler: True is computed, False is stood in for.

    Raises TypeError for a gate, which decides by what it sees.
    """
    if policy.when.gate:
        raise TypeError(f"{policy.when!r} is a gate: it decides during the run, so there is no plan beforehand")
    times = [float(t) for t in timesteps]
    memory: dict[str, Any] = {}
    decided = [policy.when(memory, Step(i, len(times), t), Span(1, 2), None) for i, t in enumerate(times)]
    return [i == 0 or verdict for i, verdict in enumerate(decided)]


def _check_joins(model: nn.Module, stack: Stack, sites: Sequence[Site]) -> None:
    for span in (site for site in sites if isinstance(site, Span)):
        for target, (source, _) in stack.joins.items():
            if span.start <= source < span.stop and not span.start <= target < span.stop:
                raise ValueError(
                    f"{span} would skip block {source}, whose output joins block {target} outside it in "
                    f"{type(model).__name__}: end the span after block {target} or start it after block {source}"
                )


def _paths(site: Site, stack: Stack, backbone: Backbone) -> list[str]:
    """The modules that a site spares."""
    if isinstance(site, Leaf):
        return [site.path]
    inside = range(site.start, site.stop)
    return [f"{backbone.blocks}.{i}" for i in inside] + [f"skip_branches.{i}" for i in inside if i in stack.joins]


# ---- the one way in, and out


class Installed:
    """What several runs on one model share while at least one lasts: the stack, the hooks, the shadowed parts."""

    def __init__(self, model: nn.Module, backbone: Backbone):
        self.users = 0
        self.original = backbone.list_of(model)
        self.stack = self.original if isinstance(self.original, Stack) else Stack(self.original, backbone.contract)
        self.backbone = backbone
        self.shadowed: set[nn.Module] = set()
        setattr(model, backbone.blocks, self.stack)
        opened = model.register_forward_pre_hook(
            partial(_open_pass, backbone.timestep, _place(model, backbone)), with_kwargs=True
        )
        closed = model.register_forward_hook(_close_pass)
        self.hooks = [opened, closed]

    def shadow(self, model: nn.Module, leaf: Leaf) -> None:
        part = model.get_submodule(leaf.path)
        if part not in self.shadowed:
            part.forward = partial(_through_part, weakref.ref(model), leaf, part.forward)
            self.shadowed.add(part)

    def remove(self, model: nn.Module) -> None:
        for part in self.shadowed:
            del part.forward
        for hook in self.hooks:
            hook.remove()
        setattr(model, self.backbone.blocks, self.original)


def _install(model: nn.Module, backbone: Backbone, sites: Sequence[Site]) -> tuple[Stack, Callable[[], None]]:
    """The model's stack, and what gives it back."""
    with _lock:
        if model not in _installed:
            _installed[model] = Installed(model, backbone)
        shared = _installed[model]
        shared.users += 1

    def release() -> None:
        with _lock:
            shared.users -= 1
            if shared.users == 0:
                _installed.pop(model).remove(model)

    try:
        with _lock:
            for leaf in (site for site in sites if isinstance(site, Leaf)):
                shared.shadow(model, leaf)
    except BaseException:
        release()
        raise
    return shared.stack, release


def _open_pass(name: str, place: int | None, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    run = active(model)
    if run is None:
        return
    if run.call is None:
        run.call = (model, (shapes_of(args), shapes_of(kwargs)))
    run.open_pass(lambda: _time(name, place, args, kwargs))


def _close_pass(model: nn.Module, args: Any, output: Any) -> None:
    run = active(model)
    if run is not None:
        run.close_pass()


def _place(model: nn.Module, backbone: Backbone) -> int | None:
    """Where the timestep stands among the arguments of the model's forward, if it has one."""
    names = list(inspect.signature(type(model).forward).parameters)[1:]
    return names.index(backbone.timestep) if backbone.timestep in names else None


def _time(name: str, place: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """The timestep of a call that no sampler announced: reads one number from the device."""
    value = kwargs.get(name)
    if value is None and place is not None and place < len(args):
        value = args[place]
    return None if value is None else float(value.flatten()[0]) if isinstance(value, Tensor) else float(value)


def _through_part(root: Any, leaf: Leaf, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A part's forward while a run may be on: run it, or let the run stand in."""
    model = root()
    run = None if model is None else active(model)
    if run is None or leaf not in run.sites:
        return forward(*args, **kwargs)
    run.enter_part(leaf, (args[0] if args else next(iter(kwargs.values())),))
    if not run.computes(leaf):
        return run.predict(leaf)[0]
    y = forward(*args, **kwargs)
    run.observe(leaf, (y,))
    return y

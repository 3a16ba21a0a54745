"""Put a policy on a model, for a block of code or until it is taken off, and leave nothing behind."""

import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skipdit.core.backbone import Backbone
from skipdit.core.clock import Call, Clock
from skipdit.core.compiled import refuse_compiled_around, refuse_tracing
from skipdit.core.foreign import refuse_other_cache, refuse_split_groups
from skipdit.core.policy import Leaf, Policy, Site, Span, Step
from skipdit.core.run import Agree, Loop, Run, active, entered, idle
from skipdit.core.stack import Gate, Stack, Trunk, install, trunk_of
from skipdit.core.what import hold

_lock = threading.Lock()
_installed: "weakref.WeakKeyDictionary[nn.Module, Installed]" = weakref.WeakKeyDictionary()


class attach:
    """Sample with a policy: `with attach(model, policy) as run: ...`, then `run.report()`.

    timesteps    of the sampler, for schedules that count from the end in a loop that is not ours; usually left out
    backbone     how the model is laid out, where its class doesn't say
    loop         what is known of the loop around the model
    clock        gives a thread's clock, shared by the models of one loop
    agree        one process's verdict -> that of all, where several processes must decide alike

    The run belongs to this thread (or asyncio task): others may sample the same model with other policies at once.
    `enable()` attaches for all threads until `disable()`; each thread then has a run of its own, `attached.run`.
    Raises ValueError or TypeError, by name, for a policy that doesn't fit the model; RuntimeError when nested.
    """

    def __init__(
        self,
        model: nn.Module,
        policy: Policy,
        timesteps: Sequence[float] | Tensor | None = None,
        backbone: Backbone | None = None,
        loop: Loop | None = None,
        clock: Callable[[], Clock] = Clock,
        agree: Agree | None = None,
    ):
        if not isinstance(policy, Policy):
            raise TypeError(
                f"attach: {policy!r} is no policy; call the method first, such as methods.skip_cache(every=2)"
            )
        self.model, self.policy, self.agree = model, policy, agree
        self.backbone = backbone or Backbone.of(model)
        self.loop, self.clock = loop, clock
        self.steps = None if timesteps is None else len(timesteps)
        self._own = threading.local()  # each thread's run while enabled
        self._runs: weakref.WeakSet[Run] = weakref.WeakSet()
        self._exits = ExitStack()

    def __enter__(self) -> Run:
        self._refuse_nested()
        trunk, sites = self._install()
        with self._exits as exits:  # whatever fails from here on undoes what was done
            run = self._made(trunk, sites)
            exits.callback(run.release)
            exits.enter_context(entered(run, self.model, trunk))
            self._own.run = run
            self._exits = exits.pop_all()
        return run

    def __exit__(self, *error: object) -> None:
        self._exits.close()

    def enable(self) -> "attach":
        """Attach until `disable()`, for every thread."""
        self._refuse_nested()
        trunk, sites = self._install()
        self._attached = trunk, sites
        _installed[self.model].standing = self
        self._exits.callback(self._stand_down, _installed[self.model])
        return self

    def disable(self) -> None:
        """Take the policy off. Does nothing where it is off already."""
        self._exits.close()

    @property
    def has_run(self) -> bool:
        return getattr(self._own, "run", None) is not None

    @property
    def run(self) -> Run:
        """This thread's run: the one going on, or the last. Raises RuntimeError before the first."""
        run = getattr(self._own, "run", None)
        if run is None:
            raise RuntimeError(f"{type(self.model).__name__} has not run in this thread since the policy was attached")
        return run

    def current(self) -> Run:
        """The run that a pass of this thread belongs to while enabled."""
        if getattr(self._own, "run", None) is None or self._own.run.over:
            self._own.run = self._made(*self._attached)
        return self._own.run

    def _stand_down(self, shared: "Installed") -> None:
        shared.standing = None
        for run in list(self._runs):
            run.release()

    def _refuse_nested(self) -> None:
        refuse_other_cache(self.model)
        shared = _installed.get(self.model)
        if active(self.model) is not None or (shared is not None and shared.standing is not None):
            raise RuntimeError(
                f"{type(self.model).__name__} has a policy attached in this thread already: leave that block, or "
                "disable it, first"
            )

    def _made(self, trunk: Trunk, sites: Sequence[Site]) -> Run:
        paths = {site: _paths(site, trunk) for site in sites}
        run = Run(self.policy, paths, len(trunk.order), self.steps, self.clock(), self.agree, self.loop)
        self._runs.add(run)
        return run

    def _install(self) -> tuple[Trunk, list[Site]]:
        model, backbone = self.model, self.backbone
        refuse_unequal_blocks(model, backbone, self.policy)
        wanted = self.policy.where(model, backbone)
        if not wanted:
            raise ValueError(
                f"{self.policy.where!r} matches nothing in {type(model).__name__}: nothing would be spared"
            )
        leaves = [site for site in wanted if isinstance(site, Leaf)]
        paths = [place.path for place in backbone.order(model)] + [leaf.path for leaf in leaves]
        refuse_compiled_around(model, paths)
        shared, release = _shared(model, backbone, leaves)
        self._exits.callback(release)
        pieces = [shared.trunk.cut(site) if isinstance(site, Span) else [site] for site in wanted]
        return shared.trunk, [site for each in pieces for site in each]


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


def refuse_unequal_blocks(model: nn.Module, backbone: Backbone, policy: Policy) -> None:
    """Raises ValueError for a U-Net where a policy compares or reckons with what enters and leaves its blocks."""
    if backbone.encoder and (policy.when.gate or policy.what != hold()):
        raise ValueError(
            f"{policy} needs a list of equal blocks, but those of {type(model).__name__}, a U-Net, differ in form: "
            "take a method that holds by a schedule, such as methods.faster_diffusion() or methods.skip_cache(every=2)"
        )


def _paths(site: Site, trunk: Trunk) -> list[str]:
    """The modules that a site spares."""
    if isinstance(site, Leaf):
        return [site.path]
    inside = range(site.start, site.stop)
    return [trunk.order[i].path for i in inside] + [f"skip_branches.{i}" for i in inside if i in trunk.joins]


# ---- the one way in, and out


@dataclass(frozen=True)
class Timestep:
    """Where a model is given the timestep."""

    name: str
    place: int | None  # among the arguments of forward
    time: Callable[[float], float]

    @classmethod
    def of(cls, model: nn.Module, backbone: Backbone) -> "Timestep":
        names = list(inspect.signature(type(model).forward).parameters)[1:]
        place = names.index(backbone.timestep) if backbone.timestep in names else None
        return cls(backbone.timestep, place, backbone.time)

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any], loop: Loop) -> tuple[float | None, float | None]:
        """The timestep of a call in the sampler's units, and what tells steps apart (see `clock.Call`).

        Of one timestep a frame or token the noisiest counts: given frames stand still at 0. Waits for the device where
        the loop doesn't know the number.
        """
        value = kwargs.get(self.name)
        if value is None and self.place is not None and self.place < len(args):
            value = args[self.place]
        if value is None:
            return None, None
        if not isinstance(value, Tensor):
            return self.time(float(value)), None
        known = loop.read(value)
        if known is not None or value.numel() == 1:
            return self.time(float(value)) if known is None else known, None
        value = value.detach().float()
        low, mean, high = torch.stack([value.min(), value.mean(), value.max()]).tolist()
        return max(self.time(low), self.time(high)), mean if low != high else None


class Installed:
    """What several runs on one model share while at least one lasts: the stacks, the hooks, the shadowed parts."""

    def __init__(self, model: nn.Module, backbone: Backbone):
        self.users = 0
        self.standing: attach | None = None  # attached for every thread
        self.originals = backbone.lists(model)
        self.trunk = trunk_of(model, backbone)
        self.shadowed: set[nn.Module] = set()
        self.here = threading.local()  # of each thread: the context of a pass while enabled, the guidance branch
        for path, found in self.originals.items():
            if isinstance(found, nn.ModuleList) and not isinstance(found, Stack):
                install(model, path, Stack(found.children(), self.trunk, path))
        for number, place in enumerate(self.trunk.order):
            if place.number is None:
                self._shadow(model.get_submodule(place.path), _through_block, self.trunk, number)
        self.names_branches = callable(getattr(model, "cache_context", None))
        if self.names_branches:  # diffusers' pipelines name guidance branches by it
            vars(model)["cache_context"] = partial(_named, self.here, model.cache_context)  # type: ignore[arg-type]
        timestep = Timestep.of(model, backbone)
        self.hooks = [
            model.register_forward_pre_hook(partial(_open_pass, self, timestep), with_kwargs=True),
            model.register_forward_hook(partial(_close_pass, self), always_call=True),
        ]

    def shadow(self, model: nn.Module, leaf: Leaf) -> None:
        self._shadow(model.get_submodule(leaf.path), _through_part, self.trunk, leaf.path)

    def _shadow(self, module: nn.Module, through: Callable[..., Any], trunk: Trunk, site: Any) -> None:
        if module not in self.shadowed:
            self.shadowed.add(module)
            name = "_compiled_call_impl" if module._compiled_call_impl is not None else "forward"
            before = vars(module).get(name)  # an offloading hook's forward, perhaps
            shadow = partial(through, trunk, site, module, getattr(module, name))
            setattr(module, name, shadow)
            vars(module)["_skipdit_shadow"] = name, before, shadow

    def remove(self, model: nn.Module) -> None:
        for part in self.shadowed:
            name, before, shadow = vars(part).pop("_skipdit_shadow")
            if vars(part).get(name) is not shadow:
                continue  # wrapped since, by an offloading hook perhaps: that stays, and ours passes through
            if before is None:
                delattr(part, name)
            else:
                setattr(part, name, before)
        for hook in self.hooks:
            hook.remove()
        if self.names_branches:
            del vars(model)["cache_context"]
        for path, found in self.originals.items():
            if isinstance(found, nn.ModuleList):
                install(model, path, found)


def _shared(model: nn.Module, backbone: Backbone, leaves: Sequence[Leaf]) -> tuple[Installed, Callable[[], None]]:
    """What is installed on the model, and what gives it back."""
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
            for leaf in leaves:
                shared.shadow(model, leaf)
    except BaseException:
        release()
        raise
    return shared, release


def _open_pass(
    shared: Installed, timestep: Timestep, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    refuse_tracing(model)
    left = vars(shared.here).pop("context", None)
    if left is not None:  # Ctrl-C in the last pass: no hook was told
        left.__exit__(None, None, None)
    run, attached = active(model), shared.standing
    if run is None and attached is not None and not idle():
        run = attached.current()
        shared.here.context = entered(run, model, shared.trunk)
        shared.here.context.__enter__()
    if run is None:
        return
    refuse_other_cache(model)
    if run.example is None:
        refuse_split_groups(model, shared.trunk.paths, run.sites.values())
        run.example = (model, (args, kwargs))
    loop = run.loop

    def call() -> Call:
        t, at = timestep.read(args, kwargs, loop)
        name = getattr(shared.here, "branch", None)
        return Call(t, at, name, _shapes(args, kwargs), loop.era(), loop.mark())

    run.open_pass(call)


def _close_pass(shared: Installed, model: nn.Module, args: Any, output: Any) -> None:
    run = active(model)
    if run is None:
        return
    context = vars(shared.here).pop("context", None)
    try:
        if output is None and sys.exc_info()[1] is not None:  # forward raised
            run.break_off()
        else:
            run.close_pass()
    finally:
        if context is not None:
            context.__exit__(None, None, None)


@contextmanager
def _named(here: threading.local, cache_context: Callable[..., Any], name: str, *args: Any, **kwargs: Any) -> Any:
    """diffusers' `cache_context`, listened in on."""
    before = getattr(here, "branch", None)
    here.branch = name
    try:
        with cache_context(name, *args, **kwargs):
            yield
    finally:
        here.branch = before


def _shapes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The shapes of the tensors that a call gives, lists of them included."""
    given = [value if isinstance(value, (list, tuple)) else (value,) for value in (*args, *kwargs.values())]
    return tuple(value.shape for values in given for value in values if isinstance(value, Tensor))


def _through_block(
    trunk: Trunk, number: int, block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """The forward of a block that is in no list."""
    run = active(trunk)
    if run is None:
        return forward(*args, **kwargs)
    run.hand(number)
    return Gate(trunk, number, forward, run, run.current.taps)(*args, **kwargs)


def _through_part(
    trunk: Trunk, path: str, part: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """A part's forward while a run may be on: run it, or let the run stand in. Each run has its own kind for a part."""
    run = active(trunk)
    leaf = None if run is None else run.leaves.get(path)
    if run is None or leaf is None:
        return forward(*args, **kwargs)
    if not run.enter_part(leaf, (args[0] if args else next(iter(kwargs.values())),), part, args, kwargs):
        flow = run.predict(leaf)
        return flow[0] if len(flow) == 1 else flow
    y = forward(*args, **kwargs)
    run.observe(leaf, y if isinstance(y, tuple) else (y,))
    return y

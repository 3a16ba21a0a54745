"""What a caching method is: where work may be spared, when it is done anyway, what stands in for it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from skipdit.core.backbone import Backbone

Flow = tuple[Tensor, ...]  # the tensors that run through the blocks, main stream first
Memory = dict[str, Any]  # what one site remembers during one run, handed in by the run


class Step(NamedTuple):
    """A place on the clock of one stream."""

    index: int  # type: ignore[assignment]  # 0 is the first step of the run
    total: int | None = None  # how many steps the run has, where that is known
    t: float | None = None  # the timestep, in the units of the sampler


class Span(NamedTuple):
    """Consecutive blocks start ... stop-1, in the order in which they run."""

    start: int
    stop: int
    kind: str = ""  # what the policy's where calls it, where its when must tell sites apart


class Leaf(NamedTuple):
    """One part of a model, such as one block's attention, by its path."""

    path: str
    kind: str = ""  # what the backbone calls it: "attn", "cross", "mlp"; or what the where does


Site = Span | Leaf
WATCHED = "watched"  # the kind of a site that is never stood in for: only the policy's when learns from it


class Moment(NamedTuple):
    """What a gate may look at."""

    start: Flow  # the flow that entered the first block in this pass
    entry: Flow  # the flow that enters the site
    block: nn.Module | None = None  # the block (or part) where the site begins
    args: tuple[Any, ...] = ()  # that it is about to be called with
    kwargs: Mapping[str, Any] = {}


class Where(Protocol):
    """Which blocks or parts may be spared."""

    def __call__(self, model: nn.Module, backbone: "Backbone") -> list[Site]: ...


class When(Protocol):
    """Whether a site is computed at a step. A schedule (gate = False) is asked before the pass, a gate during it.

    One that learns from what was computed also defines `observe(memory, step, site, x, y)`: the flow that entered and
    left the site, after the estimator has seen it.
    """

    @property
    def gate(self) -> bool: ...

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool: ...


class What(Protocol):
    """What stands in for a site that is not computed."""

    def observe(self, memory: Memory, step: Step, x: Flow, y: Flow) -> None: ...

    def predict(self, memory: Memory, step: Step, x: Flow) -> Flow: ...


@dataclass(frozen=True)
class Policy:
    """A caching method as a value: equal policies are equal, and a policy prints as it is spelled."""

    where: Where
    when: When
    what: What
    spelling: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name, method in (("where", "__call__"), ("when", "gate"), ("what", "predict")):
            if not hasattr(getattr(self, name), method) or isinstance(getattr(self, name), type):
                raise TypeError(f"policy: {name}={getattr(self, name)!r} is no {name}: see skipdit.core.{name}")

    def __str__(self) -> str:
        return self.spelling or f"Policy({self.where!r}, {self.when!r}, {self.what!r})"


def spell(method: Callable[..., Any], given: dict[str, Any]) -> str:
    """How a method's call is spelled: its first argument and whatever differs from the defaults."""
    parameters = inspect.signature(method).parameters
    shown = [
        f"{name}={given[name]!r}"
        for place, (name, parameter) in enumerate(parameters.items())
        if place == 0 or given[name] != parameter.default
    ]
    return f"{method.__name__}({', '.join(shown)})"

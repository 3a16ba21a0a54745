"""Replay a model under CUDA graphs: one graph for each plan of a schedule, such as computed and stood in."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from skipdit.backbones.diffusers import backbone_of
from skipdit.core.attach import attach
from skipdit.core.backbone import Backbone
from skipdit.core.policy import Flow, Memory, Moment, Policy, Site, Step
from skipdit.core.what import Estimate, last

Capture = Callable[[Callable[[], Any]], tuple[Any, Callable[[], None]]]  # work -> (its outputs, replay)
Plan = tuple[bool, ...]  # site by site: computed?


def cuda_graph(work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """Capture what `work` does on the GPU."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = work()
    return outputs, graph.replay


class replay:
    """Sample with a schedule under CUDA graphs, in a loop of your own:

        with replay(model, policy) as forward:
            for index, t in enumerate(timesteps):
                forward.begin(index, float(t), "cond", len(timesteps))
                noise = forward(x, t, y)

    A plan says which sites are computed. The first pass of a plan runs as it is, the second is captured, every later
    one is replayed: its inputs are copied into the buffers that were captured, and its outputs are copied out. What is
    held lies in one buffer a site, that every graph writes to or reads from. Graphs last until the block ends, from one
    picture to the next. Every stream has graphs of its own. Replayed passes run no Python: hooks don't see
    them, and the run doesn't count them.

    Raises TypeError for a gate, which decides by what it sees, for a schedule that learns, and for an estimate whose
    weights change from step to step (forecasts).
    """

    def __init__(
        self, model: nn.Module, policy: Policy, backbone: Backbone | None = None, capture: Capture = cuda_graph
    ):
        _refuse(policy)
        self.model, self.policy, self._capture = model, policy, capture
        self._plan: dict[Site, bool] = {}
        told = replace(policy, when=Told(self._plan), what=Buffered(policy.what))  # type: ignore[arg-type]
        self._attached = attach(model, told, backbone=backbone or backbone_of(model))
        self._schedules: dict[tuple[str, Site], Memory] = {}
        self._graphs: dict[Any, Graph | None] = {}
        self._step, self._stream = Step(0), "main"

    def __enter__(self) -> "replay":
        self._run = self._attached.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._graphs.clear()
        self._attached.__exit__(kind, error, trace)

    def begin(self, index: int, t: float | None = None, stream: str = "main", total: int | None = None) -> None:
        """Name the step and the stream of the pass that follows, as `Run.begin` does."""
        self._step, self._stream = Step(index, total, t), stream
        if index == 0:
            self._schedules = {key: memory for key, memory in self._schedules.items() if key[0] != stream}

    def plan(self) -> Plan:
        """What the schedule decides for every site in the pass that follows. The first step is computed."""
        verdicts = []
        for site in self._run.sites:
            memory = self._schedules.setdefault((self._stream, site), {})
            verdicts.append(self.policy.when(memory, self._step, site, None) or self._step.index == 0)
        return tuple(verdicts)

    @torch.no_grad()
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        plan = self.plan()
        key = (self._stream, plan, _described((args, kwargs)))
        if key not in self._graphs:  # the first pass of a plan allocates what the second one needs
            self._graphs[key] = None
            return self._pass(plan, args, kwargs)
        graph = self._graphs[key]
        if graph is None:
            graph = self._graphs[key] = Graph(self._capture, lambda a, k: self._pass(plan, a, k), args, kwargs)
        return graph(args, kwargs)

    def _pass(self, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One pass of the model by Python, with this plan. It is never named the first of a run: that would forget the
        buffers, which the graphs hold on to."""
        self._plan.update(zip(self._run.sites, plan, strict=True))
        self._run.begin(1, self._step.t, self._stream)
        return self.model(*args, **kwargs)

    @property
    def graphs(self) -> int:
        """How many have been captured."""
        return sum(graph is not None for graph in self._graphs.values())


class Graph:
    """One captured pass: its inputs, its outputs, and how it is done again."""

    def __init__(self, capture: Capture, work: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.inputs = tree_map_only(Tensor, torch.clone, (args, kwargs))
        self.outputs, self.again = capture(lambda: work(*self.inputs))

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for buffer, tensor in zip(_tensors(self.inputs), _tensors((args, kwargs)), strict=True):
            buffer.copy_(tensor)
        self.again()
        return tree_map_only(Tensor, torch.clone, self.outputs)


@dataclass(frozen=True)
class Told:
    """A schedule that is told its plan before each pass."""

    plan: dict[Site, bool]
    gate: ClassVar[bool] = False

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        return self.plan[site]


@dataclass(frozen=True)
class Buffered:
    """An estimate whose one remembered value stays where it is: graphs know addresses, not names."""

    inside: Estimate

    def observe(self, memory: Memory, step: Step, x: Flow, y: Flow) -> None:
        fresh: Memory = {}
        self.inside.observe(fresh, step, x, y)
        ((index, values),) = fresh["seen"]
        if "seen" not in memory:
            memory["seen"] = [(index, tuple(None if value is None else value.clone() for value in values))]
        for buffer, value in zip(memory["seen"][0][1], values, strict=True):
            if value is not None:
                buffer.copy_(value)

    def predict(self, memory: Memory, step: Step, x: Flow) -> Flow:
        return self.inside.predict(memory, step, x)


def _refuse(policy: Policy) -> None:
    if policy.when.gate:
        raise TypeError(f"replay: {policy.when!r} is a gate and decides by what it sees; a graph sees nothing anew")
    if hasattr(policy.when, "observe"):
        raise TypeError(f"replay: {policy.when!r} learns from what is computed; a graph computes without it")
    if not isinstance(policy.what, Estimate) or policy.what.rule is not last:
        raise TypeError(f"replay: the weights of {policy.what!r} change from step to step; hold() and residual() stay")


def _described(value: Any) -> Any:
    """Arguments as a key: tensors by shape, dtype and device, everything else by what it is."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype, value.device
    if isinstance(value, dict):
        return tuple((name, _described(each)) for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(_described, value))
    return value


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, value)
    return found

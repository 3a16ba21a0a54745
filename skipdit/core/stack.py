"""Lists of blocks that join skip branches and let a run stand in for blocks; their children keep their names."""

import threading
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skipdit.core.backbone import Backbone, Pairs, Place
from skipdit.core.foreign import shared_out
from skipdit.core.policy import Span
from skipdit.core.run import Run, active

Taps = dict[int, tuple[Tensor, bool]]  # what a pass has tapped: {block: (output, with gradient?)}


class Trunk:
    """All blocks of a model in running order, whichever lists hold them, and the long skips between them."""

    def __init__(self, model: nn.Module, backbone: Backbone):
        self.backbone = backbone
        self.order: list[Place] = backbone.order(model)
        self.paths = [place.path for place in self.order]
        self.native: Pairs = backbone.native(len(self.order))
        self.breaks = set(backbone.breaks(model))
        self.arguments = [
            place.contract.places(block) for place, block in zip(self.order, backbone.blocks(model), strict=True)
        ]
        self.joins: dict[int, tuple[int, nn.Module]] = {}  # target -> (source, join)
        self.sources: frozenset[int] = frozenset()  # blocks whose output a join takes
        self.reached: set[int] = set()  # blocks that a pass ever got by way of a stack
        self._taps: dict[int, Taps] = {}  # of the pass that a thread is in, where its blocks lie in several lists

    def join(self, joins: dict[int, tuple[int, nn.Module]]) -> None:
        """Add long skip branches: {target: (source, join)}."""
        self.joins, self.sources = joins, frozenset(source for source, _ in joins.values())

    def pairs(self) -> list[tuple[int, int]]:
        """Every long skip (source, target), joined by us or native."""
        return [(source, target) for target, (source, _) in self.joins.items()] + list(self.native)

    def cut(self, span: Span) -> list[Span]:
        """The span in pieces that can each be stood in for: it is cut where the flow itself changes from one list to
        the next, and after a block whose output goes to a block outside (which then gets what is remembered). In a
        U-Net that is everywhere."""
        feeds = {source for source, target in self.pairs() if target >= span.stop}
        names = [place.contract.names for place in self.order]
        inside = range(span.start + 1, span.stop)
        apart = bool(self.backbone.encoder)
        cuts = [p for p in inside if apart or p - 1 in feeds or p in self.breaks or names[p - 1] != names[p]]
        return [span._replace(start=a, stop=b) for a, b in zip([span.start, *cuts], [*cuts, span.stop], strict=True)]

    def aligned(self, x: Any, source: int, like: Any, target: int) -> Any:
        """A tensor from block `source` in the layout of block `target`, where `like` comes from."""
        here, there = self.order[source].contract.layout, self.order[target].contract.layout
        change = there or here  # a list that names none is what the others are laid out from
        return x if here == there or change is None else change(x, like)

    def taps(self, first: bool) -> Taps:
        """What this thread's pass has tapped so far; the first block begins anew."""
        if first:
            self._taps[threading.get_ident()] = {}
        return self._taps.setdefault(threading.get_ident(), {})

    def forget_taps(self) -> None:
        self._taps.pop(threading.get_ident(), None)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_taps": {}}


class Stack(nn.ModuleList):
    """The same blocks under the same names. Iterating or slicing it yields one callable a block.

    What one pass remembers dies with the pass. Taps are read, never popped: gradient checkpointing calls a block again.
    """

    def __init__(self, blocks: Iterable[nn.Module], trunk: Trunk, path: str):
        super().__init__(blocks)
        self.trunk = trunk
        self.numbers = [number for number, place in enumerate(trunk.order) if place.stack == path]

    def __iter__(self) -> Iterator[Any]:
        run = _run_of(self.trunk)
        if run is None and not self.trunk.joins:
            return super().__iter__()
        return self._gates(run, range(len(self)))

    def __getitem__(self, place: Any) -> Any:
        run = _run_of(self.trunk)
        if isinstance(place, slice):
            if run is not None or self.trunk.joins:
                return list(self._gates(run, range(len(self))[place]))
            return nn.ModuleList(list(self.children())[place])
        if run is not None:  # a model that indexes its list
            return next(self._gates(run, (range(len(self))[place],)))
        return super().__getitem__(place)

    def _gates(self, run: Run | None, wanted: Iterable[int]) -> Iterator["Gate"]:
        trunk, blocks = self.trunk, list(self._modules.values())
        alone = len(blocks) == len(trunk.order) and wanted == range(len(blocks))
        taps: Taps | None = {} if alone else None  # one list that runs from end to end keeps them to itself
        number = -1
        try:
            for index in wanted:
                number = self.numbers[index]
                trunk.reached.add(number)
                if run is not None:
                    run.hand(number)
                kind = Unit if trunk.order[number].contract.within else Gate
                yield kind(trunk, number, blocks[index], run, trunk.taps(number == 0) if taps is None else taps)
        finally:
            if not alone and number == len(trunk.order) - 1:
                trunk.forget_taps()


def _run_of(trunk: Trunk) -> Run | None:
    """The run of the pass that is going on, if any: between passes whoever asks, an offloader say, gets the blocks
    themselves. In a model that is compiled as a whole there is none: attach refuses it."""
    run = None if torch.compiler.is_compiling() else active(trunk)
    return run if run is not None and run.inside else None


def trunk_of(model: nn.Module, backbone: Backbone) -> Trunk:
    """The trunk of the stacks that a model has (it was given skip branches), or a new one."""
    found = next((each for each in backbone.lists(model).values() if isinstance(each, Stack)), None)
    return found.trunk if found is not None else Trunk(model, backbone)


def install(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module where the path says."""
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, module)


class Gate:
    """One block in one pass: called like the block, it joins the branch and runs, or lets the run stand in.

    For everything else it is the block: attributes are the block's.
    """

    __slots__ = ("block", "number", "run", "taps", "trunk")

    def __init__(self, trunk: Trunk, number: int, block: Any, run: Run | None, taps: Taps):
        self.trunk, self.number, self.block, self.run, self.taps = trunk, number, block, run, taps

    def __getattr__(self, name: str) -> Any:
        if name in Gate.__slots__:  # asked before it is set, by torch.compile while it traces
            raise AttributeError(name)
        return getattr(self.block, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        run, number = self.run, self.number
        if run is None or run.just_runs(number):
            return self._compute(None, args, kwargs)
        contract, arguments = self.trunk.order[number].contract, self.trunk.arguments[number]
        given = shared_out(self.block, args, kwargs)
        flow = contract.entering(arguments, *given)
        span = run.enter(number, flow, self.block, *given)
        if span is not None and number == span.stop - 1:
            self._realign(span, flow[0])
        if span is None or run.computes(span):
            return self._compute(span, args, kwargs)
        flow = run.predict(span) if number == span.stop - 1 else flow
        self._tap(flow[0])
        return contract.returned(flow)

    def _compute(self, span: Span | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Join the branch that ends here, and run the block."""
        trunk, number = self.trunk, self.number
        contract, arguments = trunk.order[number].contract, trunk.arguments[number]
        if number in trunk.joins:
            source, join = trunk.joins[number]
            x = contract.entering(arguments, args, kwargs)[0]  # (B, T, D)
            s = trunk.aligned(_tapped(self.taps, source), source, x, number)
            args, kwargs = contract.replace_main(arguments, args, kwargs, join(x, s))
        returned = self.block(*args, **kwargs)
        if trunk.sources:
            self._tap(contract.leaving(returned)[0])
        if span is not None and number == span.stop - 1:
            self.run.observe(span, contract.leaving(returned))  # type: ignore[union-attr]
        return returned

    def _tap(self, y: Tensor) -> None:
        """Remember a block's output for the branch that starts there; a block that is called again keeps the first."""
        if self.number in self.trunk.sources:
            self.taps.setdefault(self.number, (y, torch.is_grad_enabled()))

    def _realign(self, span: Span, like: Tensor) -> None:
        """What entered the span, in the layout of its last block: a change can only be added in one layout."""
        order = self.trunk.order
        if order[span.start].contract.layout != order[self.number].contract.layout:
            self.run.realign(span, lambda x: self.trunk.aligned(x, span.start, like, self.number))  # type: ignore[union-attr]


class Unit(Gate):
    """A block that is a ModuleDict, run part by part by its model: the first takes the flow, the last gives it back."""

    __slots__ = ("span",)

    def __getitem__(self, name: str) -> Any:
        within, part = self.trunk.order[self.number].contract.within, self.block[name]
        if name == within[0]:
            return partial(self._first, part)
        return partial(self._last, part) if name == within[-1] else part

    def _first(self, part: Any, *args: Any, **kwargs: Any) -> Any:
        flow = (args[0],)
        self.span = None if self.run is None else self.run.enter(self.number, flow, part, args, kwargs)
        stands_in = self.span is not None and not self.run.computes(self.span)  # type: ignore[union-attr]
        return flow[0] if stands_in else part(*args, **kwargs)

    def _last(self, part: Any, *args: Any, **kwargs: Any) -> Any:
        span, run = self.span, self.run
        ends = span is not None and self.number == span.stop - 1
        if span is not None and not run.computes(span):  # type: ignore[union-attr]
            return run.predict(span)[0] if ends else args[0]  # type: ignore[union-attr]
        y = part(*args, **kwargs)
        if ends:
            run.observe(span, (y,))  # type: ignore[union-attr, arg-type]
        return y


def _tapped(taps: Taps, source: int) -> Tensor:
    """The skip (B, T, D). Raises RuntimeError where its gradient was lost: it was tapped without, and now is needed."""
    s, graded = taps[source]
    if torch.is_grad_enabled() and not graded:
        raise RuntimeError(
            f"block {source} ran under reentrant checkpointing, which hides the gradient of its skip branch: "
            "checkpoint with use_reentrant=False"
        )
    return s

"""What one pass through a model shows: which blocks of which lists ran, and what of one entered the next. Read only."""

import inspect
import re
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from skipdit.core.backbone import transposed
from skipdit.core.run import suspended

STRONG = ("same", "equal", "moved")  # how what one block returned enters another, beyond doubt
Out = int | None  # a place in the tuple that a block returns; None: it returns a bare tensor
PART = re.compile(r"att|mhba|mlp|ff|feed_?forward|dense|transition|moe", re.IGNORECASE)
NO_PART = re.compile(r"norm|drop|gate|embed|table|adaln", re.IGNORECASE)


class Link(NamedTuple):
    """What block `number` of the list `source` returned entered a later block under a name.

    how    same: it is the same tensor; equal: it has the same values; moved: `transposed` brings it there;
           within: the values begin or end a longer sequence; alike: only the shape is the same
    """

    source: str
    number: int | None
    place: Out
    name: str
    how: str


class Read(NamedTuple):
    """An operation on what the block of visit `of` returned at `place`: within visit `at`, or else before it."""

    of: int
    place: Out
    at: int
    inside: bool


class Part(NamedTuple):
    """What passed a part of a block: shapes in and out, how often, and whether it was given another sequence too."""

    entered: tuple[int, ...]
    left: tuple[int, ...]
    times: int
    crossed: bool


@dataclass(eq=False)
class Visit:
    """One block's turn."""

    path: str
    number: int | None  # in its list; None: the path is the block itself
    block: nn.Module
    names: list[str]  # of the tensors that entered, in the order of the signature
    entered: dict[str, tuple[int, ...]]  # their shapes
    links: list[Link]
    anew: set[str]  # what entered the list's first block entered this one again
    left: dict[Out, tuple[int, ...]] = field(default_factory=dict)  # shapes of what was returned
    unchanged: set[Out] = field(default_factory=set)  # returned as it came
    within: list[str] = field(default_factory=list)  # a ModuleDict: what ran of it
    parts: dict[str, Part] = field(default_factory=dict)  # by path


class OnePass(TorchFunctionMode):
    """Runs a model once and holds what its blocks showed.

    visits      every block's turn, in running order
    constant    (list, name) -> whether it was one and the same tensor in every block
    reads       what visit `of` returned at `place` was read within visit `at`, or before it
    """

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]):
        super().__init__()
        self.visits: list[Visit] = []
        self.constant: dict[tuple[str, str], bool] = {}
        self.reads: set[Read] = set()
        self._first: dict[str, dict[str, Tensor]] = {}  # what entered each list's first block
        self._last: dict[str, tuple[Visit, dict[Out, Tensor]]] = {}  # what each list's latest block returned
        self._made: dict[int, tuple[int, Out, weakref.ref[Tensor]]] = {}  # id of a tensor -> the visit that made it
        self._open: Visit | None = None
        self._given: dict[str, Tensor] = {}  # what entered the open block
        self._comparing = False  # it is us who read
        with ExitStack() as hooks:
            for handle in self._hooks(model):
                hooks.callback(handle.remove)
            with torch.no_grad(), suspended(), self:
                model(*args, **kwargs)
        self._first, self._last, self._made = {}, {}, {}

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Notes which operation reads what a block has returned."""
        result = func(*args, **(kwargs or {}))
        looks = func.__name__ == "__get__" or not any(True for _ in _flat((result,)))  # at its shape or kind alone
        for x in () if looks or self._comparing else _flat((*args, *(kwargs or {}).values())):
            for made in (x, x._base):
                turn, place, kept = self._made.get(id(made), (0, None, None))
                if made is not None and kept is not None and kept() is made and result is not made:
                    inside = self._open is not None
                    self.reads.add(Read(turn, place, len(self.visits) - inside, inside))
        return result

    def _hooks(self, model: nn.Module) -> Iterator[Any]:
        for path, number, block in candidates(model):
            whole = not isinstance(block, nn.ModuleDict)
            for name, part in [("", block)] if whole else block.named_children():
                enter = partial(self._enter, path, number, block, name)
                yield part.register_forward_pre_hook(enter, with_kwargs=True)
                yield part.register_forward_hook(partial(self._leave, path, number))
            for name, part in block.named_modules():
                last = name.rpartition(".")[2]
                if last and PART.search(last + " " + type(part).__name__) and not NO_PART.search(last):
                    yield part.register_forward_hook(partial(self._part, path, number, name), with_kwargs=True)

    def _enter(
        self, path: str, number: int | None, block: nn.Module, part: str, module: nn.Module, args: Any, kw: Any
    ) -> None:
        if self._open is not None:
            return  # a block within a block
        last = self.visits[-1] if self.visits else None
        if part and last is not None and (last.path, last.number) == (path, number):
            last.within.append(part)
            self._open = last
            return
        self._comparing = True
        given = _tensors(module, args, kw)
        first = self._first.setdefault(path, given)
        for name in given:
            same = given[name] is first.get(name)
            self.constant[path, name] = self.constant.get((path, name), True) and same
        visit = self._open = Visit(
            path,
            number,
            block,
            list(given),
            {name: tuple(x.shape) for name, x in given.items()},
            [link for name, x in given.items() for link in self._links(name, x)],
            {name for name, x in given.items() if first is not given and _how(first.get(name), x) in ("same", "equal")},
            within=[part] if part else [],
        )
        self._given, self._comparing = given, False
        self.visits.append(visit)

    def _links(self, name: str, x: Tensor) -> Iterator[Link]:
        for path, (visit, outs) in self._last.items():
            for place, y in outs.items():
                how = _how(y, x)
                if how:
                    yield Link(path, visit.number, place, name, how)

    def _leave(self, path: str, number: int | None, module: nn.Module, args: Any, output: Any) -> None:
        visit = self._open
        if visit is None or (visit.path, visit.number) != (path, number):
            return
        self._open = None
        outs: dict[Out, Any] = dict(enumerate(output)) if isinstance(output, (tuple, list)) else {None: output}
        tensors = {place: y for place, y in outs.items() if isinstance(y, Tensor)}
        visit.left = {place: tuple(y.shape) for place, y in tensors.items()}
        visit.unchanged = {place for place, y in tensors.items() if any(y is x for x in self._given.values())}
        self._last[path] = (visit, tensors)
        turn = len(self.visits) - 1
        self._made |= {id(y): (turn, p, weakref.ref(y)) for p, y in tensors.items() if p not in visit.unchanged}

    def _part(
        self, path: str, number: int | None, name: str, module: nn.Module, args: Any, kw: Any, output: Any
    ) -> None:
        visit = self._open
        if visit is None or (visit.path, visit.number) != (path, number):
            return
        xs = [x for x in (*args, *kw.values()) if isinstance(x, Tensor)]
        y = output[0] if isinstance(output, tuple) and output else output
        if xs and isinstance(y, Tensor):
            times = visit.parts[name].times if name in visit.parts else 0
            crossed = any(x.ndim == xs[0].ndim and x.shape != xs[0].shape for x in xs)
            visit.parts[name] = Part(tuple(xs[0].shape), tuple(y.shape), times + 1, crossed)


def candidates(model: nn.Module) -> Iterator[tuple[str, int | None, nn.Module]]:
    """(path, number, block) of every list, and of every module outside that is of the same class as a list's blocks."""
    kinds, inside = set(), []
    for path, found in model.named_modules():
        if isinstance(found, nn.ModuleList) and not any(isinstance(b, nn.ModuleList) for b in found.children()):
            inside.append(f"{path}.")
            for number, block in enumerate(found.children()):
                kinds.add(type(block))
                yield path, number, block
    kinds = {kind for kind in kinds if not kind.__module__.startswith("torch.")}
    for path, found in model.named_modules():
        if type(found) in kinds and not path.startswith(tuple(inside)):
            yield path, None, found


def _flat(values: Any) -> Iterator[Tensor]:
    """The tensors among arguments, one level of lists deep."""
    for value in values:
        for inner in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(inner, Tensor):
                yield inner


def bare(block: Any) -> Any:
    """Without torch.compile's wrapper, which takes any arguments."""
    return getattr(block, "_orig_mod", block)


def _tensors(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors among a call's arguments, by name."""
    names = list(inspect.signature(bare(module).forward).parameters)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return {name: given[name] for name in [*names, *given] if isinstance(given.get(name), Tensor)}


def _how(y: Tensor | None, x: Tensor) -> str | None:
    """How `x`, which enters, comes from `y`, which was returned; None: not at all, as far as one can see."""
    if y is None or y.numel() == 0 or y.is_floating_point() != x.is_floating_point():
        return None
    if x is y or (x.data_ptr(), x.shape, x.stride()) == (y.data_ptr(), y.shape, y.stride()):
        return "same"
    if x.numel() == y.numel():
        if torch.equal(x.flatten(), y.flatten().to(x.dtype)):
            return "equal"
        turns = x.ndim == y.ndim == 3 and x.shape[-1] == y.shape[-1] and y.shape[0] % x.shape[1] == 0
        if turns and torch.equal(transposed(y, x), x):
            return "moved"
        return "alike" if x.shape == y.shape else None
    if x.ndim == y.ndim == 3 and x.shape[1] > y.shape[1] and (x.shape[0], x.shape[2]) == (y.shape[0], y.shape[2]):
        n = y.shape[1]
        if torch.equal(x[:, :n], y.to(x.dtype)) or torch.equal(x[:, -n:], y.to(x.dtype)):
            return "within"
    return None

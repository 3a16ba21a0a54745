"""Caching written by hand, to hold ours against: forwards of single blocks patched, no stack and no run."""

import inspect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from skipdit.core.backbone import Backbone

Flow = tuple[Any, ...]
Seen = list[tuple[int, Flow, Flow]]  # (step, what entered, what left), newest first
Guess = Callable[[Seen, int, Flow], Flow]


def hold(seen: Seen, step: int, x: Flow) -> Flow:
    return seen[0][2]


def residual(seen: Seen, step: int, x: Flow) -> Flow:
    """x + (y' - x'), of the last computed step."""
    (_, before, after), *_ = seen
    return tuple(None if c is None else laid(a, c) + (c - laid(b, c)) for a, b, c in zip(x, before, after, strict=True))


def line(seen: Seen, step: int, x: Flow) -> Flow:
    """The straight line through the last two computed steps."""
    (late, _, new), (early, _, old), *_ = [*seen, seen[-1]]
    ahead = 0.0 if late == early else (step - late) / (late - early)
    return tuple(None if a is None else a + ahead * (a - b) for a, b in zip(new, old, strict=True))


def laid(x: Tensor, like: Tensor) -> Tensor:
    """Latte: frames of patches (B F, N, D) as patches of frames (B N, F, D), or back; all others as they are."""
    if x.shape == like.shape:
        return x
    return x.reshape(-1, like.shape[1], *x.shape[1:]).swapaxes(1, 2).reshape(like.shape)


def in_and_out(block: nn.Module) -> tuple[nn.Module, nn.Module]:
    """What takes the flow and what gives it back: the block, or, in a ModuleDict, its first and its last part."""
    if isinstance(block, nn.ModuleDict):
        parts = list(block.values())
        return parts[0], parts[-1]
    return block, block


class ByHand:
    """One run of a model in which pieces of the running order are stood in for.

    pieces      (start, stop) of consecutive blocks
    computes    (step, probe) -> bool, asked once a pass, where the first piece begins, and true at step 0; the probe is
                what the blocks before it added to the main stream
    guess       what stands in for a piece; left out, every block gives back just what it last gave back
    """

    def __init__(
        self,
        model: nn.Module,
        backbone: Backbone,
        pieces: Sequence[tuple[int, int]],
        computes: Callable[[int, Tensor], bool],
        guess: Guess | None = None,
    ):
        self.model, self.computes, self.guess = model, computes, guess
        self.places, self.blocks = backbone.order(model), backbone.blocks(model)
        self.piece_of = {i: (start, stop) for start, stop in pieces for i in range(start, stop)}
        self.first = min(start for start, _ in pieces)
        self.step, self.round, self.decided = 0, 0, []  # a model may run its blocks several rounds a call
        self.start: Any = None  # the main stream that entered the first block
        self.entry: dict[tuple[int, int], Flow] = {}
        self.seen: defaultdict[Any, Seen] = defaultdict(list)  # by piece and round
        self.returned: dict[tuple[int, int], Any] = {}

    def __call__(self, calls: Sequence[dict[str, Any]]) -> list[Any]:
        """The model's output of every call, one a step."""
        with torch.no_grad(), self._patched():
            return [self._pass(step, call) for step, call in enumerate(calls)]

    def _pass(self, step: int, call: dict[str, Any]) -> Any:
        self.step, self.round = step, 0
        return self.model(**call)

    @contextmanager
    def _patched(self) -> Iterator[None]:
        patched = []
        for number, block in enumerate(self.blocks):
            into, out = in_and_out(block)
            for part, role in ((into, "both"),) if into is out else ((into, "in"), (out, "out")):
                patched.append(part)
                part.forward = self._wrapped(number, role, part.forward)
        try:
            yield
        finally:
            for part in patched:
                del part.forward

    def _wrapped(self, number: int, role: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        names, piece = self.places[number].contract.names, self.piece_of.get(number)
        parameters = inspect.signature(forward)

        def patched(*args: Any, **kwargs: Any) -> Any:
            if role != "out":
                given = parameters.bind(*args, **kwargs).arguments
                flow = (args[0],) if role == "in" else tuple(given.get(name) for name in names)
                self._enter(number, piece, flow)
            if role == "in" or piece is None or self.decided[-1]:
                returned = forward(*args, **kwargs)
                return returned if role == "in" else self._leave(number, piece, returned)
            return self._stood_in(number, piece)

        return patched

    def _enter(self, number: int, piece: tuple[int, int] | None, flow: Flow) -> None:
        if number == 0:
            self.start, self.round = flow[0], self.round + 1
        if piece is not None and number == piece[0]:
            self.entry[piece] = flow
            if number == self.first and len(self.decided) == self.step:
                self.decided.append(self.computes(self.step, flow[0] - laid(self.start, flow[0])))

    def _leave(self, number: int, piece: tuple[int, int] | None, returned: Any) -> Any:
        if piece is not None:
            self.returned[number, self.round] = returned
            if number == piece[1] - 1:
                places = self.places[number].contract.returns
                y = (returned,) if places is None else tuple(returned[i] for i in places)
                self.seen[piece, self.round].insert(0, (self.step, self.entry[piece], y))
        return returned

    def _stood_in(self, number: int, piece: tuple[int, int]) -> Any:
        before = self.returned[number, self.round]
        if self.guess is None or number < piece[1] - 1:
            return before
        y, places = (
            self.guess(self.seen[piece, self.round], self.step, self.entry[piece]),
            self.places[number].contract.returns,
        )
        if places is None:
            return y[0]
        now = list(before)
        for place, tensor in zip(places, y, strict=True):
            now[place] = tensor
        return tuple(now)


@contextmanager
def parts_by_hand(model: nn.Module, parts: Sequence[nn.Module], stands_in: Callable[[], bool]) -> Iterator[None]:
    """Each part gives back what it last gave back in the passes for which `stands_in`, asked once a pass, says so."""
    now, parted = [False], set(parts)
    kept: defaultdict[nn.Module, list[Any]] = defaultdict(list)  # one of each call in a pass
    called: Counter[nn.Module] = Counter()

    def begin(*_: object) -> None:
        now[0] = stands_in()
        called.clear()

    def wrapped(part: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def patched(*args: Any, **kwargs: Any) -> Any:
            place, called[part] = called[part], called[part] + 1
            if not now[0]:
                kept[part][place:] = [forward(*args, **kwargs)]
            return kept[part][place]

        return patched

    hook = model.register_forward_pre_hook(begin)
    for part in parted:
        part.forward = wrapped(part, part.forward)
    try:
        yield
    finally:
        hook.remove()
        for part in parted:
            del part.forward

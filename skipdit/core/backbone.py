"""What a model looks like from outside: its lists of blocks, how the flow enters a block and comes back, its parts."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from skipdit.core.policy import Flow

Layout = Callable[[Tensor, Tensor], Tensor]  # (tensor, like) -> the same values in the layout of `like`
Pairs = Sequence[tuple[int, int]]  # long skips: the output of block `source` goes to block `target`


def transposed(x: Tensor, like: Tensor) -> Tensor:
    """(B n, m, D) -> (B m, n, D), where `like` has n tokens: frames of patches become patches of frames, and back."""
    n = like.shape[1]
    return x.unflatten(0, (-1, n)).transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True)
class Contract:
    """How the flow enters a block and comes back.

    names      the block's argument for each tensor of the flow, main stream first
    returns    where each of them stands in the returned tuple; None: the block returns the main stream itself
    layout     lists that lay the main stream out differently name what brings it into the layout of this one
    within     a block that is a ModuleDict: the names of what runs in it, in order; the first takes the main stream
    """

    names: tuple[str, ...] = ("x",)
    returns: tuple[int, ...] | None = None
    layout: Layout | None = None
    within: tuple[str, ...] = ()

    def places(self, block: Any) -> tuple[int, ...]:
        """Each name's position among the block's arguments. Raises ValueError for a name that the block lacks."""
        if self.within:
            return tuple(range(len(self.names)))
        block = getattr(block, "_orig_mod", block)  # torch.compile's wrapper takes any arguments
        known = list(inspect.signature(block.forward).parameters)
        missing = [name for name in self.names if name not in known]
        if missing:
            raise ValueError(
                f"contract names {missing[0]!r}, but {type(block).__name__}.forward takes {known}: correct the contract"
            )
        return tuple(known.index(name) for name in self.names)

    def entering(self, places: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow:
        """The flow as the block is about to receive it; None for a stream that is not given."""
        return tuple(
            args[place] if place < len(args) else kwargs.get(name)  # type: ignore[misc]
            for place, name in zip(places, self.names, strict=True)
        )

    def replace_main(
        self, places: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any], x: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same call with another main stream."""
        place = places[0]
        if place < len(args):
            return (*args[:place], x, *args[place + 1 :]), kwargs
        return args, {**kwargs, self.names[0]: x}

    def leaving(self, returned: Any) -> Flow:
        """The flow in what a block returned."""
        return (returned,) if self.returns is None else tuple(returned[i] for i in self.returns)

    def returned(self, flow: Flow) -> Any:
        """The flow in the form in which the block returns it."""
        if self.returns is None:
            return flow[0]
        form: list[Any] = [None] * (max(self.returns) + 1)
        for place, tensor in zip(self.returns, flow, strict=True):
            form[place] = tensor
        return tuple(form)


class Place(NamedTuple):
    """One block in the running order."""

    stack: str  # path of the list that holds it
    number: int | None  # its index there; None: the path is the block itself
    contract: Contract

    @property
    def path(self) -> str:
        return self.stack if self.number is None else f"{self.stack}.{self.number}"


# ---- what a pipeline passes as timestep, back in the sampler's units (noise at 1000, nothing at 0) -------------------


def as_given(t: float) -> float:
    return t


def thousandths(t: float) -> float:
    """The model is given t / 1000."""
    return 1000 * t


def rising(t: float) -> float:
    """The model is given 1 - t / 1000."""
    return 1000 * (1 - t)


def falling(t: float) -> float:
    """The model is given 1000 - t: its sampler counts upwards."""
    return 1000 - t


def no_skips(depth: int) -> Pairs:
    return ()


def no_breaks(model: nn.Module) -> tuple[int, ...]:
    return ()


@dataclass(frozen=True)
class Backbone:
    """A description of a model, not a class per model.

    stacks     path of each list of blocks -> how the flow passes through one of them; in running order
    zipped     the lists take turns, block by block; one round of them counts as one unit
    parts      how a block spells its parts: {"attn": "attn", "mlp": "mlp"}; several paths where blocks differ
    timestep   the model's argument that carries the timestep
    time       what brings that into the sampler's units, falling from about 1000 to 0
    breaks     model -> places before which the flow starts anew though the list goes on
    native     long skips that the model has by itself: depth -> [(source, target), ...]
    width      the width of the main stream: keys of the config, or numbers, to be multiplied: "num_heads*head_dim"
    encoder    of a U-Net: the paths of what runs before the decoder. Its blocks differ in form, so each can only be
               held, by itself
    """

    stacks: Mapping[str, Contract] = field(default_factory=lambda: {"blocks": Contract()})
    zipped: bool = False
    parts: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    timestep: str = "t"
    time: Callable[[float], float] = as_given
    breaks: Callable[[Any], tuple[int, ...]] = no_breaks
    native: Callable[[int], Pairs] = no_skips
    width: str = ""
    encoder: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: nn.Module) -> "Backbone":
        """The description that a model, or its class, carries as `backbone`. Raises TypeError where there is none."""
        found = getattr(type(model), "backbone", None) or vars(model).get("backbone")
        if not isinstance(found, cls):
            raise TypeError(
                f"{type(model).__name__} carries no Backbone: pass backbone=Backbone({{'blocks': Contract(...)}}), "
                "or have it inferred from one call: skipdit.infer(model, ...)"
            )
        return found

    def lists(self, model: nn.Module) -> dict[str, nn.Module]:
        """Each path's list, or block. Raises TypeError where there is none."""
        found = {}
        for path in self.stacks:
            try:
                found[path] = model.get_submodule(path)
            except AttributeError as error:
                raise TypeError(f"{type(model).__name__} has no {path!r}, where its backbone has blocks") from error
        return found

    def order(self, model: nn.Module) -> list[Place]:
        """Every block in the order in which they run. Raises TypeError for zipped lists of unequal lengths."""
        places = {
            path: [Place(path, i, self.stacks[path]) for i in range(len(found))]
            if isinstance(found, nn.ModuleList)
            else [Place(path, None, self.stacks[path])]
            for path, found in self.lists(model).items()
        }
        if not self.zipped:
            return [place for each in places.values() for place in each]
        if len({len(each) for each in places.values()}) > 1:
            lengths = {path: len(each) for path, each in places.items()}
            raise TypeError(f"{type(model).__name__}: lists that take turns have different lengths: {lengths}")
        return [place for turn in zip(*places.values(), strict=True) for place in turn]

    @property
    def unit(self) -> int:
        """Blocks that count as one: 1, or a round of the lists that take turns."""
        return len(self.stacks) if self.zipped else 1

    def depth(self, model: nn.Module) -> int:
        """How many units there are: blocks, or rounds of lists that take turns."""
        return len(self.order(model)) // self.unit

    def width_of(self, model: nn.Module) -> int:
        """The width D of the main stream, from the config. Raises ValueError where the backbone doesn't say."""
        config = getattr(model, "config", None)
        keys = [key.strip() for key in self.width.split("*") if key.strip()]
        if not keys or (config is None and not all(key.isdigit() for key in keys)):
            raise ValueError(f"{type(model).__name__}: the width of its blocks is not known: pass width=...")
        width = 1
        for key in keys:
            width *= int(key) if key.isdigit() else config[key]  # type: ignore[index]
        return width

    def blocks(self, model: nn.Module) -> list[nn.Module]:
        """The blocks themselves, in running order."""
        return [model.get_submodule(place.path) for place in self.order(model)]

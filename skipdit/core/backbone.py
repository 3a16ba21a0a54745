"""What a model looks like from outside: its list of blocks, how the flow enters a block and comes back, its parts."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from skipdit.core.policy import Flow


@dataclass(frozen=True)
class Contract:
    """How the flow enters a block and comes back.

    names      the block's argument for each tensor of the flow, main stream first
    returns    where each of them stands in the returned tuple; None: the block returns the main stream itself
    """

    names: tuple[str, ...] = ("x",)
    returns: tuple[int, ...] | None = None

    def places(self, block: nn.Module) -> tuple[int, ...]:
        """Each name's position among the block's arguments. Raises ValueError for a name that the block lacks."""
        known = list(inspect.signature(block.forward).parameters)
        missing = [name for name in self.names if name not in known]
        if missing:
            raise ValueError(
                f"contract names {missing[0]!r}, but {type(block).__name__}.forward takes {known}: correct the contract"
            )
        return tuple(known.index(name) for name in self.names)

    def entering(self, places: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow:
        """The flow as the block is about to receive it."""
        return tuple(
            args[place] if place < len(args) else kwargs[name] for place, name in zip(places, self.names, strict=True)
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


@dataclass(frozen=True)
class Backbone:
    """A description of a model, not a class per model.

    blocks     name of the attribute that holds the list of blocks, in running order
    contract   how the flow passes through one block
    parts      how a block spells its parts: {"attn": "attn", "mlp": "mlp"}
    timestep   the model's argument that carries the timestep
    """

    blocks: str = "blocks"
    contract: Contract = field(default_factory=Contract)
    parts: Mapping[str, str] = field(default_factory=dict)
    timestep: str = "t"

    @classmethod
    def of(cls, model: nn.Module) -> "Backbone":
        """The description that a model's class carries as `backbone`. Raises TypeError where there is none."""
        found = getattr(type(model), "backbone", None)
        if not isinstance(found, cls):
            raise TypeError(
                f"{type(model).__name__} carries no Backbone: pass backbone=Backbone(blocks='...', contract=...)"
            )
        return found

    def list_of(self, model: nn.Module) -> nn.ModuleList:
        """The model's list of blocks. Raises TypeError where the attribute is missing or no list."""
        found = getattr(model, self.blocks, None)
        if not isinstance(found, nn.ModuleList):
            raise TypeError(f"{type(model).__name__}.{self.blocks} is {type(found).__name__}, not a list of blocks")
        return found

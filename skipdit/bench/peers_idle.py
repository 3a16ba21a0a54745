"""Real models whose blocks do nothing but call their attention and MLP, which do nothing: only the switch is left."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from skipdit.backbones.diffusers import backbone_of
from skipdit.core.backbone import Contract
from skipdit.core.where import Parts


def idle(model: nn.Module) -> nn.Module:
    """The same model with every block idle, for caches to be put on. Blocks take and return what they always did.

    The first one adds a thousandth: a gate that finds no change at all has nothing to divide by.
    """
    backbone = backbone_of(model)
    leaves = [site.path for site in Parts(tuple(backbone.parts))(model, backbone)]  # type: ignore[union-attr]
    for number, place in enumerate(backbone.order(model)):
        block, contract = model.get_submodule(place.path), place.contract
        parts = [model.get_submodule(path) for path in leaves if path.startswith(f"{place.path}.")]
        for part in parts:
            _shadow(part, functools.partial(_part, 1 if contract.returns is None else len(contract.returns)))
        scale = 1.001 if number == 0 else 1.0
        _shadow(block, functools.partial(_block, contract, contract.places(block), parts, scale))
    return model


def _shadow(module: nn.Module, forward: Callable[..., Any]) -> None:
    """Peers look at a forward's signature: it stays what it was."""
    module.forward = functools.update_wrapper(forward, module.forward)  # type: ignore[method-assign]


def _part(streams: int, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
    return hidden_states if streams == 1 else (hidden_states,) * streams


def _block(
    contract: Contract, places: tuple[int, ...], parts: Sequence[nn.Module], scale: float, *args: Any, **kwargs: Any
) -> Any:
    x, *others = contract.entering(places, args, kwargs)
    for part in parts:
        part(hidden_states=x)
    return contract.returned((x if scale == 1 else scale * x, *others))

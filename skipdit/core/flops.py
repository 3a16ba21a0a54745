"""FLOPs of every module in one call of a model, counted on shapes alone where the model allows it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

Example = tuple[tuple[Any, ...], dict[str, Any]]  # one call's arguments


def count_flops(model: nn.Module, example: Example) -> Mapping[str, int]:
    """{module path: FLOPs, its children's included}; "" is the whole model.

    Nothing is computed, unless the model looks at the contents of its inputs (masks, ids) or its weights are moved in
    and out (offloading): then it runs once, for real.
    A multiply-add counts as two FLOPs; only matrix products, convolutions and attention count. Empty where torch can't
    count them (flex attention).
    """
    for on_shapes in (False,) if _hooked(model) else (True, False):
        try:
            return _counted(model, example, on_shapes)
        except Exception:  # it needs more than shapes, each model in its own way
            continue
    return {}


def _hooked(model: nn.Module) -> bool:
    """Whether others have wrapped a forward: what brings weights in and out would take those of shapes for its own."""
    held = [vars(module) for module in model.modules()]
    return any("forward" in own and own.get("_skipdit_shadow", ("", own))[1] is not None for own in held)


def _counted(model: nn.Module, example: Example, on_shapes: bool) -> Mapping[str, int]:
    with (
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
        torch.compiler.set_stance("force_eager"),
        sdpa_kernel(SDPBackend.MATH),  # torch's counter knows no FLOPs of the CPU's fused attention
    ):
        if on_shapes:
            _pass_of_shapes(model, example)
        else:
            args, kwargs = example
            model(*args, **kwargs)
    root = type(model).__name__
    counts = {path: sum(ops.values()) for path, ops in counter.get_flop_counts().items()}
    total = counts.get("Global", 0)
    inner = {path.removeprefix(root + "."): n for path, n in counts.items() if path.startswith(root + ".")}
    return {**inner, "": total}


def _pass_of_shapes(model: nn.Module, example: Example) -> None:
    """One pass without contents. Every tensor stays on its device: a model that keeps tables beside its weights would
    move them along with its inputs, for good (Z-Image, QwenImage)."""
    shapes = FakeTensorMode(allow_non_fake_inputs=True)
    args, kwargs = tree_map_only(Tensor, shapes.from_tensor, example)
    weights = (*model.named_parameters(), *model.named_buffers())
    state: dict[str, Tensor] = {name: shapes.from_tensor(tensor) for name, tensor in weights}
    with shapes:
        functional_call(model, state, args, kwargs)

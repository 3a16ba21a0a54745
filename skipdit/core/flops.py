"""FLOPs of every module in one call of a model, counted on shapes alone."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

Call = tuple[tuple[Any, ...], dict[str, Any]]


def shapes_of(value: Any) -> Any:
    """The same arguments without their contents: every tensor becomes one on the meta device."""
    if isinstance(value, Tensor):
        return value.detach().to("meta")
    if isinstance(value, (list, tuple)):
        return type(value)(shapes_of(v) for v in value)
    if isinstance(value, dict):
        return {key: shapes_of(v) for key, v in value.items()}
    return value


def count_flops(model: nn.Module, call: Call) -> Mapping[str, int]:
    """{module path: FLOPs, its children's included}; "" is the whole model. Nothing is computed.

    A multiply-add counts as two FLOPs; only matrix products, convolutions and attention count.
    """
    state = {name: shapes_of(t) for name, t in (*model.named_parameters(), *model.named_buffers())}
    args, kwargs = call
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.compiler.set_stance("force_eager"):
        functional_call(model, state, args, kwargs)
    root = type(model).__name__
    counts = {path: sum(ops.values()) for path, ops in counter.get_flop_counts().items()}
    total = counts.get("Global", 0)
    inner = {path.removeprefix(root + "."): n for path, n in counts.items() if path.startswith(root + ".")}
    return {**inner, "": total}

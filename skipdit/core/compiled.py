"""Compiled below the switch, never across it: a policy above torch.compile is refused by name."""

from collections.abc import Iterable

import torch
from torch import nn


def is_compiled(module: nn.Module) -> bool:
    """Whether torch.compile traces the module's calls: in place, `module.compile()`, or as the wrapper it made."""
    return "_orig_mod" in module._modules or module._compiled_call_impl is not None


def refuse_compiled_around(model: nn.Module, paths: Iterable[str]) -> None:
    """Raises ValueError where what lies at a path would be traced inside something larger that is compiled: the
    decision of one pass would be compiled in."""
    checked = {path.rpartition(".")[0] for path in paths}
    while checked:
        for path in sorted(checked):
            if is_compiled(model.get_submodule(path)):
                raise ValueError(_way_out(model, path))
        checked = {path.rpartition(".")[0] for path in checked if path}


def _way_out(model: nn.Module, path: str) -> str:
    name = type(model._modules.get("_orig_mod", model)).__name__
    what = f"{name}'s {path} is" if path else f"{name} is"
    return (
        f"{what} compiled as a whole, and the policy decides inside it: one decision would be compiled in. Load the "
        "model anew and compile less: skipdit.compile_blocks(model), or, for a policy on parts, "
        "skipdit.compile_blocks(model, parts=('attn', 'mlp'))"
    )


def refuse_tracing(model: nn.Module) -> None:
    """Raises RuntimeError where torch.compile is at work around a pass: compiled after a policy was attached, or by a
    wrapper that the policy doesn't know."""
    if torch.compiler.is_compiling() or torch._C._dynamo.eval_frame.get_eval_frame_callback() is not None:
        raise RuntimeError(_way_out(model, ""))

"""Tells one trained model from another by a few numbers of every tensor, so that a plan is refused by the wrong one."""

import hashlib

import torch
from torch import nn

SAMPLED = 16  # numbers looked at in each tensor


def fingerprint(model: nn.Module) -> str:
    """ "SHAPES-WEIGHTS": a hash of all names, shapes and layers' classes, and one of every tensor's first numbers.

    The numbers are rounded to bfloat16, so that the dtype a model is loaded in doesn't matter. A model on the meta
    device has no numbers: its second half is empty, and `same` looks at the first.
    """
    shapes, weights, known = hashlib.sha256(), hashlib.sha256(), True
    for name, module in sorted(model.named_modules()):
        if module._parameters or "skip_branches" in name:  # not the lists, which a policy replaces
            shapes.update(f"{name.replace('_orig_mod.', '')} {type(module).__name__};".encode())
    for name, tensor in sorted(model.state_dict().items()):
        name = name.replace("_orig_mod.", "")
        shapes.update(f"{name} {tuple(tensor.shape)};".encode())
        if tensor.is_meta:
            known = False
        else:
            some = tensor.detach().flatten()[:SAMPLED].to(torch.bfloat16).float().cpu()
            weights.update(some.numpy().tobytes())
    return f"{shapes.hexdigest()[:16]}-{weights.hexdigest()[:16] if known else ''}"


def same(one: str, other: str) -> bool:
    """Whether two fingerprints may be of one model. Unknown weights pass for any."""
    (shapes, weights), (others, other_weights) = one.split("-"), other.split("-")
    return shapes == others and (not weights or not other_weights or weights == other_weights)

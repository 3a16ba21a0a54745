"""Long skip branches: the output of block i joins the input of block L-1-i."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skipdit.core.backbone import Backbone
from skipdit.core.stack import Stack


class Float32LayerNorm(nn.LayerNorm):
    """LayerNorm that computes in float32 and answers in the dtype it was given (Skip-DiT's FP32_Layernorm)."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class Replace(nn.Module):
    """y = W norm[x; s] + b: the joined stream replaces the main one, as in the published Skip-DiT (sec. 3.2).

    x, s and y are (B, T, D). A fresh one scrambles a trained model: load trained weights or train from scratch.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm = Float32LayerNorm(2 * width, eps=1e-6)
        self.linear = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        both = torch.cat([x, s], dim=-1)  # (B, T, 2D)
        return self.linear(self.norm(both))  # (B, T, D)


class Join(Replace):
    """y = x + W norm[x; s] + b with W = b = 0 at first: a fresh branch leaves a trained model bit for bit as it was."""

    def __init__(self, width: int):
        super().__init__(width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        return x + super().forward(x, s)  # (B, T, D)


def mirror(depth: int) -> list[tuple[int, int]]:
    """Pairs (source, target) in which block i feeds block depth-1-i; with an odd depth the middle block has none."""
    return [(i, depth - 1 - i) for i in range(depth // 2)]


def add_skips(
    model: nn.Module,
    width: int,
    join: Callable[[int], nn.Module] = Join,
    pairs: Iterable[tuple[int, int]] | None = None,
    backbone: Backbone | None = None,
) -> nn.Module:
    """Give a model long skip branches, in place, and return it.

    width    channels D of the main stream
    join     how the branch joins the main stream: Join keeps a trained model as it was, Replace is the published one
    pairs    (source, target) block numbers; the paper's mirror pairs when left out

    The branches become `model.skip_branches`, keyed by the target block; the blocks keep their names.
    Raises ValueError for a model that has branches already and for pairs that don't run forward.
    """
    backbone = backbone or Backbone.of(model)
    blocks = backbone.list_of(model)
    if isinstance(blocks, Stack) and blocks.joins:
        raise ValueError(f"{type(model).__name__} has skip branches already: {sorted(blocks.joins)}")
    pairs = mirror(len(blocks)) if pairs is None else list(pairs)
    for source, target in pairs:
        if not 0 <= source < target < len(blocks):
            raise ValueError(f"pair ({source}, {target}): a branch runs forward within blocks 0...{len(blocks) - 1}")
    if len({target for _, target in pairs}) < len(pairs):
        raise ValueError(f"pairs {pairs}: a block takes one branch, but one is named twice")
    stack = Stack(blocks, backbone.contract)
    model.skip_branches = nn.ModuleDict({str(target): join(width) for _, target in pairs})
    stack.joins = {target: (source, model.skip_branches[str(target)]) for source, target in pairs}
    setattr(model, backbone.blocks, stack)
    model.register_forward_hook(_refuse_bypass)
    return model


def _refuse_bypass(model: nn.Module, args: object, output: object) -> None:
    """A model that indexes its list would run without its branches and draw wrong pictures: say so."""
    stack = next(m for m in model.modules() if isinstance(m, Stack))
    if not stack.passed:
        raise RuntimeError(
            f"{type(model).__name__} ran its blocks without passing the stack (it indexes its list), so its skip "
            "branches had no effect: iterate the list in forward, `for block in self.blocks`"
        )

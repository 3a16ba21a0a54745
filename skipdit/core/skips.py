"""Long skip branches: the output of block i joins the input of block L-1-i."""

from collections.abc import Callable, Iterable
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skipdit.core.backbone import Backbone
from skipdit.core.stack import Stack, Trunk, install, trunk_of


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


JOINS = {"join": Join, "replace": Replace}  # as configs and the command line spell them


def mirror(depth: int) -> list[tuple[int, int]]:
    """Pairs (source, target) in which block i feeds block depth-1-i; with an odd depth the middle block has none."""
    return [(i, depth - 1 - i) for i in range(depth // 2)]


def mirrored(backbone: Backbone, model: nn.Module) -> list[tuple[int, int]]:
    """The mirror pairs of a model, in places of its running order.

    Lists that take turns are paired by rounds: the last block of round i feeds the first of round L-1-i. Where the flow
    itself changes from one list to the next (text and image side by side, then as one), each list has its own mirror.
    """
    order, unit = backbone.order(model), backbone.unit
    if unit > 1:
        return [(i * unit + unit - 1, j * unit) for i, j in mirror(len(order) // unit)]
    runs = [list(run) for _, run in groupby(range(len(order)), lambda place: order[place].contract.names)]
    return [(run[i], run[j]) for run in runs for i, j in mirror(len(run))]


def add_skips(
    model: nn.Module,
    width: int | None = None,
    join: Callable[[int], nn.Module] = Join,
    pairs: Iterable[tuple[int, int]] | None = None,
    backbone: Backbone | None = None,
) -> nn.Module:
    """Give a model long skip branches, in place, and return it.

    width    channels D of the main stream; from the model's config when left out
    join     how the branch joins the main stream: Join keeps a trained model as it was, Replace is the published one
    pairs    (source, target) block numbers; the paper's mirror pairs when left out

    The branches become `model.skip_branches`, keyed by the target block; the blocks keep their names.
    Raises ValueError for a model that has branches already and for pairs that don't run forward.
    """
    backbone = backbone or Backbone.of(model)
    trunk = trunk_of(model, backbone)
    _check(model, trunk, pairs := mirrored(backbone, model) if pairs is None else [(s, t) for s, t in pairs])
    width = backbone.width_of(model) if width is None else width
    model.skip_branches = nn.ModuleDict({str(target): join(width) for _, target in pairs})
    _to_where(model.skip_branches, backbone.blocks(model)[0])
    trunk.join({target: (source, model.skip_branches[str(target)]) for source, target in pairs})
    for path, blocks in backbone.lists(model).items():
        install(model, path, Stack(blocks.children(), trunk, path))
    model.register_forward_hook(_refuse_bypass)
    return model


def _to_where(branches: nn.Module, block: nn.Module) -> None:
    """Move branches to a block's device and dtype. Of several the narrowest: norms, tables are kept in float32."""
    dtypes = {p.dtype for p in block.parameters() if p.is_floating_point() and p.itemsize > 1}
    for like in list(block.parameters())[:1]:
        nn.Module.to(branches, like.device, min(dtypes, key=lambda dtype: dtype.itemsize, default=None))


def _check(model: nn.Module, trunk: Trunk, pairs: list[tuple[int, int]]) -> None:
    name, depth = type(model).__name__, len(trunk.order)
    if trunk.joins:
        raise ValueError(f"{name} has skip branches already, at blocks {sorted(trunk.joins)}")
    if trunk.native:
        raise ValueError(f"{name} has long skips of its own, {list(trunk.native)}: attach a policy to it as it is")
    if any(place.number is None or place.contract.within for place in trunk.order):
        raise ValueError(f"{name} does not hold its blocks in plain lists, so branches can't join them")
    for source, target in pairs:
        if not 0 <= source < target < depth:
            raise ValueError(f"pair ({source}, {target}): a branch runs forward within blocks 0...{depth - 1}")
    if len({target for _, target in pairs}) < len(pairs):
        raise ValueError(f"pairs {pairs}: a block takes one branch, but one is named twice")


def _refuse_bypass(model: nn.Module, args: object, output: object) -> None:
    """A model that indexes its list would run without its branches and draw wrong pictures: say so."""
    trunk = next(m for m in model.modules() if isinstance(m, Stack)).trunk
    if not trunk.reached.issuperset(trunk.joins):
        raise RuntimeError(
            f"{type(model).__name__} ran its blocks without passing the stack (it indexes its list), so its skip "
            "branches had no effect: iterate the list in forward, `for block in self.blocks`"
        )

"""What really runs in a small pipeline, seen and changed by hooks that know nothing of skipdit's clock."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from small import Small
from torch import Tensor, nn

from skipdit.backbones.diffusers import backbone_of


def blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks in running order; of one that is run part by part, the last part."""
    backbone = backbone_of(model)
    found = []
    for place in backbone.order(model):
        block = model.get_submodule(place.path)
        found.append(block[place.contract.within[-1]] if place.contract.within else block)
    return found


def attentions(model: nn.Module) -> list[nn.Module]:
    """The first attention of each block: it runs when, and only when, the block does its work."""
    return [
        getattr(block, name)
        for block in blocks(model)
        for name in ("attn1", "attn", "attention")
        if hasattr(block, name)
    ]


@contextmanager
def counted(small: Small) -> Iterator[dict[str, Counter[int]]]:
    """{transformer: {block: how often it has worked}}, counted while the block lasts."""
    counts: dict[str, Counter[int]] = {name: Counter() for name in small.transformers}
    with ExitStack() as exits:
        for name in small.transformers:
            for number, part in enumerate(attentions(getattr(small.pipe, name))):

                def count(*_: Any, name: str = name, number: int = number) -> None:
                    counts[name][number] += 1

                exits.callback(part.register_forward_hook(count).remove)
        yield counts


@contextmanager
def held(small: Small, passes: int, spare: range, every: int = 2) -> Iterator[None]:
    """Skip-Cache made by hand: at all but every n-th step each block of `spare` gives what the same pass of the last
    computed step gave. A step is `passes` calls, of whichever transformer."""
    calls = -1
    kept: dict[tuple[nn.Module, int], Any] = {}

    def begin(*_: Any) -> None:
        nonlocal calls
        calls += 1

    def hold(block: nn.Module, args: Any, output: Any) -> Any:
        step, place = divmod(calls, passes)
        key = (block, place)
        if step % every and key in kept:
            return copied(kept[key])
        kept[key] = copied(output)
        return None

    with ExitStack() as exits:
        for name in small.transformers:
            model = getattr(small.pipe, name)
            exits.callback(model.register_forward_pre_hook(begin).remove)
            for number in spare:
                exits.callback(blocks(model)[number].register_forward_hook(hold).remove)
        yield


def copied(output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(copied(each) for each in output)
    return output.clone() if isinstance(output, Tensor) else output


def same(a: Tensor, b: Tensor) -> bool:
    """Bit-equal, and finite."""
    return torch.equal(a, b) and bool(torch.isfinite(a).all())

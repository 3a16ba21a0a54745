"""What really runs in a small pipeline, seen and changed by hooks that know nothing of skipdit's clock."""

from collections import Counter
from collections.abc import Iterator, Sequence
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
def held(small: Small, order: Sequence[tuple[int, int]], spare: range, every: int = 2) -> Iterator[None]:
    """Skip-Cache made by hand: at all but every n-th step each block of `spare` gives what the same pass of the last
    computed step gave. `order` says of each call of a transformer, in turn, its step and its pass."""
    calls, kept = iter(order), {}
    step = place = -1

    def begin(*_: Any) -> None:
        nonlocal step, place
        step, place = next(calls)

    def hold(block: nn.Module, args: Any, output: Any) -> Any:
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
        assert next(calls, None) is None, "fewer calls than in the order"


def inner(small: Small) -> range:
    """The blocks that Inner(1, 1) spares."""
    model = getattr(small.pipe, small.transformers[0])
    unit = backbone_of(model).unit
    return range(unit, len(attentions(model)) - unit)


def copied(output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(copied(each) for each in output)
    return output.clone() if isinstance(output, Tensor) else output


def same(a: Tensor, b: Tensor) -> bool:
    """Bit-equal, and finite."""
    return torch.equal(a, b) and bool(torch.isfinite(a).all())

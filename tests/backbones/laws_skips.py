"""Long skips of the small models of the wild: those that two of them have, and those that the others are given."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from laws_reference import ByHand, in_and_out, laid
from laws_small import STEPS, Counted, Small, bare, differ, moving, pieces_of, run_all, same
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from skipdit import methods
from skipdit.attach import attach
from skipdit.core.policy import Policy
from skipdit.core.skips import add_skips, mirrored
from skipdit.core.what import hold
from skipdit.core.when import Every
from skipdit.core.where import Inner

UNEVEN = [(1, 2), (2, 1), (1, 3), (3, 1), (0, 2), (2, 0)]  # blocks kept at either end


def skips(it: Small) -> None:
    """Skip-Cache on the skips a model has, for every depth; or branches given to it, which change nothing at first."""
    if it.backbone.native(it.backbone.depth(it.model)):
        native(it)
    else:
        given(it)


# ---- skips of its own -----------------------------------------------------------------------------------------------


def native(it: Small) -> None:
    """Skip-Cache for K = 1, 2, 3 and for uneven depths: bit for bit as by hand, each skip fresh or held."""
    policies = {(k, k): methods.skip_cache(every=2, branch=k) for k in (1, 2, 3)}
    policies |= {(head, tail): Policy(Inner(head, tail), Every(2), hold()) for head, tail in UNEVEN}
    for (head, tail), policy in policies.items():
        depth = it.backbone.depth(it.model)
        kept = [i for i in range(depth) if i < head or i >= depth - tail]
        blocks = it.backbone.blocks(it.model)
        with Counted(it.model, blocks, moving(it)[0]) as counted, attach(it.model, policy) as run:
            with skips_as_they_should(it, counted):
                ours = run_all(it.model, moving(it))
            wanted = [STEPS if i in kept else STEPS // 2 for i in range(depth)]
            assert counted.calls == wanted, f"{policy}: blocks ran {counted.calls} times"
            pieces = pieces_of(run)
        theirs = ByHand(it.model, it.backbone, pieces, lambda step, _: step % 2 == 0)(moving(it))
        same(ours, theirs, str(policy))
        assert differ(ours[1], bare(it.name)[1]), f"{policy} changes nothing"


@contextmanager
def skips_as_they_should(it: Small, counted: Counted) -> Iterator[None]:
    """Looks at every skip as it is joined: it must be what its source gave when it last computed."""
    blocks, pairs = it.backbone.blocks(it.model), it.backbone.native(it.backbone.depth(it.model))
    given: dict[int, Tensor] = {}

    def check(source: int, taken: Tensor) -> None:
        assert torch.equal(taken, given[source]), f"a skip is not what block {source} last gave"

    with ExitStack() as hooks:
        for source, target in pairs:
            keep = blocks[source].register_forward_hook(lambda _, __, y, i=source: given.__setitem__(i, y))
            into, _ = in_and_out(blocks[target])
            seen = into.register_forward_pre_hook(
                lambda _, args, kwargs, i=source: check(i, (*args, *kwargs.values())[-1]), with_kwargs=True
            )
            hooks.callback(keep.remove)
            hooks.callback(seen.remove)
        yield


# ---- skips given to it ----------------------------------------------------------------------------------------------


def given(it: Small) -> None:
    """Fresh branches leave the model bit for bit as it was; each one reaches the output, as by hand."""
    model = add_skips(it.case.model(), backbone=it.backbone)
    branches, calls = model.skip_branches, moving(it)
    same(run_all(model, calls[:2]), bare(it.name)[:2], "fresh branches")
    before = run_all(model, calls[:1])
    torch.manual_seed(2)
    for target, branch in branches.items():
        nn.init.normal_(branch.linear.weight, std=0.05)
        now = run_all(model, calls[:1])
        assert differ(now, before), f"the branch into block {target} has no effect"
        before = now
    pairs = mirrored(it.backbone, model)
    assert sorted(map(int, branches)) == sorted(target for _, target in pairs)
    by_hand = it._replace(model=it.case.model())
    with joined(by_hand, pairs, branches):
        same(run_all(model, calls[:2]), run_all(by_hand.model, calls[:2]), "branches", 1e-4)
        with attach(model, Policy(Inner(1, 1), Every(2), hold()), backbone=it.backbone) as run:
            ours, pieces = run_all(model, calls), pieces_of(run)
        theirs = ByHand(by_hand.model, it.backbone, pieces, lambda step, _: step % 2 == 0)(calls)
        same(ours, theirs, "holding with branches", 1e-4)


def learns(it: Small) -> None:
    """Fresh branches get a gradient, every one, though the rest of the model is frozen."""
    model, call = add_skips(it.case.model(), backbone=it.backbone), moving(it)[0]
    with torch.enable_grad():
        loss = sum(y.square().mean() for y in tree_leaves(model(**call)) if isinstance(y, Tensor))
    loss.backward()
    for target, branch in model.skip_branches.items():
        grad = branch.linear.weight.grad
        learning = grad is not None and bool(grad.isfinite().all() and grad.any())
        assert learning, f"no gradient in the branch into block {target}"


@contextmanager
def joined(it: Small, pairs: Sequence[tuple[int, int]], branches: nn.ModuleDict) -> Iterator[None]:
    """The branches by hand: x + W norm[x; s] + b before each target, by hooks alone."""
    blocks, order = it.backbone.blocks(it.model), it.backbone.order(it.model)
    taps: dict[int, Tensor] = {}

    def tap(number: int, returned: Any) -> None:
        places = order[number].contract.returns
        taps[number] = returned if places is None else returned[places[0]]

    def join(pair: tuple[int, int], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = order[pair[1]].contract.names[0]
        place = list(inspect.signature(type(blocks[pair[1]]).forward).parameters).index(name) - 1
        positional = place < len(args)
        x, branch = args[place] if positional else kwargs[name], branches[str(pair[1])]
        both = torch.cat([x, laid(taps[pair[0]], x)], dim=-1)  # (B, T, 2D)
        normed = F.layer_norm(both, both.shape[-1:], branch.norm.weight, branch.norm.bias, 1e-6)
        x = x + normed @ branch.linear.weight.T + branch.linear.bias  # (B, T, D)
        if positional:
            return (*args[:place], x, *args[place + 1 :]), kwargs
        return args, {**kwargs, name: x}

    with ExitStack() as hooks:
        for pair in pairs:
            tapping = blocks[pair[0]].register_forward_hook(lambda _, __, y, i=pair[0]: tap(i, y))
            joining = blocks[pair[1]].register_forward_pre_hook(
                lambda _, args, kwargs, pair=pair: join(pair, args, kwargs), with_kwargs=True
            )
            hooks.callback(tapping.remove)
            hooks.callback(joining.remove)
        yield

"""Fresh branches are the identity; checkpointing replays them; a list that is indexed is refused."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import BACKBONES, TwoStream, dit, inputs, loop, shaken

from skipdit import Join, Replace, add_skips, attach, methods, mirror
from skipdit.backbones.dit import DiT
from skipdit.core.backbone import Backbone, Contract
from skipdit.core.policy import Policy, Span
from skipdit.core.what import hold
from skipdit.core.when import Every
from skipdit.core.where import Inner


@pytest.mark.parametrize("make", [lambda: dit(None), lambda: dit(None, depth=7), lambda: shaken(TwoStream())])
def test_fresh_joins_leave_a_trained_model_bit_for_bit_as_it_was(make):
    model = make()
    bare, keys = loop(model), set(model.state_dict())
    width = 16 if isinstance(model, TwoStream) else 32
    add_skips(model, width)
    assert torch.equal(loop(model), bare)
    assert keys < set(model.state_dict())
    nn.init.normal_(next(iter(model.skip_branches.values())).linear.weight)
    assert not torch.equal(loop(model), bare)


@pytest.mark.parametrize("join", [Join, Replace])
def test_a_branch_is_the_published_formula(join):
    torch.manual_seed(0)
    branch = shaken(join(8))
    x, s = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    both = torch.cat([x, s], -1)
    normed = (both - both.mean(-1, keepdim=True)) / torch.sqrt(both.var(-1, unbiased=False, keepdim=True) + 1e-6)
    want = (normed * branch.norm.weight + branch.norm.bias) @ branch.linear.weight.T + branch.linear.bias
    torch.testing.assert_close(branch(x, s), want + x if join is Join else want)


def test_the_norm_computes_in_float32():
    branch = Replace(8).to(torch.bfloat16)
    x = (torch.randn(1, 2, 16) * 100).to(torch.bfloat16)
    want = torch.nn.functional.layer_norm(x.float(), (16,), eps=1e-6).to(torch.bfloat16)
    assert torch.equal(branch.norm(x), want)


@pytest.mark.parametrize(
    ("depth", "pairs"), [(1, []), (2, [(0, 1)]), (5, [(0, 4), (1, 3)]), (6, [(0, 5), (1, 4), (2, 3)])]
)
def test_mirror_pairs(depth, pairs):
    assert mirror(depth) == pairs


def test_pairs_must_run_forward_and_only_once():
    with pytest.raises(ValueError, match=r"pair \(3, 1\)"):
        add_skips(dit(None), 32, pairs=[(3, 1)])
    with pytest.raises(ValueError, match="twice"):
        add_skips(dit(None), 32, pairs=[(0, 4), (1, 4)])
    with pytest.raises(ValueError, match="already"):
        add_skips(dit("join"), 32)


@pytest.mark.parametrize("backbone", [b for b in BACKBONES if "dit" in b])
def test_checkpointing_gives_equal_gradients(backbone):
    def gradients(checkpointed: bool):
        model = BACKBONES[backbone]().train()
        if checkpointed:
            model.enable_gradient_checkpointing(lambda block, *a: checkpoint(block, *a, use_reentrant=False))
        torch.manual_seed(3)  # label dropout
        model(*inputs(0)).square().mean().backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    plain, replayed = gradients(False), gradients(True)
    assert plain.keys() == replayed.keys()
    assert all(torch.equal(plain[name], replayed[name]) for name in plain)


def test_reentrant_checkpointing_would_lose_gradients_and_is_refused():
    model = dit("join").train()
    model.enable_gradient_checkpointing(lambda block, *a: checkpoint(block, *a, use_reentrant=True))
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        model(*inputs(0)).square().mean().backward()


class Indexed(nn.Module):
    """A model that indexes its list, so that no stack is ever iterated."""

    backbone = Backbone({"blocks": Contract(("input",))})

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))

    def forward(self, x, t):
        for i in range(4):
            x = self.blocks[i](x)
        return x


class Sliced(Indexed):
    def forward(self, x, t):
        for block in self.blocks[:3]:
            x = block(x)
        return self.blocks[-1](x)


class Bypassing(Indexed):
    def forward(self, x, t):
        for block in self.blocks.children():
            x = block(x)
        return x


@pytest.mark.parametrize("kind", [Indexed, Sliced])
@torch.no_grad()
def test_a_list_that_is_indexed_or_sliced_hands_out_gates_too(kind):
    model = kind()
    with attach(model, methods.skip_cache(every=2)) as run:
        for step in range(4):
            run.begin(step, 10.0 - step)
            model(torch.ones(1, 2, 4), torch.ones(1))
    assert run.report().blocks_run == 4 + 2 + 4 + 2
    assert model.blocks[0] is next(model.blocks.children())


def test_blocks_that_bypass_the_stack_are_refused():
    model = Bypassing()
    with pytest.raises(RuntimeError, match="4 of 4 blocks ran without passing the stack"):
        with attach(model, methods.skip_cache(every=2)) as run:
            run.begin(0, 10.0)
            model(torch.ones(1, 2, 4), torch.ones(1))


@torch.no_grad()
def test_a_skipped_source_gives_what_is_held_of_it():
    """The span 0...4 is cut behind each block that feeds one outside; block 5 is joined by block 0's last output."""
    model, got = dit("replace"), []
    model.skip_branches["5"].register_forward_pre_hook(lambda _, args: got.append(args))
    with attach(model, Policy(Inner(0, 1), Every(2), hold())) as run:
        loop(model, run, steps=2)
    (_, full), (_, cached) = got
    assert cached is full
    assert {event.site for event in run.trace} == {Span(0, 1), Span(1, 5)}


def test_skips_on_a_model_that_indexes_its_list_are_refused():
    model = add_skips(Indexed(), 4)
    with pytest.raises(RuntimeError, match="without passing the stack"):
        model(torch.ones(1, 2, 4), torch.ones(1))


def test_deep_stacks_still_index_slice_and_count():
    model = DiT(8, 4, 3, 32, 6, 2, num_classes=5, skips="replace")
    assert len(model.blocks) == 6
    assert model.blocks[0] is next(iter(model.blocks.children()))
    assert model.blocks[-1] is list(model.blocks.children())[5]

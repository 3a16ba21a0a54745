"""After a run, an exception or an abort: the same outputs, keys, types, children and forwards."""

import copy
import pickle

import pytest
import torch
from zoo import BACKBONES, CASES, POLICIES, loop

from skipdit import attach


def snapshot(model):
    return {
        "keys": list(model.state_dict()),
        "types": [(name, type(m)) for name, m in model.named_modules()],
        "children": [(name, id(m)) for name, m in model.named_modules()],
        "forwards": [name for name, m in model.named_modules() if "forward" in vars(m)],
        "hooks": [(name, len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in model.named_modules()],
    }


@pytest.mark.parametrize(("backbone", "policy"), CASES)
def test_a_finished_run_leaves_nothing(backbone, policy):
    model = BACKBONES[backbone]()
    before, bare = snapshot(model), loop(model)
    with attach(model, POLICIES[policy]) as run:
        loop(model, run)
        assert list(model.state_dict()) == before["keys"]
    assert snapshot(model) == before
    assert torch.equal(loop(model), bare)
    assert not run._memories


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("place", [0, 3, 5])
@pytest.mark.parametrize(("backbone", "policy"), [c for c in CASES if c[0] == "dit-replace"])
def test_an_exception_in_any_block_leaves_nothing(backbone, policy, place, error):
    model = BACKBONES[backbone]()
    before, bare = snapshot(model), loop(model)
    with attach(model, POLICIES[policy]) as clean:
        want = loop(model, clean)

    seen = [0]

    def fail(*_):
        seen[0] += 1
        if seen[0] == 2:
            raise error("on purpose")

    with pytest.raises(error), attach(model, POLICIES[policy]) as run:
        hook = model.backbone.blocks(model)[place].register_forward_hook(fail)
        try:
            loop(model, run)
            pytest.fail("the block did not run twice")
        finally:
            hook.remove()
    assert snapshot(model) == before
    assert torch.equal(loop(model), bare)
    with attach(model, POLICIES[policy]) as again:
        assert torch.equal(loop(model, again), want)


@pytest.mark.parametrize(("backbone", "policy"), CASES)
def test_an_abort_inside_one_attach_does_not_leak_into_the_next_image(backbone, policy):
    model = BACKBONES[backbone]()
    with attach(model, POLICIES[policy]) as clean:
        want = loop(model, clean, seed=7)
    with attach(model, POLICIES[policy]) as run:
        loop(model, run, steps=4)
        assert torch.equal(loop(model, run, seed=7), want)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_model_copies_and_pickles_alike(backbone):
    model = BACKBONES[backbone]()
    bare = loop(model)
    assert torch.equal(loop(copy.deepcopy(model)), bare)
    assert torch.equal(loop(pickle.loads(pickle.dumps(model))), bare)
    twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        parameter.data.zero_()
    assert torch.equal(loop(model), bare)

"""A policy that always computes changes nothing; the same input at a stood-in step gives the same output."""

import pytest
import torch
from torch.utils._pytree import keystr, tree_flatten_with_path
from zoo import BACKBONES, CASES, POLICIES, STEPS, TIMES, always, inputs, loop

from skipdit import attach
from skipdit.core.what import hold


@pytest.mark.parametrize(("backbone", "policy"), CASES)
def test_always_computing_is_bit_identical_to_no_policy(backbone, policy):
    model = BACKBONES[backbone]()
    bare = loop(model)
    with attach(model, always(POLICIES[policy])) as run:
        kept = loop(model, run)
    assert torch.equal(kept, bare)
    assert all(event.computed for event in run.trace)


@pytest.mark.parametrize(("backbone", "policy"), CASES)
def test_the_first_step_is_always_computed(backbone, policy):
    model = BACKBONES[backbone]()
    bare = loop(model, steps=1)
    with attach(model, POLICIES[policy]) as run:
        assert torch.equal(loop(model, run, steps=1), bare)


@pytest.mark.parametrize(("backbone", "policy"), CASES)
@torch.no_grad()
def test_the_same_input_at_a_stood_in_step_gives_the_same_output(backbone, policy):
    model = BACKBONES[backbone]()
    call = inputs(0)
    want = model(*call)
    with attach(model, POLICIES[policy]) as run:
        for step in range(STEPS):
            run.begin(step, TIMES[step], total=STEPS)
            got = model(*call)
            held = POLICIES[policy].what == hold()
            assert torch.equal(got, want) if held else torch.allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(("backbone", "policy"), CASES)
def test_standing_in_does_change_the_output_of_a_real_run(backbone, policy):
    """The laws above would hold for a policy that does nothing at all; this one would not."""
    model = BACKBONES[backbone]()
    with attach(model, POLICIES[policy]) as run:
        kept = loop(model, run)
    assert not all(event.computed for event in run.trace)
    assert not torch.equal(kept, loop(model))


@pytest.mark.parametrize(("backbone", "policy"), CASES)
def test_what_is_remembered_is_not_written_to(backbone, policy):
    """A model that worked in place on the stack's output would corrupt it."""
    model = BACKBONES[backbone]()
    with attach(model, POLICIES[policy]) as run:
        loop(model, run, steps=3)
        before = _copies(run._memories)
        assert before
        run.begin(3, TIMES[3], total=STEPS)
        with torch.no_grad():
            model(*inputs(3))
        for key, (tensor, copy) in before.items():
            assert torch.equal(tensor, copy), key


def _copies(memories):
    """Every tensor that the estimators hold, by where it lies, beside a copy of it."""
    leaves, _ = tree_flatten_with_path({str(site): memory for site, memory in memories.items()})
    return {keystr(path): (leaf, leaf.clone()) for path, leaf in leaves if isinstance(leaf, torch.Tensor)}

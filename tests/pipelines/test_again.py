"""A call that breaks off, and then a complete one: equal to a fresh one, whatever was left half done."""

from contextlib import contextmanager

import pytest
import torch
from small import PIPELINES, output
from watch import blocks, same

import skipdit
from skipdit.core.policy import Policy
from skipdit.core.what import forecast, hold, residual
from skipdit.core.when import Drift, Every
from skipdit.core.where import Inner

POLICIES = {
    "hold": Policy(Inner(1, 1), Every(3), hold()),
    "first-block": Policy(Inner(1, 0), Drift(2.0), residual()),
    "forecast": Policy(Inner(1, 1), Every(2), forecast(1)),
}


@contextmanager
def enabled(target, policy):
    attached = skipdit.attach(target, policy).enable()
    try:
        yield attached
    finally:
        attached.disable()


MODES = {"with": skipdit.attach, "enable": enabled}


def after_step(last, error):
    """A callback that raises when step `last` is done."""

    def raises(pipe, step, t, tensors):
        if step == last:
            raise error("on purpose")
        return {}

    return raises


@contextmanager
def inside_block(small, number, call, error):
    """Block `number` raises when it is called for the n-th time."""
    seen = 0

    def raises(*_):
        nonlocal seen
        seen += 1
        if seen == call:
            raise error("on purpose")

    hook = blocks(getattr(small.pipe, small.transformers[0]))[number].register_forward_pre_hook(raises)
    try:
        yield
    finally:
        hook.remove()


ABORTED = [("flux-cfg", policy) for policy in POLICIES] + [("sd3", "hold"), ("lumina2", "hold"), ("wan22", "forecast")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "policy"), ABORTED)
def test_an_aborted_call_leaves_nothing_to_the_next(name, policy, mode):
    small, policy, short = PIPELINES[name](), POLICIES[policy], dict(steps=4, output_type="latent")
    bare = output(small, **short)
    with skipdit.attach(small.pipe, policy):
        want = output(small, **short)
    assert not torch.equal(want, bare)
    with MODES[mode](small.pipe, policy) as run:
        for last, error in ((0, ValueError), (1, ValueError), (0, KeyboardInterrupt)):
            with pytest.raises(error, match="on purpose"):
                output(small, seed=1, steps=4, callback_on_step_end=after_step(last, error))
            assert same(output(small, **short), want), f"after step {last}"
        for number, call, error in (
            (0, 1, ValueError),
            (0, 2, KeyboardInterrupt),
            (2, 1, ValueError),
            (0, 3, ValueError),
        ):
            with inside_block(small, number, call, error), pytest.raises(error, match="on purpose"):
                output(small, seed=1, **short)
            assert same(output(small, **short), want), f"call {call} of block {number}"
        assert run.report().steps == 4
    assert same(output(small, **short), bare)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["dit", "latte", "unidiffuser", "hunyuan-dit", "z-image"])
def test_pipelines_without_such_callbacks_may_break_off_inside_a_block(name, mode):
    small, policy = PIPELINES[name](), POLICIES["hold"]
    call = {"steps": 4} if name == "unidiffuser" else {"steps": 4, "output_type": "latent"}
    with skipdit.attach(small.pipe, policy):
        want = output(small, **call)
    with MODES[mode](small.pipe, policy):
        for number, turn in ((0, 1), (1, 1), (-1, 4)):
            with inside_block(small, number, turn, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
                output(small, seed=1, **call)
            assert same(output(small, **call), want)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["sd3", "flux-img2img", "mochi"])
def test_a_run_of_another_seed_between_leaves_the_first_as_it_was(name, policy, mode):
    small, policy = PIPELINES[name](), POLICIES[policy]
    with MODES[mode](small.pipe, policy) as run:
        first = output(small, seed=0, output_type="latent")
        figures = run.report()
        other = output(small, seed=1, output_type="latent")
        assert same(output(small, seed=0, output_type="latent"), first)
        assert run.report() == figures
    assert not torch.equal(other, first)


@pytest.mark.parametrize("mode", MODES)
def test_one_step_calls_are_runs_of_their_own(mode):
    """The timestep never rises here: only the sampler's new list tells the runs apart."""
    small = PIPELINES["flux-cfg"]()
    bare = [output(small, seed=seed, steps=1, output_type="latent") for seed in (0, 1)]
    with MODES[mode](small.pipe, POLICIES["hold"]) as run:
        for seed in (0, 1, 1, 0):
            assert same(output(small, seed=seed, steps=1, output_type="latent"), bare[seed])
            assert (run.report().steps, run.report().passes) == (1, 2)

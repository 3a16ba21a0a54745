"""What a call leaves to the next in the installed packages, and not in ours. docs/methods.md lists it."""

import pytest
import torch
from side_by_side import STEPS, cache_dit, distance, first_block, gated, mag_cache, ours, pab, transformer, verdicts
from small import PIPELINES, output

from skipdit import attach, methods

FAR = 1e3  # a threshold that nothing reaches
OUR_MAG = methods.magcache((1.0,) * STEPS, threshold=1.0, most=1, retention=0.0)
PAIRS = {
    "first block": (first_block(FAR), methods.first_block(FAR)),
    "MagCache": (mag_cache(), OUR_MAG),
    "PAB": (pab(spatial=3), methods.pab(spatial=3, hi=1001, lo=0)),
}


def drawn(name, ready, before=None):
    """What a call gives, after another one if asked."""
    small = PIPELINES[name]()
    with ready(small.pipe, transformer(small)):
        if before is not None:
            before(small)
        return output(small, steps=STEPS, guidance=False)


def whole(small):
    """A call of another seed."""
    output(small, seed=1, steps=STEPS, guidance=False)


def broken_off(small):
    """A call that breaks off after its first step."""

    def stops(*_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        output(small, seed=1, steps=STEPS, guidance=False, callback_on_step_end=stops)


@pytest.mark.parametrize("method", PAIRS)
def test_a_call_that_breaks_off_spoils_diffusers_next(method):
    """A pipeline cleans up at its end only. Ours begins anew by the sampler's own clock."""
    peer, policy = PAIRS[method]
    for ready, leaks in ((ours(policy), False), (peer, True)):
        want, got = drawn("flux", ready), drawn("flux", ready, broken_off)
        assert (distance(got, want) > 1e-3) == leaks
        assert leaks or torch.equal(got, want)


@pytest.mark.parametrize("name", ["dit", "sd3"])
def test_pab_s_count_goes_on_into_the_next_call(name):
    """On classes that diffusers never resets, after a whole call of 8 steps, which 3 doesn't divide."""
    peer, policy = PAIRS["PAB"]
    for ready, leaks in ((ours(policy), False), (peer, True)):
        assert torch.equal(drawn(name, ready, whole), drawn(name, ready)) != leaks


def test_another_batch_size_is_added_to_by_diffusers():
    """After a call of one image that broke off, its residual is added to both of the next call's."""
    seen, (peer, policy) = {}, PAIRS["first block"]
    for who, ready in (("ours", ours(policy)), ("theirs", peer)):
        small = PIPELINES["flux"]()
        model = transformer(small)
        with ready(small.pipe, model):
            broken_off(small)
            with verdicts(model, model.single_transformer_blocks[-1].proj_mlp) as seen[who]:
                output(small, steps=STEPS, guidance=False, batch=2)
    assert "".join(seen["ours"]) == "1" + 7 * "0"
    assert "".join(seen["theirs"]) == 8 * "0"


def test_mag_cache_returns_its_input_where_shapes_differ():
    """With a line in the log, after such a call: all blocks are left out, and nothing stands for them."""
    small = PIPELINES["flux"]()
    model, enters, leaves = transformer(small), [], []
    model.transformer_blocks[0].register_forward_pre_hook(
        lambda _, args, kwargs: enters.append(kwargs["hidden_states"]), with_kwargs=True
    )
    model.norm_out.register_forward_pre_hook(lambda _, args: leaves.append(args[0]))
    for ready, bare in ((ours(OUR_MAG), False), (mag_cache(), True)):
        with ready(small.pipe, model):
            broken_off(small)
            output(small, steps=STEPS, guidance=False, batch=2)
        assert torch.equal(enters[1], leaves[1]) == bare
        enters.clear()
        leaves.clear()


def test_mag_cache_for_another_number_of_steps_runs_into_the_next_call():
    """5 steps under a config for 8: the second call begins at step 5. Ours refuses the number by name."""
    small = PIPELINES["pixart-alpha"]()
    model = transformer(small)
    with mag_cache()(small.pipe, model), verdicts(model, model.transformer_blocks[0].ff) as seen:
        for seed in (0, 1):
            output(small, seed=seed, steps=5)
    assert "".join(seen) == "10101" + "010" + "10"
    with pytest.raises(ValueError, match="is for 8 steps, but step 0 of 5 came"):
        with attach(small.pipe, OUR_MAG):
            output(small, steps=5)


def test_cache_dit_drifts_by_a_step_a_run():
    """Given a transformer and the right number of steps, it refreshes one call late."""
    small = PIPELINES["pixart-alpha"]()
    model = transformer(small)
    pairs = {
        "ours": ours(methods.dbcache(FAR, front=1, warmup=2)),
        "theirs": cache_dit(1, 0, max_warmup_steps=2, **gated(1.0)),
    }
    runs = {}
    for who, ready in pairs.items():
        with ready(small.pipe, model), verdicts(model, model.transformer_blocks[-1].ff) as seen:
            for _ in range(3):
                output(small, steps=STEPS)
        runs[who] = ["".join(seen[i : i + STEPS]) for i in range(0, 3 * STEPS, STEPS)]
    assert runs == {"ours": 3 * ["11000000"], "theirs": ["11000000", "01100000", "00110000"]}

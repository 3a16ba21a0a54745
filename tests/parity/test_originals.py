"""Where an installed package is wrong: what it does, and what ours does instead. docs/methods.md lists it."""

import math

import pytest
import torch
from diffusers import hooks
from side_by_side import STEPS, cache_dit, first_block, gated, mag_cache, ours, pab, theirs, transformer, verdicts
from small import PIPELINES, output

from skipdit import attach, methods
from skipdit.core.policy import Policy
from skipdit.core.what import residual
from skipdit.core.when import Every
from skipdit.core.where import Inner

FAR = 1e3  # a threshold that nothing reaches
OUR_MAG = methods.magcache((1.0,) * STEPS, threshold=1.0, most=1, retention=0.0)
ALL_OF_IT = dict(hi=1001, lo=0)


# ---- guidance


@pytest.mark.parametrize("name", ["dit", "pixart-alpha", "sd3", "latte"])
def test_first_block_cache_raises_in_pipelines_that_name_no_branch(name):
    small = PIPELINES[name]()
    with first_block(FAR)(small.pipe, transformer(small)), pytest.raises(ValueError, match="No cache context is set"):
        output(small, steps=STEPS)
    small = PIPELINES[name]()
    with attach(small.pipe, methods.first_block(FAR)) as run:
        output(small, steps=STEPS)
    assert [event.computed for event in run.trace].count(True) == 1


def given_to_the_second_block(small, ready, **call):
    """What its attention gave in every pass."""
    model, given = transformer(small), []
    part = (model.blocks if hasattr(model, "blocks") else model.transformer_blocks)[1]
    part = part.attn1 if hasattr(part, "attn1") else part.attn
    hook = part.register_forward_hook(lambda *c: given.append(c[-1][0].clone() if isinstance(c[-1], tuple) else c[-1]))
    with ready(small.pipe, model):
        output(small, steps=STEPS, guidance=True)
    hook.remove()
    return given


def test_pab_gives_one_branch_s_attention_to_the_other():
    """Where guidance takes two passes, the second of them is PAB's second step. Ours keeps the branches apart."""
    peer, policy = pab(spatial=2), methods.pab(spatial=2, cross=None, **ALL_OF_IT)
    cond, uncond, *_ = given_to_the_second_block(PIPELINES["wan"](), peer)
    assert torch.equal(cond, uncond)
    cond, uncond, *after = given_to_the_second_block(PIPELINES["wan"](), ours(policy))
    assert not torch.equal(cond, uncond)
    assert torch.equal(after[0], cond)
    assert torch.equal(after[1], uncond)


def test_mag_cache_gives_one_branch_s_residual_to_the_other():
    """In a pipeline of two passes that names no branch: every unconditional pass is spared, no conditional one."""
    runs = {}
    for who, ready in (("ours", ours(OUR_MAG)), ("theirs", mag_cache(num_inference_steps=2 * STEPS))):
        small = PIPELINES["flux-img2img"]()
        model = transformer(small)
        with verdicts(model, model.transformer_blocks[0].ff) as seen, ready(small.pipe, model):
            output(small, steps=2 * STEPS)
        runs[who] = "".join(seen)
    assert runs["ours"] == "1100" * (STEPS // 2)
    assert runs["theirs"] == "10" * STEPS


# ---- what is looked for, and not found


def test_pab_takes_latte_s_temporal_attention_for_spatial():
    """`temporal_transformer_blocks` matches `transformer_blocks`: its own range is never looked at."""
    small = PIPELINES["latte"]()
    model, runs = transformer(small), {}
    policy = methods.pab(spatial=2, temporal=4, cross=None, **ALL_OF_IT)
    for who, ready in (("ours", ours(policy)), ("theirs", pab(spatial=2, temporal=4))):
        with verdicts(model, model.temporal_transformer_blocks[0].attn1.to_q) as seen, ready(small.pipe, model):
            output(small, steps=STEPS)
        runs[who] = "".join(seen)
    assert runs == {"ours": "10001001", "theirs": "10101010"}  # the last step's t is 0, which lies outside of ours


@pytest.mark.parametrize("name", ["dit", "cogvideox", "wan"])
def test_taylorseer_s_default_patterns_match_nothing_in_silence(name):
    """`attn1` isn't `attn`. Ours goes by what parts are, and a policy that matches nothing is refused."""
    small = PIPELINES[name]()
    plain = output(small, steps=STEPS, guidance=False)
    config = hooks.TaylorSeerCacheConfig(cache_interval=3, disable_cache_before_step=1)
    with theirs(hooks.apply_taylorseer_cache, config)(small.pipe, transformer(small)):
        assert torch.equal(output(small, steps=STEPS, guidance=False), plain)
    with attach(small.pipe, methods.taylorseer(every=3, warmup=1)) as run:
        assert not torch.equal(output(small, steps=STEPS, guidance=False), plain)
    assert not all(event.computed for event in run.trace)


# ---- numbers that make no sense


def test_a_threshold_of_nan_reuses_at_every_step_of_diffusers():
    small = PIPELINES["flux"]()
    model = transformer(small)
    with first_block(math.nan)(small.pipe, model):
        with verdicts(model, model.single_transformer_blocks[-1].proj_mlp) as seen:
            output(small, steps=STEPS, guidance=False)
    assert "".join(seen) == "10000000"
    with pytest.raises(ValueError, match="threshold=nan"):
        methods.first_block(math.nan)


@torch.no_grad()
@pytest.mark.parametrize("who", ["ours", "theirs"])
def test_one_image_s_nan_freezes_diffusers_whole_batch(who):
    """From then on every difference is NaN, which isn't above any threshold. Ours computes."""
    small = PIPELINES["flux"]()
    call, model, policy = {}, transformer(small), methods.first_block(1e-3)
    hook = model.register_forward_pre_hook(lambda _, args, kwargs: call.update(kwargs), with_kwargs=True)
    output(small, steps=1, guidance=False, batch=2)
    hook.remove()
    passes = [{**call, "hidden_states": call["hidden_states"] * (1 + step)} for step in range(3)]
    for each in passes[:2]:
        each["hidden_states"][0] = math.nan
    want = [model(**each)[0][1] for each in passes]
    if who == "ours":
        with attach(model, policy) as run:
            got = [(run.begin(step, 900.0 - step), model(**each)[0][1])[1] for step, each in enumerate(passes)]
    else:
        with first_block(1e-3)(small.pipe, model), model.cache_context("cond"):
            got = [model(**each)[0][1] for each in passes]
    assert torch.equal(torch.stack(got), torch.stack(want)) == (who == "ours")


@pytest.mark.parametrize(
    ("peer", "refused"),
    [
        (lambda: pab(spatial=0), lambda: methods.pab(spatial=0)),
        (
            lambda: theirs(
                hooks.apply_taylorseer_cache,
                hooks.TaylorSeerCacheConfig(0, 0, cache_identifiers=[r"transformer_blocks.*attn"]),
            ),
            lambda: methods.taylorseer(every=0),
        ),
    ],
    ids=["PAB", "TaylorSeer"],
)
def test_a_range_of_nought_divides_by_it_in_the_run(peer, refused):
    """diffusers takes it, and stops at a later step. Ours refuses it when it is made."""
    small = PIPELINES["flux"]()
    with peer()(small.pipe, transformer(small)), pytest.raises(ZeroDivisionError):
        output(small, steps=STEPS, guidance=False)
    with pytest.raises(ValueError, match="=0 must be at least 1"):
        refused()


def test_cache_dit_never_looks_where_the_threshold_is_1():
    """It reuses whatever came. Ours compares at any threshold."""
    policy, runs = methods.dbcache(1.0, front=1, warmup=0), {}
    for who, ready in (("ours", ours(policy)), ("theirs", cache_dit(1, 0, **gated(1.0)))):
        small = PIPELINES["flux"]()
        model = transformer(small)
        with verdicts(model, model.single_transformer_blocks[-1].proj_mlp) as seen, ready(small.pipe, model):
            output(small, steps=STEPS, guidance=False)
        runs[who] = "".join(seen)
    assert runs["theirs"] == "10000000"
    assert runs["ours"].count("1") > 1


# ---- long skips


@pytest.mark.parametrize(("front", "back"), [(2, 1), (1, 1)])
def test_cache_dit_hands_hunyuan_dit_s_last_block_another_block_s_branch(front, back):
    """Unless as many blocks run at either end, block 7 is given block 1's output in place of block 0's."""
    small = PIPELINES["hunyuan-dit"]()
    model, branches = transformer(small), {}
    for who, ready in (
        ("ours", ours(Policy(Inner(front, back), Every(2), residual()))),
        ("theirs", cache_dit(front, back)),
    ):
        outputs, given = {}, []
        handles = [
            block.register_forward_hook(lambda *c, number=number, outputs=outputs: outputs.update({number: c[-1]}))
            for number, block in enumerate(model.blocks)
        ]
        takes = model.blocks[-1].skip_norm.register_forward_pre_hook(
            lambda _, args, outputs=outputs, given=given: given.append(
                [n for n, y in outputs.items() if torch.equal(args[0].chunk(2, -1)[1], y)]
            )
        )
        with ready(small.pipe, model):
            output(small, steps=STEPS)
        for handle in [*handles, takes]:
            handle.remove()
        branches[who] = given[1]
    assert branches == {"ours": [0], "theirs": [front - 1]}


# ---- lists that take turns


def test_mag_cache_takes_latte_s_lists_one_after_the_other():
    """All spatial blocks, then all temporal ones: what it subtracts has two shapes. Ours goes by the running order."""
    small = PIPELINES["latte"]()
    with mag_cache()(small.pipe, transformer(small)), pytest.raises(RuntimeError, match="size of tensor a"):
        output(small, steps=STEPS)
    small = PIPELINES["latte"]()
    with attach(small.pipe, OUR_MAG) as run:
        output(small, steps=STEPS)
    assert [event.computed for event in run.trace].count(True) == STEPS // 2

"""SmoothCache against its authors' package, and against schedules that their calibration gave.

The package lacks the calibration that its README shows, so what the search gives is recorded: bits that the authors'
calibration_helper.py (github.com/Roblox/SmoothCache, 54ebe11) gave for curves drawn here.
"""

import io
import random
from contextlib import contextmanager, redirect_stdout

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from side_by_side import STEPS, agree, distance, ours, transformer, verdicts
from small import PIPELINES, output
from zoo import dit, loop

from skipdit import attach, methods, plan
from skipdit.core.policy import Policy
from skipdit.core.what import hold
from skipdit.core.when import Every
from skipdit.core.where import Parts
from skipdit.plan.curves import smoothcache

ATTN, MLP, CROSS = "10010110", "11010010", "10001010"
WORDY = redirect_stdout(io.StringIO())  # the package prints a line a call


def package():
    with redirect_stdout(io.StringIO()):
        return pytest.importorskip("SmoothCache", reason="dit-smoothcache is not installed: pip install -e '.[dev]'")


@contextmanager
def enabled(helper):
    helper.enable()
    try:
        with WORDY:
            yield
    finally:
        helper.disable()


def helped(model, block, schedule):
    """The authors' helper around parts of each block, by the parts' names."""
    bits = {part: numbers(drawn) for part, drawn in schedule.items()}
    return enabled(package().SmoothCacheHelper(model, block, list(bits), bits))


def numbers(bits):
    return [int(bit) for bit in bits]


def theirs(block=BasicTransformerBlock, **schedule):
    return lambda pipe, model: helped(model, block, schedule)


# ---- what it draws


@pytest.mark.parametrize("name", ["dit", "latte"])
def test_attention_and_mlp_by_schedules_of_their_own(name):
    agree(name, methods.smoothcache({"attn": ATTN, "mlp": MLP}), theirs(attn1=ATTN, ff=MLP), guidance=True)


def test_cross_attention_too():
    policy = methods.smoothcache({"attn": ATTN, "cross": CROSS, "mlp": MLP})
    agree("pixart-alpha", policy, theirs(attn1=ATTN, attn2=CROSS, ff=MLP), guidance=True)


def test_the_helper_for_diffusers_wraps_self_attention():
    def ready(pipe, model):
        return enabled(package().DiffuserCacheHelper(model, {"attn1": numbers(ATTN)}))

    agree("dit", methods.smoothcache({"attn": ATTN}), ready)


def test_our_dit_step_for_step():
    """The helper's DiT names, attn and mlp, are ours."""
    model, bits = dit(None), "110010110"
    with attach(model, methods.smoothcache(bits)) as run:
        a = loop(model, run)
    with helped(model, type(model.blocks[0]), {"attn": bits, "mlp": bits}):
        b = loop(model)
    assert distance(a, b) < 1e-6
    assert distance(a, loop(model)) > 1e-3


# ---- its schedules


RECORDED = {  # (seed, steps, gaps, threshold) -> bits
    (0, 10, 1, 0.5): "1110110101",
    (1, 12, 2, 0.3): "101001001001",
    (2, 20, 3, 0.0): "11111111111111111111",
    (3, 20, 3, 0.1): "10001101101111110111",
    (4, 20, 3, 0.2): "10010101000100011111",
    (5, 30, 3, 0.15): "100011000100010100101100010001",
    (6, 30, 3, 0.4): "100010001010001010010010010011",
    (7, 30, 5, 0.1): "101101000001010001110000010001",
    (8, 30, 5, 0.3): "100001000010000100001001000011",
    (9, 50, 3, 0.15): "10010001011001110010010001010001011000101000100101",
    (10, 50, 3, 0.25): "10001000100010010010010100010011011010101001011011",
    (11, 50, 5, 0.2): "10100101001000010000010100010001000100100010001001",
}


def curves(seed, steps, gaps):
    """Errors that grow with the gap."""
    rng = random.Random(seed)
    return [[rng.random() * gap / gaps for _ in range(steps - gap)] for gap in range(1, gaps + 1)]


def bits_of(computed, steps):
    return "".join("01"[step in computed] for step in range(steps))


@pytest.mark.parametrize("case", RECORDED)
def test_the_search_gives_the_recorded_bits(case):
    seed, steps, gaps, threshold = case
    rows = curves(seed, steps, gaps)
    assert methods.smoothcache.schedule(rows, threshold, steps) == RECORDED[case]
    assert bits_of(smoothcache(rows, threshold, steps), steps) == RECORDED[case]


def test_both_of_our_searches_give_the_same():
    for seed in range(500):
        rng = random.Random(seed)
        steps, gaps, threshold = rng.randint(6, 60), rng.randint(1, 5), rng.choice([0.0, 0.05, 0.2, 0.5, 1.0])
        rows = curves(seed, steps, gaps)
        assert methods.smoothcache.schedule(rows, threshold, steps) == bits_of(
            smoothcache(rows, threshold, steps), steps
        )


@pytest.mark.parametrize(("steps", "computed"), [(30, 16), (50, 26), (70, 36)])
def test_the_authors_rows_for_fora_are_every_second_step_and_the_last(steps, computed):
    shipped = (steps // 2 - 1) * "10" + "11"
    policy = Policy(Parts(), Every(2, tail=1), hold())
    assert "".join("01"[full] for full in plan(policy, range(steps, 0, -1))) == shipped
    assert shipped.count("1") == computed


# ---- what is wrong in the package


def test_a_second_run_is_never_cached_by_theirs():
    """Their counter goes on past the schedule. Ours begins anew."""
    small = PIPELINES["dit"]()
    model, seen = transformer(small), {}
    part = model.transformer_blocks[0].attn1.to_q
    for who, ready in (("ours", ours(methods.smoothcache({"attn": ATTN}))), ("theirs", theirs(attn1=ATTN))):
        with verdicts(model, part) as seen[who], ready(small.pipe, model):
            first = output(small, steps=STEPS)
            second = output(small, steps=STEPS)
            assert torch.equal(first, second) == (who == "ours")
    assert "".join(seen["ours"]) == ATTN + ATTN
    assert "".join(seen["theirs"]) == ATTN + STEPS * "1"


def test_guidance_in_two_passes_is_mixed_up_by_theirs():
    """Their counter counts calls: the unconditional pass is given the conditional one's attention. Ours keeps apart."""
    small = PIPELINES["wan"]()
    model, given = transformer(small), {"ours": [], "theirs": []}
    policy, calls = methods.smoothcache({"attn": "10" * (STEPS // 2)}), "10" * STEPS
    for who, ready in (("ours", ours(policy)), ("theirs", theirs(WanTransformerBlock, attn1=calls))):
        hook = model.blocks[1].attn1.register_forward_hook(lambda *call, to=given[who]: to.append(call[-1].clone()))
        with ready(small.pipe, model):
            output(small, guidance=True, steps=STEPS)
        hook.remove()
        assert len(given[who]) == 2 * STEPS
    cond, uncond, *after = given["ours"]
    assert not torch.equal(cond, uncond)
    assert torch.equal(after[0], cond)
    assert torch.equal(after[1], uncond)
    assert torch.equal(given["theirs"][0], given["theirs"][1])


def test_a_model_without_such_parts_is_passed_over_by_theirs():
    """In silence. Ours refuses by name what it doesn't find."""
    small = PIPELINES["flux"]()
    model = transformer(small)
    plain = output(small, guidance=False, steps=STEPS)
    with theirs(attn1=ATTN)(small.pipe, model):
        assert torch.equal(output(small, guidance=False, steps=STEPS), plain)
    with pytest.raises(ValueError, match="has no part 'attn1'"):
        with attach(small.pipe, methods.smoothcache({"attn1": ATTN})):
            pytest.fail("attached")


def test_the_calibration_is_missing_from_the_package():
    """So a schedule can't be made with it. `smoothcache.schedule` and `skipdit.plan.calibrate` are ours."""
    assert not hasattr(package(), "CalibrationHelper")
    assert "CalibrationHelper" not in package().__all__

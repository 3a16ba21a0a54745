"""Published schedules, step for step, by hand."""

import pytest
import torch
from zoo import STEPS, Counted, dit, inputs, loop, video

from skipdit import attach, methods, plan
from skipdit.core.policy import Leaf, Span, Step
from skipdit.methods.magcache import mask

FIFTY = list(range(980, -1, -20))


def drawn(policy, timesteps=FIFTY):
    return "".join("01"[computed] for computed in plan(policy, timesteps))


def bits(policy, kind, steps=STEPS, times=None):
    """What a schedule decides for sites of one kind."""
    memory, times = {}, times or [900.0 - 100 * i for i in range(steps)]
    asked = [policy.when(memory, Step(i, steps, t), Leaf("block.part", kind), None) for i, t in enumerate(times)]
    return "".join("01"[computed] for computed in asked)


# ---- SmoothCache


def growing(steps, gap):
    """Errors that grow smoothly along the run, and with the gap."""
    return [0.17 * gap * (1 + (i / 25.6) ** 1.5) for i in range(steps - gap)]


def inverted(bits):
    """Error curves that leave the search no other choice than these bits."""
    rows = [[1.0] * len(bits) for _ in range(3)]
    computed = [i for i, bit in enumerate(bits) if bit == "1"]
    for i, after in zip(computed, [*computed[1:], len(bits)], strict=True):
        if after - i > 1:
            rows[after - i - 2][i] = 0.1
    return rows


PUBLISHED = {
    "100101010101010101010101010111": 16,
    "10010101" + 42 * "1": 46,
    "1000100100" + 19 * "10" + "11": 24,
    "1000100100" + 29 * "10" + "11": 34,
    "10100101011101010101010101010101001001001001001011": 28 - 4,
}


@pytest.mark.parametrize("published", PUBLISHED)
def test_smoothcache_finds_the_published_bits_again(published):
    found = methods.smoothcache.schedule(inverted(published), 0.15, len(published))
    assert found == published
    assert found.count("1") == PUBLISHED[published]
    assert drawn(methods.smoothcache(found), range(len(found), 0, -1)) == published


def test_smoothcache_tries_the_longest_gap_first_and_tests_its_end_only():
    rows = [[0.9] * 6, [0.9] * 6, [0.1, *[0.9] * 5]]
    assert methods.smoothcache.schedule(rows, 0.5, 6) == "100011"
    assert methods.smoothcache.schedule([[0.5] * 6], 0.5, 6) == "101011"
    assert methods.smoothcache.schedule([[0.5] * 6], 0.4, 6) == "111111"


def test_smoothcache_gives_the_published_30_steps_for_a_smooth_curve():
    found = methods.smoothcache.schedule([growing(30, gap) for gap in (1, 2, 3)], 0.35, 30)
    assert found == "100101010101010101010101010111"


def test_smoothcache_averages_over_depth_where_a_curve_reaches():
    curves = {"blocks.0.attn": [[0.2, 0.4, 0.6], [1.0]], "blocks.1.attn": [[0.4, 0.8]]}
    assert methods.smoothcache.averaged(curves) == [pytest.approx([0.3, 0.6, 0.6]), [1.0]]


def test_smoothcache_gives_each_kind_its_own_bits():
    policy = methods.smoothcache({"attn": "1010", "mlp": "1001"})
    assert bits(policy, "attn", 4) == "1010"
    assert bits(policy, "mlp", 4) == "1001"
    assert drawn(policy, [4, 3, 2, 1]) == "1000"


def test_a_mask_is_for_its_own_number_of_steps():
    model = dit(None)
    with pytest.raises(ValueError, match="is for 4 steps, but step 0 of 9 came"):
        with attach(model, methods.smoothcache("1010")) as run:
            loop(model, run)


# ---- MagCache


def test_magcache_by_hand():
    """From step 2 on: err .01, .01+.0298, then .0987 > .06; anew: .03, then .1085 > .06; anew: .1; anew: .2."""
    ratios = (1.0, 1.0, 0.99, 0.98, 0.97, 0.97, 0.95, 0.9, 0.8)
    assert mask(ratios, 0.06, 3, 0.2) == "110010111"
    assert mask(ratios, 0.0, 3, 0.2) == "111111111"
    assert mask((1.0,) * 9, 0.06, 3, 0.0) == "100010001"
    assert mask((1.0,) * 9, 0.06, 2, 0.5) == "111110010"


def test_magcache_for_another_number_of_steps():
    assert methods.magcache.rescaled((1.0, 2.0, 3.0), 5) == (1.0, 1.0, 2.0, 3.0, 3.0)
    assert methods.magcache.rescaled((1.0, 2.0, 3.0), 3) == (1.0, 2.0, 3.0)


# ---- Delta-DiT


def test_delta_dit_spares_the_rear_first_then_the_front_and_is_full_at_the_switch():
    when = methods.delta_dit(every=3, blocks=2, switch=3).when
    sites = {kind: Span(0, 2, kind) for kind in ("front", "rear", "both", "")}
    got = {k: "".join("01"[when({}, Step(i, 9), s, None)] for i in range(9)) for k, s in sites.items()}
    assert got == {"front": "111110100", "rear": "100111111", "both": "100110100", "": "100110100"}


@pytest.mark.parametrize("blocks", [2, 3, 5, 6])
def test_delta_dit_runs_the_other_blocks_also_where_the_ranges_overlap(blocks):
    model, ran = dit(None), []
    with Counted(model) as calls, attach(model, methods.delta_dit(every=9, blocks=blocks, switch=1)) as run:
        for step in range(4):
            before = list(calls)
            run.begin(step, 9.0 - step, total=4)
            with torch.no_grad():
                model(*inputs(step))
            ran.append([now - then for now, then in zip(calls, before, strict=True)])
    full, rest = [1] * 6, 6 - blocks
    assert ran == [full, [1] * rest + [0] * blocks, full, [0] * blocks + [1] * rest]


@torch.no_grad()
def test_delta_dit_adds_the_change_to_the_fresh_input_of_the_range():
    model, first, last = dit(None), [], []
    model.blocks[0].register_forward_hook(lambda *call: first.append(call[-1]))
    model.final_layer.register_forward_pre_hook(lambda _, args: last.append(args[0]))
    with attach(model, methods.delta_dit(every=9, blocks=5, switch=5)) as run:
        loop(model, run, steps=2)
    assert torch.allclose(last[1], first[1] + (last[0] - first[0]), atol=1e-5)


@pytest.mark.parametrize("share", [0.4, 0.5, 0.6, 0.9])
def test_delta_dit_meets_its_budget(share):
    policy, steps, depth = methods.delta_dit.budget(20, 28, share), 20, 28
    full = drawn(policy, range(20, 0, -1)).count("1")
    spent = full * depth + (steps - full) * (depth - policy.where.blocks)
    assert spent == pytest.approx(share * steps * depth, abs=(steps - full) / 2)


def test_delta_dit_budget_by_hand():
    """N = ceil(1 / 0.6) = 2, so 10 of 20 steps are full, and 20 * 28 * 0.4 / 10 = 22.4 blocks are cached."""
    assert str(methods.delta_dit.budget(20, 28, 0.6)) == "delta_dit(every=2, blocks=22)"
    with pytest.raises(ValueError, match="of 28 blocks cached"):
        methods.delta_dit.budget(20, 28, 1.0)


# ---- the others


@pytest.mark.parametrize(
    ("policy", "want"),
    [
        (methods.fora(every=3), "1001001001"),
        (methods.taylorseer(every=4, warmup=3), "1110001000"),
        (methods.hermite(every=3, warmup=2), "1100100100"),
        (methods.barycentric(every=3, warmup=1), "1001001001"),
        (methods.blockdance(every=2, hi=0.7, lo=0.2), "1111010111"),
        (methods.faster_diffusion(keys=(0, 1, 5)), "1100010000"),
        (methods.faster_diffusion(keys=3), "1001001001"),
        (methods.skip_forecast(every=3, order=2), "1110010010"),
        (methods.chebyshev(window=2, grow=0.75, warmup=3, steps=10), "1110101001"),
    ],
)
def test_plans(policy, want):
    assert drawn(policy, range(10, 0, -1)) == want


def test_faster_diffusion_has_the_nine_published_keys():
    assert drawn(methods.faster_diffusion()).count("1") == 9


def test_faster_diffusion_takes_18_blocks_of_a_transformer_unless_told():
    deep = dit(None, depth=20)
    assert methods.faster_diffusion().where(deep, deep.backbone) == [Span(0, 18)]
    assert methods.faster_diffusion(blocks=3).where(deep, deep.backbone) == [Span(0, 3)]
    with pytest.raises(ValueError, match="reaches past the last of 6 blocks"):
        methods.faster_diffusion().where(dit(None), deep.backbone)


def test_spectrum_s_window_grows_as_the_authors_counter_does():
    """The counter of the released code, written down again."""
    policy, window, row, want = methods.chebyshev(window=2, grow=0.75, warmup=5), 2.0, 0, ""
    for step in range(50):
        full = step < 5 or (row + 1) % int(window) == 0
        window = round(window + 0.75, 3) if full and step >= 5 else window
        row = 0 if full else row + 1
        want += "01"[full]
    assert drawn(policy) == want


def test_pab_by_kind():
    policy = methods.pab(spatial=2, temporal=3, cross=4, hi=800, lo=100)
    assert bits(policy, "attn") == "111010101"  # t = 900 and 800 lie outside, and so does 100
    assert bits(policy, "temporal") == "110100101"
    assert bits(policy, "cross") == "110010001"
    sites = policy.where(video(), video().backbone)
    assert {site.path: site.kind for site in sites[:4]} == {
        "spatial.0.attn1": "attn",
        "spatial.0.attn2": "cross",
        "temporal.0.attn1": "temporal",
        "temporal.0.attn2": "cross",
    }


def test_t_gate_by_kind():
    policy = methods.t_gate(gate=6, every=3, warmup=2, after=2)
    assert bits(policy, "cross") == "111111000"
    assert bits(policy, "attn") == "111001101"
    assert methods.t_gate(gate=3, every=1).where.names == ("cross",)


def test_t_gate_needs_cross_attention():
    with pytest.raises(ValueError, match="has no part 'cross'"), attach(dit(None), methods.t_gate()):
        pytest.fail("attached")


def test_skip_plan_runs_k_blocks_at_either_end():
    model, ran = dit("replace"), []
    with Counted(model) as calls, attach(model, methods.skip_plan((0, 1, 2, 1, 0, 2))) as run:
        for step in range(6):
            before = sum(calls)
            run.begin(step, 9.0 - step, total=6)
            with torch.no_grad():
                model(*inputs(step))
            ran.append(sum(calls) - before)
    assert ran == [6, 2, 4, 2, 6, 4]


def test_skip_plan_with_one_k_is_skip_cache():
    model, outputs = dit("replace"), []
    for policy in (methods.skip_plan((0, 2, 0, 2, 0, 2, 0, 2, 0)), methods.skip_cache(every=2, branch=2)):
        with attach(model, policy) as run:
            outputs.append(loop(model, run))
    assert torch.equal(*outputs)

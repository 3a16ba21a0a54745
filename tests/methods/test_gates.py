"""Gates: what they look at, what they learn, when they give in, by hand and on real models."""

import math

import pytest
import torch
from small import PIPELINES, output
from zoo import STEPS, Counted, dit, loop, video

from skipdit import attach, methods
from skipdit.core.policy import WATCHED, Leaf, Moment, Policy, Span, Step
from skipdit.core.what import residual
from skipdit.core.when import Drift, Guarded
from skipdit.core.where import Inner
from skipdit.methods.adacache import Rated, motion
from skipdit.methods.easycache import Follows

SPAN = Span(0, 6)


def computed(run):
    return "".join("01"[event.computed] for event in run.trace if event.site.kind != WATCHED)


def flow(*values):
    return (torch.tensor(values),)


# ---- first-block cache and DBCache


def test_a_guard_forces_steps_and_bounds_what_is_spared():
    model = dit(None)
    for guard, want in (
        (Guarded(Drift(1e9)), "100000000"),
        (Guarded(Drift(1e9), warmup=3), "111000000"),
        (Guarded(Drift(1e9), warmup=2, tail=2), "110000011"),
        (Guarded(Drift(1e9), warmup=1, most=2), "100100100"),
    ):
        with attach(model, Policy(Inner(1, 0), guard, residual())) as run:
            loop(model, run)
        assert computed(run) == want


def test_a_forced_step_is_what_the_next_ones_are_compared_with():
    """Values 1, 2, 2.1 with a bound of 20 %: 2 is computed because it is forced, so 2.1 has moved by 5 %."""
    when, memory, verdicts = Guarded(Drift(0.2, lambda moment: moment.entry[0]), warmup=2), {}, []
    for index, value in enumerate((1.0, 2.0, 2.1, 2.2, 2.5)):
        moment = Moment(flow(0.0), flow(value))
        verdicts.append(when(memory, Step(index, 5), SPAN, moment))
        if verdicts[-1] or index == 0:
            when.observe(memory, Step(index, 5), SPAN, flow(value), flow(value))
    assert verdicts == [True, True, False, False, True]


def test_dbcache_runs_its_first_and_last_blocks_at_every_step():
    model = dit(None)
    with Counted(model) as calls, attach(model, methods.dbcache(1e9, front=2, back=1, warmup=3)) as run:
        loop(model, run)
    assert calls == [9, 9, 3, 3, 3, 9]


# ---- EasyCache


def test_easycache_by_hand():
    """x 1, 2, 3, 4, y 10, 14 at the full steps: k = 4; step 2 adds 4 * 1 / 14 = .286, step 3 as much: .571."""
    when, memory, verdicts = Follows(0.5), {}, []
    for index, (x, y) in enumerate([(1.0, 10.0), (2.0, 14.0), (3.0, None), (4.0, 20.0), (4.5, None)]):
        verdicts.append(when(memory, Step(index, 9), SPAN, Moment(flow(x), flow(x))))
        if verdicts[-1]:
            when.observe(memory, Step(index, 9), SPAN, flow(x), flow(y))
    assert verdicts == [True, True, False, True, False]
    assert memory["rate"].item() == pytest.approx(3)  # (20 - 14) / (4 - 2)
    assert memory["error"] == pytest.approx(3 * 0.5 / 20)


def test_easycache_computes_at_nan():
    when = Follows(0.5)
    memory = {"rate": torch.tensor(1.0), "y": torch.ones(1), "before": torch.ones(1)}
    assert when(memory, Step(3), SPAN, Moment(flow(math.nan), flow(1.0)))


# ---- AdaCache


def test_adacache_reads_its_rate_from_the_codebook():
    when = Rated(((0.08, 6), (0.16, 5), (1.0, 1)))
    assert [when.rate(c) for c in (0.0, 0.079, 0.08, 0.5, 7.0, math.nan)] == [6, 6, 5, 1, 1, 1]


def test_adacache_by_hand():
    """From 1 to 1.2 in one step is .2: 3 steps; from 1.2 to 1.5 in three is .083 a step: 6 steps."""
    when, memory = Rated(((0.1, 6), (0.3, 3), (1.0, 1))), {}
    probe, other = Leaf("blocks.0.attn", "probe"), Leaf("blocks.1.attn", "attn")
    asked = ""
    for index, value in enumerate([1.0, 1.2, 0, 0, 1.5, 0, 0, 0, 0, 0, 9.0]):
        verdict = when(memory, Step(index, 99), other, None)
        asked += "01"[verdict]
        if verdict:
            when.observe(memory, Step(index, 99), other, flow(5.0), flow(77.0))
            when.observe(memory, Step(index, 99), probe, flow(5.0), flow(value))
    assert asked == "11001000001"


def test_adacache_s_motion_by_hand():
    still = torch.ones(1, 6, 2)
    assert motion(still, 2) == 0
    moving = torch.tensor([1.0, 3.0, 1.0])[None, :, None]  # |2| + |-2| over 1 + 3 + 3 + 1
    assert motion(moving, 1) == pytest.approx(4 / 8)


def test_motion_shortens_adacache_s_rates():
    """(.5 / .385)^8 = 8.1 times the change of .05 is .41."""
    when, memory, probe = Rated(((0.3, 6), (9.0, 2)), frame=1), {}, Leaf("blocks.0.attn", "probe")
    p = torch.tensor([1.0, 3.0, 1.0])[None, :, None]
    when.observe(memory, Step(0, 99), probe, (p,), (p,))
    when.observe(memory, Step(1, 99), probe, (p,), (p * 1.05,))
    assert memory["due"] == 3
    still = Rated(((0.3, 6), (9.0, 2)))
    still.observe({}, Step(0, 99), probe, (p,), (p,))


def test_adacache_s_probe_is_the_temporal_attention_of_its_block():
    sites = methods.adacache(block=4).where(video(), video().backbone)
    assert [site.path for site in sites if site.kind == "probe"] == ["temporal.4.attn1"]
    with pytest.raises(ValueError, match="has no block 13 with attention"), attach(dit(None), methods.adacache()):
        pytest.fail("attached")


# ---- SpeCa


@pytest.mark.parametrize(
    ("threshold", "most", "want"), [(1e9, 8, "110000000"), (1e9, 2, "110010010"), (1e-9, 8, "110101010")]
)
def test_speca_makes_the_step_after_a_rejected_one_full(threshold, most, want):
    model = dit(None)
    policy = methods.speca(threshold, decay=1.0, floor=0.0, order=1, most=most, warmup=2)
    with Counted(model) as calls, attach(model, policy) as run:
        loop(model, run)
    assert computed(run) == want
    assert calls == [want.count("1")] * 5 + [9]  # the verifier runs at every step


@torch.no_grad()
def test_speca_compares_the_last_block_s_output_with_its_own_forecast():
    model, out = dit(None), []
    model.blocks[-1].register_forward_hook(lambda *call: out.append(call[-1]))
    policy = methods.speca(0.5, order=1, warmup=2)
    with attach(model, policy) as run:
        loop(model, run, steps=3)
        forecast = 2 * out[1] - out[0]
        error = (out[2] - forecast).norm() / out[2].norm()
        rejected = run._schedules["main", Span(0, 5)]["inside"]["rejected"]
    tolerated = policy.when.inside.tolerated(Step(2, STEPS))
    assert tolerated == pytest.approx(0.5 * 0.05 ** (2 / 9))
    assert rejected == bool(error > tolerated)


def test_what_a_gate_holds_counts_among_the_bytes_held():
    model = dit(None)
    with attach(model, methods.first_block(1e9)) as run:
        loop(model, run)
    assert run.report().bytes_held == 2 * 2 * 4 * 32 * 4  # the residual and the probe


def test_pieces_of_unlike_shapes_don_t_confuse_easycache():
    """The flow changes from one list to the next in Aura Flow: text and image become one stream."""
    small = PIPELINES["aura-flow"]()
    with attach(small.pipe, methods.easycache(9.0, warmup=2)) as run:
        output(small, steps=6)
    assert not all(event.computed for event in run.trace)

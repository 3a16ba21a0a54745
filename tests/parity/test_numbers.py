"""Our formulas against those of the installed packages, number for number, and methods with their own gates."""

import ast
import random
import re
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from diffusers import hooks
from diffusers.hooks.mag_cache import nearest_interp
from diffusers.hooks.taylorseer_cache import TaylorSeerCacheHook, TaylorSeerState
from diffusers.models.attention import BasicTransformerBlock
from side_by_side import STEPS, agree, cache_dit, gated, mag_cache, pab, theirs, transformer, verdicts
from small import PIPELINES, output
from torch import nn

from skipdit import attach, methods, plan
from skipdit.core.policy import Policy
from skipdit.core.what import forecast, hold, polynomial, taylor
from skipdit.core.when import At
from skipdit.core.where import Inner
from skipdit.methods.magcache import mask
from skipdit.plan.calibrate import Ratios

# ---- MagCache


class Blocks(nn.Module):
    """The least that diffusers' MagCache goes on."""

    def __init__(self):
        super().__init__()
        self.transformer_blocks = nn.ModuleList(BasicTransformerBlock(4, 1, 4) for _ in range(2))

    def forward(self, hidden_states):
        for block in self.transformer_blocks:
            hidden_states = block(hidden_states)
        return hidden_states


@torch.no_grad()
def test_mag_cache_decides_alike_for_any_ratios():
    rng, x, spared = random.Random(0), torch.ones(1, 2, 4), 0
    for _ in range(60):
        ratios = [rng.uniform(0.85, 1.15) for _ in range(rng.randint(3, 20))]
        limits = rng.choice([0.0, 0.06, 0.12, 0.3]), rng.randint(1, 4), rng.choice([0.0, 0.2, 0.5])
        model, config = Blocks(), hooks.MagCacheConfig(*limits, num_inference_steps=len(ratios), mag_ratios=ratios)
        hooks.apply_mag_cache(model, config)
        with verdicts(model, model.transformer_blocks[0].ff) as seen:
            for _ in ratios:
                model(x)
        assert "".join(seen) == mask(tuple(ratios), *limits)
        spared += seen.count("0")
    assert spared > 100


def printed(capsys):
    """What MagCache says of its calibration: a list of ratios a guidance branch."""
    return [
        ast.literal_eval(line) for line in re.findall(r"^\[.+\]$", capsys.readouterr().out, re.M) if "Mag" not in line
    ]


@pytest.mark.parametrize(("name", "branches"), [("flux", 1), ("cogvideox", 1), ("wan", 2)])
def test_mag_cache_calibrates_to_the_same_ratios(name, branches, capsys):
    """diffusers prints a list for each guidance branch and takes one; ours is their mean."""
    small, ratios = PIPELINES[name](), Ratios()
    with attach(small.pipe, Policy(Inner(0, 0), ratios, hold())):
        output(small, steps=STEPS)
    with mag_cache(calibrate=True)(small.pipe, transformer(small)):
        output(small, steps=STEPS)
    lists = printed(capsys)
    assert [len(ratios) for ratios in lists] == [STEPS] * branches
    want = [sum(each) / branches for each in zip(*lists, strict=True)]
    assert [sum(ratios.seen[step]) / branches for step in range(1, STEPS)] == pytest.approx(want[1:], rel=1e-5)


CALIBRATED = (1.0, 0.93, 0.97, 1.02, 1.05, 0.9, 0.98, 1.1)


@pytest.mark.parametrize(("threshold", "most", "retention"), [(0.06, 3, 0.2), (0.12, 1, 0.0), (0.3, 3, 0.5)])
@pytest.mark.parametrize("name", ["flux", "wan"])
def test_mag_cache_by_ratios(name, threshold, most, retention):
    policy = methods.magcache(CALIBRATED, threshold, most, retention)
    peer = mag_cache(mag_ratios=list(CALIBRATED), threshold=threshold, max_skip_steps=most, retention_ratio=retention)
    agree(name, policy, peer, guidance=True)


def test_mag_cache_for_another_number_of_steps():
    """But where a step falls halfway between two ratios: there diffusers' single precision decides."""
    halfway = 0
    for given in (2, 9, 28, 30, 50):
        ratios = tuple(1 + i / 100 for i in range(given))
        for steps in range(1, 70):
            found = methods.magcache.rescaled(ratios, steps)
            want = nearest_interp(torch.tensor(ratios, dtype=torch.float64), steps).tolist()
            for step, pair in enumerate(zip(found, want, strict=True)):
                half = Fraction(step * (given - 1), max(1, steps - 1)) % 1 == Fraction(1, 2)
                halfway += half
                assert half or pair[0] == pair[1], (given, steps, step)
    assert halfway > 0


# ---- PAB


@pytest.mark.parametrize("name", ["cogvideox", "flux"])
def test_pyramid_attention_broadcast_in_its_window(name):
    def peer(pipe, model):
        return pab(lambda: pipe.current_timestep, hi=850, lo=300, spatial=2)(pipe, model)

    agree(name, methods.pab(spatial=2, hi=850, lo=300), peer)


def test_pyramid_attention_broadcast_of_two_kinds_in_its_window():
    def peer(pipe, model):
        return pab(lambda: pipe.current_timestep, hi=950, lo=300, spatial=2, cross=3)(pipe, model)

    agree("wan", methods.pab(spatial=2, cross=3, hi=950, lo=300), peer)


# ---- TaylorSeer


def computed_at(rng, first=2):
    """Uneven computed steps."""
    steps = [0]
    while len(steps) < 6:
        steps.append(steps[-1] + rng.randint(first if len(steps) == 1 else 1, 4))
    return steps


def seers():
    yield lambda order: TaylorSeerState(torch.float64, order)
    peer = pytest.importorskip("cache_dit.caching.cache_contexts.calibrators.taylorseer", reason="no cache-dit")
    yield lambda order: peer.TaylorSeerState(order)


def forecast_of(seer, order, values, ahead):
    """What a package forecasts `ahead` steps after the last of the computed ones: {step: value}."""
    state = seer(order)
    for step, value in values.items():
        state.current_step = step
        state.update((value,) if isinstance(state, TaylorSeerState) else value)
    state.current_step += ahead
    found = state.predict()[0] if isinstance(state, TaylorSeerState) else state.approximate()
    return found


def weighted(rule, order, values, ahead):
    """What one of our rules forecasts."""
    newest = list(values)[::-1][: order + 1]
    weights = rule(newest, newest[0] + ahead)
    return sum(weight * values[step] for weight, step in zip(weights, newest, strict=True))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_taylorseer_forecasts_alike_after_uneven_gaps(order):
    rng = random.Random(order)
    for _ in range(20):
        steps = computed_at(rng)
        assert len({b - a for a, b in pairwise(steps)}) > 1 or order < 3
        values = {step: torch.randn(3, dtype=torch.float64) for step in steps}
        for seer in seers():
            for ahead in (1, 2, 3):
                want = forecast_of(seer, order, values, ahead)
                assert torch.allclose(weighted(taylor, order, values, ahead), want, rtol=1e-10)


@pytest.mark.parametrize("steps", [(0, 2, 4), (0, 2, 5)], ids=["even", "uneven"])
def test_taylorseer_misses_a_parabola_and_our_default_rule_does_not(steps):
    """Differences stand for derivatives, in both packages as in the paper, and in `taylor`; not in `polynomial`."""
    values = {step: torch.tensor(float(step) ** 2, dtype=torch.float64) for step in steps}
    exact = (steps[-1] + 1) ** 2
    for seer in seers():
        assert abs(forecast_of(seer, 2, values, 1) - exact) > 0.4
    assert abs(weighted(taylor, 2, values, 1) - exact) > 0.4
    assert weighted(polynomial, 2, values, 1).item() == pytest.approx(exact)


def test_cache_dit_forgets_the_slope_of_the_first_two_steps():
    """It waits for step 2, whatever was computed: 1, 3 goes on with 3. diffusers and ours go on with 5."""
    values = {0: torch.tensor(1.0), 1: torch.tensor(3.0)}
    diffusers, cache_dits = (forecast_of(seer, 1, values, 1).item() for seer in seers())
    assert (diffusers, cache_dits, weighted(taylor, 1, values, 1).item()) == (5, 3, 5)


@pytest.mark.parametrize(("every", "warmup"), [(2, 1), (5, 3), (3, 2), (4, 3)])
def test_taylorseer_s_interval_begins_one_step_late_in_diffusers(every, warmup):
    """The first gap after the warm-up is 2 there, whatever the interval. cache-dit's and ours are the interval."""
    taken = "".join("01"[full] for full in plan(methods.taylorseer(every, warmup=warmup), range(20, 0, -1)))
    hook = TaylorSeerCacheHook(every, warmup, torch.float32, hooks.hooks.StateManager(TaylorSeerState))
    hook.state_manager.set_context(hooks.hooks.CacheContext("all"))
    diffusers = "".join("01"[hook._measure_should_compute()[0]] for _ in range(20))
    _, seer = seers()
    state = type(seer(1))(1, max_warmup_steps=warmup, skip_interval_steps=every)
    assert "".join("01"[state.should_compute(step)] for step in range(20)) == taken
    assert diffusers[: warmup + 2] == warmup * "1" + "01"
    assert diffusers[warmup + 1 :] == taken[warmup - 1 :][: 19 - warmup]
    assert (diffusers == taken) == (every == 2)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_taylorseer_lite_with_growing_gaps(order):
    """Steps 0, 1, 2, 4, 7."""
    from test_peers import ToTheProjection

    config = hooks.TaylorSeerCacheConfig(3, 3, None, order, torch.float32, use_lite_mode=True)
    policy = Policy(ToTheProjection(), At((0, 1, 2, 4, 7)), forecast(order, rule=taylor))
    agree("flux", policy, theirs(hooks.apply_taylorseer_cache, config))


# ---- cache-dit's own gate


@pytest.mark.parametrize(
    ("threshold", "front", "back", "warmup", "most"),
    [(0.85, 1, 0, 0, None), (0.9, 2, 0, 2, None), (0.9, 1, 1, 3, 1), (0.99, 2, 1, 1, 2)],
)
@pytest.mark.parametrize("name", ["flux", "pixart-alpha"])
def test_dbcache(name, threshold, front, back, warmup, most):
    policy = methods.dbcache(threshold, front, back, warmup, most)
    peer = cache_dit(
        front,
        back,
        max_warmup_steps=warmup,
        max_continuous_cached_steps=-1 if most is None else most,
        **gated(threshold),
    )
    agree(name, policy, peer)

"""Our policies against the caches of diffusers and cache-dit, in real pipelines, wherever the formulas agree."""

import pytest
import torch
from diffusers import hooks
from side_by_side import STEPS, ToTheProjection, agree, cache_dit, first_block, mag_cache, pab, theirs
from small import PIPELINES, output

from skipdit import methods
from skipdit.core.policy import Policy
from skipdit.core.what import forecast, hold, last, residual, taylor
from skipdit.core.when import At, Every
from skipdit.core.where import Inner, Parts

# ---- diffusers


@pytest.mark.parametrize("threshold", [0.8, 1.0, 1.5])
@pytest.mark.parametrize("name", ["flux", "flux-cfg", "cogvideox", "wan"])
def test_first_block_cache(name, threshold):
    """With guidance in one pass and in two, at thresholds that spare a few of the steps, and most."""
    agree(name, methods.first_block(threshold), first_block(threshold), guidance=True)


@pytest.mark.parametrize(
    ("name", "guidance"), [("flux", True), ("cogvideox", True), ("wan", True), ("pixart-alpha", True), ("sd3", False)]
)
def test_mag_cache_at_every_second_step(name, guidance):
    """Ratios of one leave no error to wait for: at most one step is skipped in a row."""
    agree(name, Policy(Inner(0, 0), Every(2), residual()), mag_cache(), guidance)


@pytest.mark.parametrize("name", ["flux", "sd3", "cogvideox", "dit"])
def test_pyramid_attention_broadcast_of_self_attention(name):
    """Without guidance in two passes: PAB counts calls."""
    agree(name, Policy(Parts(("attn",)), Every(3), hold()), pab(spatial=3))


@pytest.mark.parametrize("name", ["wan", "pixart-alpha", "hunyuan-dit", "latte"])
def test_pyramid_attention_broadcast_of_both_kinds(name):
    agree(name, Policy(Parts(("attn", "cross")), Every(2), hold()), pab(spatial=2, temporal=2, cross=2))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", ["flux", "cogvideox", "wan"])
def test_taylorseer_lite(name, order):
    config = hooks.TaylorSeerCacheConfig(
        cache_interval=2,
        disable_cache_before_step=3,
        max_order=order,
        taylor_factors_dtype=torch.float32,
        use_lite_mode=True,
    )
    when = At((0, 1, 2, 4, 6))
    policy = Policy(ToTheProjection(), when, forecast(order, rule=taylor))
    agree(name, policy, theirs(hooks.apply_taylorseer_cache, config), guidance=True)


def test_taylorseer_of_the_attention():
    """On the one of our classes where its default patterns match anything and its pipeline names a context."""
    config = hooks.TaylorSeerCacheConfig(
        cache_interval=3, disable_cache_before_step=1, max_order=1, taylor_factors_dtype=torch.float32
    )
    policy = Policy(Parts(("attn",)), At((0, 2, 5)), forecast(1, rule=taylor))
    agree("flux", policy, theirs(hooks.apply_taylorseer_cache, config))


# ---- cache-dit


NAMES = ["dit", "pixart-alpha", "hunyuan-dit", "flux", "cogvideox", "wan"]


@pytest.mark.parametrize("name", NAMES)
def test_cache_dit_with_the_first_block_fresh(name):
    agree(name, Policy(Inner(1, 0), Every(2), residual()), cache_dit(1, 0))


@pytest.mark.parametrize("name", NAMES)
def test_cache_dit_with_both_ends_fresh(name):
    """On HunyuanDiT, too, whose last block joins the first one's output."""
    agree(name, Policy(Inner(1, 1), Every(2), residual()), cache_dit(1, 1))


def one_step_late(seen, at):
    """cache-dit's steps count from the second one, and it has no slope before its step 2."""
    return last(seen, at) if seen[0] < 3 else taylor(seen, at)


@pytest.mark.parametrize("name", NAMES)
def test_cache_dit_with_a_forecast(name):
    agree(name, Policy(Inner(1, 0), Every(2), forecast(1, change=True, rule=one_step_late)), cache_dit(1, 0, order=1))


def test_cache_dit_with_guidance_in_two_passes():
    agree("wan", Policy(Inner(1, 0), Every(2), residual()), cache_dit(1, 0, two_pass=True), guidance=True)


@pytest.mark.parametrize("name", ["dit", "hunyuan-dit"])
def test_cache_dit_leaves_no_trace_on_classes(name):
    """What these tests rely on: given a model and no pipeline, it patches this instance."""
    small = PIPELINES[name]()
    kinds = {type(part) for part in small.pipe.transformer.modules()} | {type(small.pipe)}
    before = {kind: dict(vars(kind)) for kind in kinds}
    with cache_dit(1, 1)(small.pipe, small.pipe.transformer):
        output(small, guidance=False, steps=STEPS)
    assert {kind: dict(vars(kind)) for kind in kinds} == before

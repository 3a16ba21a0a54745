"""Two caches in one real pipeline: what they draw, and how much work they spare."""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import pytest
from diffusers import hooks
from small import PIPELINES, output
from torch import nn

from skipdit import attach
from skipdit.core.policy import Leaf, Span

STEPS = 8


@contextmanager
def counted(model):
    """How many linear layers ran: the same on both sides if the same work is spared."""
    calls = []
    handles = [
        part.register_forward_hook(lambda *_: calls.append(1))
        for part in model.modules()
        if isinstance(part, nn.Linear)
    ]
    yield calls
    for handle in handles:
        handle.remove()


def transformer(small):
    return getattr(small.pipe, small.transformers[0])


def sampled(name, guidance, make_ready):
    """What the pipeline draws, and the linear layers it ran. `make_ready` is given the pipe and its transformer."""
    small = PIPELINES[name]()
    with counted(transformer(small)) as calls, make_ready(small.pipe, transformer(small)):
        drawn = output(small, guidance=guidance, steps=STEPS, batch=2)
    return drawn, len(calls)


@contextmanager
def nothing(pipe, model):
    yield


def ours(policy):
    return lambda pipe, model: attach(pipe, policy)


def theirs(apply, config):
    """diffusers' cache by its free function, which works on classes without CacheMixin, too."""

    @contextmanager
    def ready(pipe, model):
        apply(model, config)
        hooks.HookRegistry.check_if_exists_or_initialize(model).invalidate_child_registries_cache()
        yield

    return ready


@cache
def without_a_cache(name, guidance):
    return sampled(name, guidance, nothing)


def agree(name, policy, peer, guidance=False):
    """Both draw the same and run the same layers, fewer than without a cache, which draws something else."""
    plain, in_full = without_a_cache(name, guidance)
    (a, ran), (b, peers_ran) = sampled(name, guidance, ours(policy)), sampled(name, guidance, peer)
    assert ran == peers_ran < in_full
    assert distance(a, b) < 2e-5
    assert distance(a, plain) > 20 * distance(a, b)


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


@contextmanager
def verdicts(model, part):
    """Of each pass of the model whether a part of it ran, as bits."""
    seen = []
    handles = [
        model.register_forward_pre_hook(lambda *_: seen.append("0")),
        part.register_forward_hook(lambda *_: seen.__setitem__(-1, "1")),
    ]
    yield seen
    for handle in handles:
        handle.remove()


def pab(now=lambda: 500, hi=1001, lo=-1, **ranges):
    """diffusers' PAB, in all of the run if no window is given."""
    window = {f"{kind}_attention_timestep_skip_range": (lo, hi) for kind in ("spatial", "temporal", "cross")}
    skip = {f"{kind}_attention_block_skip_range": n for kind, n in ranges.items()}
    config = hooks.PyramidAttentionBroadcastConfig(**skip, **window, current_timestep_callback=now)
    return theirs(hooks.apply_pyramid_attention_broadcast, config)


def cache_dit(front, back, order=0, two_pass=False, **more):
    """DBCache whose mask computes every second step, if no more is said."""
    peer = pytest.importorskip("cache_dit", reason="cache-dit is not installed: pip install -e '.[dev]'")

    @contextmanager
    def ready(pipe, model):
        mask = dict(steps_computation_mask=[1, 0] * (STEPS // 2), steps_computation_policy="static")
        config = peer.DBCacheConfig(
            Fn_compute_blocks=front,
            Bn_compute_blocks=back,
            num_inference_steps=STEPS,
            enable_separate_cfg=two_pass,
            **{"max_warmup_steps": 0, **mask, **more},
        )
        taylorseer = peer.TaylorSeerCalibratorConfig(taylorseer_order=order) if order else None
        peer.enable_cache(model, cache_config=config, calibrator_config=taylorseer)
        try:
            yield
        finally:
            peer.disable_cache(model)

    return ready


@dataclass(frozen=True)
class ToTheProjection:
    """All blocks, and the projection after them."""

    def __call__(self, model, backbone):
        return [Span(0, len(backbone.order(model))), Leaf("proj_out")]


def first_block(threshold):
    return theirs(hooks.apply_first_block_cache, hooks.FirstBlockCacheConfig(threshold))


def mag_cache(**config):
    """diffusers' MagCache, of every second step if no more is said."""
    every_other = dict(threshold=1.0, max_skip_steps=1, retention_ratio=0.0, num_inference_steps=STEPS)
    return theirs(hooks.apply_mag_cache, hooks.MagCacheConfig(**{**every_other, "mag_ratios": [1.0] * STEPS, **config}))


def gated(threshold):
    """cache-dit's own gate, in place of a mask."""
    return dict(residual_diff_threshold=threshold, steps_computation_mask=None, steps_computation_policy="dynamic")

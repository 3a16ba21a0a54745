"""How each peer is brought to compute every n-th step of one model, by its own calls."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from skipdit.attach import attach
from skipdit.core.policy import Policy


@dataclass
class Plan:
    """What a candidate is to do in one run, and what had to be done for it that its users would not do."""

    steps: int
    every: int  # compute one step in so many
    threshold: float  # of gates
    named: bool  # the model's pipelines open a cache context
    notes: list[str] = field(default_factory=list)


Ready = Callable[[Any, Plan], AbstractContextManager[Any]]  # (model, plan) -> a context in which the model caches


@contextmanager
def nothing(model: Any, plan: Plan) -> Iterator[None]:
    """No cache."""
    yield


def ours(policy: Callable[[Plan], Policy]) -> Ready:
    """skipdit with the policy of a plan."""
    return lambda model, plan: attach(model, policy(plan))


# ---- diffusers ------------------------------------------------------------------------------------------------------


def open_context(model: Any, plan: Plan) -> None:
    """What a pipeline does around its calls, or ought to."""
    from diffusers.hooks.hooks import CacheContext, _set_cache_context

    if not plan.named:
        plan.notes.append("by a private call: raises in its own pipeline, which opens no cache context")
    _set_cache_context(model, CacheContext("cond"))


def first_block_cache(forced: bool) -> Ready:
    """FirstBlockCache as it is, or with its verdict replaced by a schedule's: what it looks at is computed all the
    same."""

    @contextmanager
    def ready(model: Any, plan: Plan) -> Iterator[None]:
        from diffusers import hooks
        from diffusers.hooks.first_block_cache import FBCHeadBlockHook

        hooks.apply_first_block_cache(model, hooks.FirstBlockCacheConfig(threshold=plan.threshold))
        for part in model.modules() if forced else ():
            registry = getattr(part, "_diffusers_hook", None)
            for hook in registry.hooks.values() if registry else ():
                if isinstance(hook, FBCHeadBlockHook):
                    vars(hook)["_should_compute_remaining_blocks"] = _scheduled(hook, plan.every)
        open_context(model, plan)
        yield

    return ready


def _scheduled(hook: Any, every: int) -> Callable[[Tensor], bool]:
    decide, calls = hook._should_compute_remaining_blocks, [0]

    def verdict(change: Tensor) -> bool:
        decide(change)
        calls[0] += 1
        return (calls[0] - 1) % every == 0

    return verdict


@contextmanager
def mag_cache(model: Any, plan: Plan) -> Iterator[None]:
    """MagCache with ratios of one, which leave no error to wait for: the bound on skips in a row decides."""
    from diffusers import hooks

    config = hooks.MagCacheConfig(
        threshold=1.0,
        max_skip_steps=plan.every - 1,
        retention_ratio=0.0,
        num_inference_steps=plan.steps,
        mag_ratios=torch.ones(plan.steps),
    )
    hooks.apply_mag_cache(model, config)
    yield


def taylorseer(lite: bool, forecast: Sequence[str] = (), left_out: Sequence[str] = ()) -> Ready:
    """TaylorSeer of first order, in the model's precision; of modules whose names match, where it is told some.

    forecast, left_out    patterns of the modules whose outputs are forecast, and of those that then don't run
    """

    @contextmanager
    def ready(model: Any, plan: Plan) -> Iterator[None]:
        from diffusers import hooks

        config = hooks.TaylorSeerCacheConfig(
            cache_interval=plan.every,
            disable_cache_before_step=1,
            max_order=1,
            taylor_factors_dtype=torch.float32,
            use_lite_mode=lite,
            cache_identifiers=list(forecast) or None,
            skip_predict_identifiers=list(left_out) or None,
        )
        hooks.apply_taylorseer_cache(model, config)
        open_context(model, plan)
        yield

    return ready


@contextmanager
def pyramid_attention_broadcast(model: Any, plan: Plan) -> Iterator[None]:
    """PAB of all attention, over the whole run."""
    from diffusers import hooks

    kinds = ("spatial", "temporal", "cross")
    hooks.apply_pyramid_attention_broadcast(
        model,
        hooks.PyramidAttentionBroadcastConfig(
            **{f"{kind}_attention_block_skip_range": plan.every for kind in kinds},
            **{f"{kind}_attention_timestep_skip_range": (-1, 1001) for kind in kinds},
            current_timestep_callback=lambda: 500,
        ),
    )
    yield


# ---- cache-dit ------------------------------------------------------------------------------------------------------


def cache_dit(front: int, back: int, order: int = 0) -> Ready:
    """DBCache with a mask: Fn blocks at the front and Bn at the back always run; `order` of TaylorSeer's calibrator."""

    @contextmanager
    def ready(model: Any, plan: Plan) -> Iterator[None]:
        import cache_dit as peer

        config = peer.DBCacheConfig(
            Fn_compute_blocks=front,
            Bn_compute_blocks=back,
            max_warmup_steps=0,
            num_inference_steps=plan.steps,
            enable_separate_cfg=False,
            steps_computation_mask=[int(step % plan.every == 0) for step in range(plan.steps)],
            steps_computation_policy="static",
        )
        forecast = peer.TaylorSeerCalibratorConfig(taylorseer_order=order) if order else None
        target = model
        if type(model).__name__ == "SD3Transformer2DModel":
            plan.notes.append("by a BlockAdapter: enable_cache(transformer) raises")
            target = peer.BlockAdapter(
                transformer=model, blocks=model.transformer_blocks, forward_pattern=peer.ForwardPattern.Pattern_1
            )
        elif type(model).__name__ == "DiT":
            plan.notes.append("by a BlockAdapter")
            target = peer.BlockAdapter(
                transformer=model, blocks=model.blocks, forward_pattern=peer.ForwardPattern.Pattern_3
            )
        peer.enable_cache(target, cache_config=config, calibrator_config=forecast)
        try:
            yield
        finally:
            peer.disable_cache(target)

    return ready

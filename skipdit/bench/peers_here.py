"""Peers' caches on a model of ours, by the peers' own calls: which can be put on it, and why the others can't.

They know diffusers' classes. Ours is told to them as they ask for it: the metadata of a block, a BlockAdapter, patterns
of names. What a model then draws is judged like any other candidate; nothing here says in advance which of them fits.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from skipdit.bench.peers_ready import (
    Plan,
    Ready,
    cache_dit,
    first_block_cache,
    mag_cache,
    open_context,
    pyramid_attention_broadcast,
    taylorseer,
)
from skipdit.bench.peers_turns import copies, counted, quiet
from skipdit.core.backbone import Backbone
from skipdit.metrics.psnr import psnr
from skipdit.plan.study import Study

EVERY = 2  # one step in so many is computed
THRESHOLD = 0.1  # of first-block's gate
TRIED = 8  # steps of the trial
ALIKE = 60.0  # dB: a peer that computes every step draws the uncached picture


@contextmanager
def registered(model: nn.Module) -> Iterator[None]:
    """The class of the blocks made known to diffusers' hooks, for the time being."""
    from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry

    backbone = Backbone.of(model)
    place = backbone.order(model)[0]
    kind, name = type(model.get_submodule(place.path)), place.contract.names[0]
    known = TransformerBlockMetadata(return_hidden_states_index=0, hidden_states_argument_name=name)
    known._cached_parameter_indices = {name: 0, "hidden_states": 0}  # first-block asks for the latter by name
    TransformerBlockRegistry.register(kind, known)
    try:
        yield
    finally:
        TransformerBlockRegistry._registry.pop(kind, None)


def hooked(ready: Ready) -> Ready:
    """One of diffusers' caches that ask for a block's metadata."""

    @contextmanager
    def made(model: Any, plan: Plan) -> Iterator[None]:
        plan.notes.append("the block's class registered by hand")
        with registered(model), ready(model, plan):
            yield

    return made


@contextmanager
def faster_cache(model: Any, plan: Plan) -> Iterator[None]:
    """FasterCache: attention and the unconditional branch every n-th step."""
    from diffusers import hooks

    config = hooks.FasterCacheConfig(
        spatial_attention_block_skip_range=plan.every,
        spatial_attention_timestep_skip_range=(-1, 1001),
        unconditional_batch_skip_range=plan.every,
        unconditional_batch_timestep_skip_range=(-1, 1001),
        attention_weight_callback=lambda _: 0.3,
        current_timestep_callback=lambda: 500,
        tensor_format="BCHW",
    )
    hooks.apply_faster_cache(model, config)
    yield


@contextmanager
def sea_cache(model: Any, plan: Plan) -> Iterator[None]:
    """SeaCache with its defaults."""
    from diffusers import hooks

    hooks.apply_sea_cache(model, hooks.SeaCacheConfig())
    open_context(model, plan)
    yield


@contextmanager
def smoothcache(model: Any, plan: Plan) -> Iterator[None]:
    """SmoothCache's package with a schedule of every n-th step for attention and MLP."""
    from SmoothCache import SmoothCacheHelper

    backbone = Backbone.of(model)
    block = type(model.get_submodule(backbone.order(model)[0].path))
    bits = [int(step % plan.every == 0) for step in range(plan.steps)]
    helper = SmoothCacheHelper(model, [block], list(backbone.parts), dict.fromkeys(backbone.parts, bits))
    helper.enable()
    try:
        yield
    finally:
        helper.disable()


PARTS, BLOCKS, LAST = r"blocks\.\d+\.(attn|mlp)", r"blocks\.\d+", "final_layer"
PEERS: dict[str, tuple[str, Ready]] = {  # as it is spelled: (module, ready)
    f"diffusers FirstBlockCache(threshold={THRESHOLD})": ("diffusers", hooked(first_block_cache(forced=False))),
    f"diffusers MagCache(every={EVERY})": ("diffusers", hooked(mag_cache)),
    f"diffusers TaylorSeer(every={EVERY})": ("diffusers", taylorseer(lite=False)),
    f"diffusers TaylorSeer(every={EVERY}, of attn and mlp)": ("diffusers", taylorseer(False, [PARTS])),
    f"diffusers TaylorSeer lite(every={EVERY})": ("diffusers", taylorseer(lite=True)),
    f"diffusers TaylorSeer lite(every={EVERY}, of final_layer)": ("diffusers", taylorseer(False, [LAST], [BLOCKS])),
    f"diffusers PAB(every={EVERY})": ("diffusers", pyramid_attention_broadcast),
    f"diffusers FasterCache(every={EVERY})": ("diffusers", faster_cache),
    "diffusers SeaCache": ("diffusers", hooked(sea_cache)),
    f"cache-dit F1B0(every={EVERY})": ("cache_dit", cache_dit(1, 0)),
    f"cache-dit F1B0(every={EVERY}), TaylorSeer": ("cache_dit", cache_dit(1, 0, order=1)),
    f"cache-dit F1B1(every={EVERY})": ("cache_dit", cache_dit(1, 1)),
    f"SmoothCache(every={EVERY})": ("SmoothCache", smoothcache),
}


@cache
def version(name: str) -> str:
    """A peer's package and its version, such as "cache-dit 1.5.3"."""
    package = {"cache_dit": "cache-dit", "SmoothCache": "dit-smoothcache"}.get(PEERS[name][0], PEERS[name][0])
    return f"{package} {metadata.version(package)}"


@dataclass(frozen=True)
class Trial:
    """Which peers fit a model; why the others don't."""

    fit: dict[str, list[str]] = field(default_factory=dict)  # name: what had to be done
    refused: dict[str, str] = field(default_factory=dict)  # name: reason


@contextmanager
def made_ready(model: nn.Module, name: str, plan: Plan) -> Iterator[Any]:
    """A copy of the model that shares its weights and caches as the peer does. What peers print goes nowhere."""
    copy = copies(model)()
    with quiet(), redirect_stdout(io.StringIO()), PEERS[name][1](copy, plan):
        yield copy


def plan_of(steps: int, every: int = EVERY) -> Plan:
    return Plan(steps, every, THRESHOLD, named=True)


def tried(model: nn.Module, study: Study, tell: Callable[[str], None] = lambda name: None) -> Trial:
    """Put each peer on the model for a few steps: it must run, draw the uncached picture where it computes every step,
    and spare something where it doesn't."""
    trial = Trial()
    short = study.first(1)
    uncached, full = _counted(short, short.model, TRIED)
    for name, (package, _) in PEERS.items():
        tell(name)
        try:
            if find_spec(package) is None:
                raise ModuleNotFoundError(f"{package} is not installed")
            with made_ready(model, name, Plan(TRIED, 1, 0.0, named=True)) as copy:
                same = short.on(copy).draw(steps=TRIED)
            plan = Plan(TRIED, EVERY, 1e9, named=True)
            with made_ready(model, name, plan) as copy:
                _, spent = _counted(short, copy, TRIED)
        except Exception as error:  # whatever a peer says is its reason
            trial.refused[name] = f"raises {type(error).__name__}: {' '.join(str(error).split())}"
            continue
        near = psnr(same, uncached).min().item()
        if near < ALIKE:
            trial.refused[name] = f"draws another picture where it computes every step ({near:.1f} dB)"
        elif spent >= full:
            trial.refused[name] = "skips nothing, and doesn't say so"
        else:
            trial.fit[name] = plan.notes
    return trial


def ideal(study: Study, name: str, steps: int) -> float:
    """FLOPs of the uncached run over those with the peer, counted as they ran."""
    _, full = _counted(study, study.model, steps)
    with made_ready(study.model, name, plan_of(steps)) as copy:
        return full / _counted(study, copy, steps)[1]


def _counted(study: Study, model: Any, steps: int) -> tuple[Tensor, int]:
    """(pictures, FLOPs), whoever spares them."""
    with counted() as counter:
        return study.on(model).draw(steps=steps), counter.get_total_flops()

"""The small models under test: each built once, run over a few steps that move, compared, its blocks counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import audio  # noqa: F401  (importing a module fills CASES)
import image_a  # noqa: F401
import image_b  # noqa: F401
import torch
import video_a  # noqa: F401
import video_b  # noqa: F401
from case import CASES, Case
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from skipdit.backbones.diffusers import backbone_of
from skipdit.core.backbone import Backbone
from skipdit.core.policy import Span
from skipdit.core.run import Run

TIMES = (903.0, 902.0, 901.0, 500.0, 499.0, 498.0)  # three steps close together, a leap, three more
PLACES = (0.0, 0.01, 0.02, 0.6, 0.61, 0.62)  # how far the input has moved by then
STEPS = len(TIMES)


class Small(NamedTuple):
    """One small model and what the table says of it."""

    name: str
    case: Case
    model: nn.Module
    backbone: Backbone


@cache
def small(name: str) -> Small:
    case = {**CASES, **VARIANTS}[name]
    model = case.model()
    return Small(name, case, model, backbone_of(model))


def several_rounds(case: Case) -> Case:
    """The same protein model as its pipeline calls it: its blocks run in several rounds in one call."""
    return replace(case, inputs=lambda draw, t: {**case.inputs(draw, t), "recycle_depth": 3})


VARIANTS = {"RFD4ProteinaTransformer, 3 rounds": several_rounds(CASES["RFD4ProteinaTransformer"])}


@cache
def bare(name: str, seed: int = 0) -> tuple[Any, ...]:
    """The outputs of a run of the model as it is."""
    return tuple(run_all(small(name).model, moving(small(name), seed)))


# ---- runs -----------------------------------------------------------------------------------------------------------


def moving(it: Small, seed: int = 0, batch: int = 1) -> list[dict[str, Any]]:
    """The calls of one run: noise that moves from one draw towards another."""
    return [_between(it, seed, batch, t, place) for t, place in zip(TIMES, PLACES, strict=True)]


def _between(it: Small, seed: int, batch: int, t: float, place: float) -> dict[str, Any]:
    def blend(a: Any, b: Any) -> Any:
        drawn = isinstance(a, Tensor) and a.is_floating_point() and a.shape == b.shape and not torch.equal(a, b)
        return torch.lerp(a, b, place) if drawn else a

    return tree_map(blend, it.case.call(2 * seed, t, batch), it.case.call(2 * seed + 1, t, batch))


@torch.no_grad()
def run_all(model: nn.Module, calls: Sequence[dict[str, Any]], run: Run | None = None) -> list[Any]:
    """The output of every call. With a run, a sampler names the steps; without, its clock finds them out."""
    outputs = []
    for step, call in enumerate(calls):
        if run is not None:
            run.begin(step, TIMES[step], total=len(calls))
        outputs.append(model(**call))
    return outputs


def same(ours: Any, theirs: Any, what: str, tolerance: float = 0.0) -> None:
    """Every tensor in both is equal, bit for bit or to a share of the largest value. Raises AssertionError."""
    left, right = ([x for x in tree_leaves(each) if isinstance(x, Tensor)] for each in (ours, theirs))
    assert left, f"{what}: no tensors to compare"
    assert len(left) == len(right), f"{what}: {len(left)} tensors, not {len(right)}"
    for a, b in zip(left, right, strict=True):
        assert a.isfinite().all(), f"{what}: not finite"
        off = (a - b).abs().max().item()
        assert torch.equal(a, b) or off <= tolerance * b.abs().max().item(), f"{what}: off by {off:.2g}"


def differ(ours: Any, theirs: Any) -> bool:
    """Whether any tensor of both differs."""
    return any(not torch.equal(a, b) for a, b in zip(tree_leaves(ours), tree_leaves(theirs), strict=True))


def pieces_of(run: Run) -> list[tuple[int, int]]:
    return [(site.start, site.stop) for site in run.sites if isinstance(site, Span)]


class Counted:
    """Counts how often each module computes, by a hook on the first module inside it that runs and has none itself."""

    def __init__(self, model: nn.Module, modules: Sequence[nn.Module], call: dict[str, Any]):
        ran = leaves_run(model, call, model)
        inside = [{id(m) for m in module.modules()} for module in modules]
        probes = [next(leaf for leaf in ran if id(leaf) in ids) for ids in inside]
        self.per_pass = [ran[probe] for probe in probes]
        self.order: list[int] = []  # the numbers of the modules, as they ran
        self.hooks = [p.register_forward_pre_hook(lambda *_, i=i: self.order.append(i)) for i, p in enumerate(probes)]

    @property
    def calls(self) -> list[int]:
        """How many passes each module computed in."""
        return [self.order.count(i) // n for i, n in enumerate(self.per_pass)]

    def __enter__(self) -> "Counted":
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()


def leaves_run(model: nn.Module, call: dict[str, Any], within: nn.Module) -> Counter[nn.Module]:
    """The modules without children that one pass calls, in the order in which it first does, and how often."""
    ran: Counter[nn.Module] = Counter()
    leaves = [m for m in within.modules() if not list(m.children())]
    hooks = [leaf.register_forward_pre_hook(lambda m, _: ran.update([m])) for leaf in leaves]
    run_all(model, [call])
    for hook in hooks:
        hook.remove()
    return ran

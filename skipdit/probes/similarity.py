"""Cosine similarity of features from step to step, block by block, and of a cached run's outputs to the uncached run's.

Two figures of the Skip-DiT paper (arXiv 2411.17616): how far each block's output moves between two steps, and how far a
cached run has drifted from the uncached one at every step. An image is one vector: all its tokens and channels.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from torch import Tensor, nn

from skipdit.core.attach import attach
from skipdit.core.backbone import Backbone, Contract
from skipdit.core.policy import Policy
from skipdit.core.run import Run
from skipdit.core.what import hold
from skipdit.core.when import Every
from skipdit.core.where import Range

Draw = Callable[[], object]  # samples with the model, with the same noise whenever it is called
ALWAYS = Policy(Range(0, 1), Every(1), hold())  # an uncached run with a clock: which step, which branch of guidance
SAME = 1 - 1e-4  # what the first step, which every policy computes, must reach: or else the noise was another


@dataclass(frozen=True)
class Uncached:
    """What one uncached run showed.

    times      of the sampler, step by step; None where the model is given none
    blocks     [block][step - 1]: similarity of a block's output to its output one step before, mean over all images
    outputs    {(step, stream): the model's output (B, ...)}, on the CPU
    """

    times: tuple[float | None, ...]
    blocks: tuple[tuple[float, ...], ...]
    outputs: dict[tuple[int, str], Tensor]

    def figures(self) -> dict[str, Any]:
        """For a record."""
        rounded = [[round(value, 9) for value in row] for row in self.blocks]
        return {"times": list(self.times), "similar_steps": rounded, "images": _rows(self.outputs)}


@dataclass(frozen=True)
class Cached:
    """Similarity of a cached run's outputs to the uncached run's, step by step, over images and guidance branches."""

    times: tuple[float | None, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    computed: tuple[bool, ...]  # whether nothing was stood in for

    def figures(self) -> dict[str, Any]:
        """For a record."""
        curves = {name: [round(value, 9) for value in getattr(self, name)] for name in ("mean", "low", "high")}
        bits = "".join("01"[each] for each in self.computed)
        return {"times": list(self.times), "similar_to_uncached": curves, "computed": bits}


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """(B, ...) and (B, ...) -> (B,) in [-1, 1], float64; exactly 1 for equal tensors that aren't 0."""
    a, b = a.flatten(1).double(), b.flatten(1).double()  # (B, N)
    return ((a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()).clamp(-1, 1)


def uncached(model: nn.Module, draw: Draw, backbone: Backbone | None = None) -> Uncached:
    """Sample once and look at every block. Holds one step's features, and every step's output.

    backbone    how the model is laid out, where its class doesn't say

    Raises ValueError where `draw` doesn't call the model, or only for one step.
    """
    backbone = backbone or Backbone.of(model)
    with attach(model, ALWAYS, backbone=backbone) as run:
        steps, outputs = _Steps(run), _Outputs(run)

        def end(y: Tensor) -> None:
            outputs.see(y)
            steps.turn()

        with _hooked(model, backbone, steps.see, end):
            draw()
    times = _times(run)
    if len(times) < 2:
        raise ValueError(f"similarity: {type(model).__name__} ran for {len(times)} steps: nothing to compare")
    depth = range(len(backbone.order(model)))
    rows = [tuple(fmean(steps.found.get((block, i), [1.0])) for i in range(1, len(times))) for block in depth]
    return Uncached(times, tuple(rows), outputs.found)


def cached(model: nn.Module, draw: Draw, policy: Policy, to: Uncached, backbone: Backbone | None = None) -> Cached:
    """Sample once with a policy, and hold each step's output against the uncached run's.

    Raises ValueError where `draw` doesn't draw the same again: other noise, other steps, other branches.
    """
    backbone = backbone or Backbone.of(model)
    with attach(model, policy, backbone=backbone) as run:
        outputs = _Outputs(run)
        with _hooked(model, backbone, None, outputs.see):
            draw()
    if outputs.found.keys() != to.outputs.keys():
        raise ValueError(f"similarity: with {policy} the loop made other passes than without: draw the same both times")
    alike: dict[int, list[float]] = defaultdict(list)
    for (step, stream), y in outputs.found.items():
        alike[step] += cosine(y, to.outputs[step, stream]).tolist()
    if min(alike[0]) < SAME:
        raise ValueError("similarity: the first step, which is computed, differs: draw with the same noise both times")
    stood_in = {event.step for event in run.trace if not event.computed}
    values = [alike[step] for step in range(len(to.times))]
    return Cached(
        to.times, tuple(map(fmean, values)), tuple(map(min, values)), tuple(map(max, values)),
        tuple(step not in stood_in for step in range(len(to.times))),
    )  # fmt: skip


# ---- what hooks see -------------------------------------------------------------------------------------------------


class _Steps:
    """Each block's output held against the same block's one step before, stream by stream."""

    def __init__(self, run: Run):
        self.run = run
        self.found: dict[tuple[int, int], list[float]] = defaultdict(list)  # {(block, step): an image each}
        self.last: dict[tuple[str, int, int], Tensor] = {}
        self.came: Counter[int] = Counter()  # how often a block has run in this pass: some models run theirs twice

    def see(self, block: int, y: Tensor) -> None:
        step, key = self.run.step.index, (self.run.stream, block, self.came[block])
        self.came[block] += 1
        if step and key in self.last:
            self.found[block, step] += cosine(y, self.last[key]).tolist()
        self.last[key] = y.detach()

    def turn(self) -> None:
        """A pass is over."""
        self.came.clear()


class _Outputs:
    """What the model gave back, pass by pass."""

    def __init__(self, run: Run):
        self.run = run
        self.found: dict[tuple[int, str], Tensor] = {}

    def see(self, y: Tensor) -> None:
        self.found[self.run.step.index, self.run.stream] = y.detach().cpu()


@contextmanager
def _hooked(
    model: nn.Module, backbone: Backbone, block: Callable[[int, Tensor], object] | None, end: Callable[[Tensor], object]
) -> Iterator[None]:
    """`block(number, its main stream)` after each block, `end(output)` after the model, until the context ends."""
    hooks = [model.register_forward_hook(partial(_ended, end))]
    for number, place in enumerate(backbone.order(model)) if block else ():
        module, contract = model.get_submodule(place.path), place.contract
        if contract.within:  # its parts are called one by one: the last gives the main stream back
            module, contract = module.get_submodule(contract.within[-1]), Contract()
        hooks.append(module.register_forward_hook(partial(_told, block, number, contract)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _told(tell: Any, number: int, contract: Contract, module: nn.Module, args: Any, y: Any) -> None:
    tell(number, contract.leaving(y)[0])


def _ended(tell: Any, module: nn.Module, args: Any, y: Any) -> None:
    tell(_first(y))


def _first(y: Any) -> Tensor:
    """The tensor in what a model gives back."""
    return y if isinstance(y, Tensor) else _first(y[0])


def _times(run: Run) -> tuple[float | None, ...]:
    known = {step.index: step.t for step, _, _ in run.passes}
    return tuple(known[index] for index in sorted(known))


def _rows(outputs: dict[tuple[int, str], Tensor]) -> int:
    """Images at one step, in all branches of guidance."""
    return sum(len(y) for (step, _), y in outputs.items() if step == 0)

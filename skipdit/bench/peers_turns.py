"""Candidates that take turns within every denoising step: CPU time, FLOPs and the latent that comes out."""

import copy
import gc
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from skipdit.bench.families import Family
from skipdit.bench.peers_ready import Plan, Ready


class Candidate:
    """One way to cache, and what came of it."""

    def __init__(self, ready: Ready):
        self.ready = ready
        self.rounds: list[list[float]] = []  # seconds of CPU time of every step
        self.flops = 0  # of a whole run
        self.notes: list[str] = []
        self.raised = ""
        self.x = torch.empty(0)  # the latent

    def begin(self, model: nn.Module, plan: Plan, exits: ExitStack) -> None:
        """Make the model ready; what this raises is what came of it."""
        self.model = model
        self.seconds: list[float] = []
        if not self.raised:
            with self._caught():
                exits.enter_context(self.ready(self.model, plan))
        self.notes = plan.notes

    def step(self, family: Family, t: float, share: float) -> None:
        """One denoising step: x - share * model(x)."""
        if self.raised:
            return
        arguments = family.arguments(self.x, t)
        with self._caught():
            start = time.process_time()
            y = self.model(**arguments)[0]
            self.seconds.append(time.process_time() - start)
            self.x = self.x - share * (y if y.shape == self.x.shape else y[:, : self.x.shape[1]])

    @contextmanager
    def _caught(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())
            self.raised = words if len(words) <= 160 else words[:157] + "..."

    def steps(self) -> list[float]:
        """Seconds of every step: the median of the rounds."""
        return [median(each) for each in zip(*self.rounds, strict=True)]


@torch.no_grad()
def take_turns(
    family: Family,
    make: Callable[[], nn.Module],
    candidates: Mapping[str, Candidate],
    noise: Tensor,
    plan: Callable[[], Plan],
    repeats: int,
    say: Callable[[str], object],
) -> None:
    """Run all candidates side by side, `repeats` times after one round that warms up and counts FLOPs.

    Within a step they follow one another, at every step beginning with another one: what slows the machine down hits
    all alike. Each has a model that `make` made, and a latent of its own.
    """
    steps = plan().steps
    times = [1000 - 1000 * i / steps for i in range(steps)]
    order = list(candidates.values())
    for turn in range(1 + repeats):
        say(f"round {turn} of {repeats}")
        with quiet(), ExitStack() as exits:  # cache-dit speaks up when it is taken off, too
            for one in order:
                one.begin(make(), plan(), exits)
                one.x = noise
            for index, t in enumerate(times):
                for one in order[index % len(order) :] + order[: index % len(order)]:
                    if turn:
                        one.step(family, t, 1 / steps)
                    else:
                        one.flops += _counted(one, family, t, 1 / steps)
            gc.collect()
        for one in order:
            if turn and not one.raised:
                one.rounds.append(one.seconds)


def _counted(one: Candidate, family: Family, t: float, share: float) -> int:
    """FLOPs of one step, whoever spares them."""
    with counted() as counter:
        one.step(family, t, share)
    return counter.get_total_flops()


@contextmanager
def counted() -> Iterator[FlopCounterMode]:
    """Counts all FLOPs that are spent inside."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the fused kernel isn't counted
        yield counter


@contextmanager
def quiet() -> Iterator[None]:
    """Peers log and warn a great deal."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


def copies(model: nn.Module) -> Callable[[], nn.Module]:
    """Makes copies that share their weights with the model."""
    return lambda: copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})

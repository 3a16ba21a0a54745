"""What a policy costs a step where the blocks do nothing, and the switch is all there is."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from skipdit.bench.options import Options
from skipdit.bench.table import Goal
from skipdit.core.attach import attach
from skipdit.core.backbone import Backbone, Contract
from skipdit.core.policy import Memory, Moment, Policy, Site, Step
from skipdit.core.run import Run
from skipdit.core.skips import add_skips, mirror
from skipdit.core.what import hold
from skipdit.core.when import Every
from skipdit.core.where import Inner
from skipdit.metrics.latency import interleaved
from skipdit.results import Record

GOALS = (Goal("cost_ms", at_most=0.1),)
DEPTH, STEPS = 24, 20


class Idle(nn.Module):
    """A block that does nothing."""

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return x


class Pass(nn.Module):
    """A skip branch that does nothing."""

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        return x


class Blocks(nn.Module):
    """A model that is nothing but its list of blocks."""

    backbone: ClassVar[Backbone] = Backbone({"blocks": Contract(("x",))})

    def __init__(self, depth: int):
        super().__init__()
        self.blocks = nn.ModuleList(Idle() for _ in range(depth))

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, c)
        return x


class BlocksByHand(Blocks):
    """The same with skip branches written into its forward, as one would without a stack."""

    def __init__(self, depth: int):
        super().__init__(depth)
        self.branches = nn.ModuleList(Pass() for _ in mirror(depth))

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        blocks, taps = list(self.blocks), []
        half = len(blocks) // 2
        for block in blocks[:half]:
            x = block(x, c)
            taps.append(x)
        for block, branch in zip(blocks[half:], self.branches, strict=True):
            x = block(branch(x, taps.pop()), c)
        return x


@dataclass(frozen=True)
class Always:
    """A gate that looks at nothing and says yes."""

    gate: ClassVar[bool] = True

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        return True


class Candidate(NamedTuple):
    """A model, the policy on it, and the candidate that it is held against."""

    model: nn.Module
    policy: Policy | None = None
    against: str | None = None


def candidates(depth: int) -> Iterator[tuple[str, Candidate]]:
    """Lists with and without branches, with nothing, a schedule and a gate attached. All of them run every block."""
    schedule, gate = (Policy(Inner(1, 1), when, hold()) for when in (Every(1), Always()))
    yield "list", Candidate(Blocks(depth))
    yield "list, schedule", Candidate(Blocks(depth), schedule, "list")
    yield "list, gate", Candidate(Blocks(depth), gate, "list")
    yield "branches by hand", Candidate(BlocksByHand(depth))
    for name, policy in (("branches", None), ("branches, schedule", schedule), ("branches, gate", gate)):
        yield name, Candidate(add_skips(Blocks(depth), 1, lambda width: Pass()), policy, "branches by hand")


@torch.no_grad()
def measure(options: Options, depth: int = DEPTH) -> list[Record]:
    """Milliseconds a step of a policy that always computes, over the same blocks in a plain list: medians of rounds."""
    options = replace(options, device="cpu", dtype="fp32")  # whatever was said: there is next to nothing to compute
    options.say(f"{depth} idle blocks")
    tried = dict(candidates(depth))
    with ExitStack() as attached:
        runs = {n: attached.enter_context(attach(c.model, c.policy)) if c.policy else None for n, c in tried.items()}
        calls = {name: _steps(candidate.model, runs[name]) for name, candidate in tried.items()}
        times = interleaved(calls, repeats=40 * options.repeats, warmup=5)
    records = []
    for name, candidate in tried.items():
        figures = {"ms_a_step": times[name].median / STEPS * 1e3, "cost_ms": None}
        if candidate.against:
            rounds = zip(times[name].seconds, times[candidate.against].seconds, strict=True)
            figures["cost_ms"] = median(a - b for a, b in rounds) / STEPS * 1e3
        records.append(options.record(f"bookkeeping {depth} {name}", "", figures, steps=STEPS))
    return records


def _steps(model: nn.Module, run: Run | None) -> Callable[[], None]:
    inputs = torch.zeros(1, 1, 1), torch.zeros(1), torch.zeros(1, 1)
    begin = partial(run.begin, t=0.0, stream="cond", total=STEPS) if run else lambda index: None

    def steps() -> None:
        for index in range(STEPS):
            begin(index)
            model(*inputs)

    return steps

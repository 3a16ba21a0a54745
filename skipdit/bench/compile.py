"""Compiled blocks below the switch: no graph breaks, no graphs that come with the steps, and the speed-up they keep."""

import shutil
from dataclasses import replace

import torch
from torch._dynamo.utils import counters

from skipdit.bench import speed
from skipdit.bench.options import Options, made
from skipdit.bench.table import Goal
from skipdit.core.attach import attach
from skipdit.core.policy import Policy
from skipdit.core.what import forecast, residual
from skipdit.core.when import Drift, Every
from skipdit.core.where import Inner
from skipdit.methods.skip_cache import skip_cache
from skipdit.results import Record

GOALS = (Goal("graphs_that_came_later", at_most=0), Goal("graph_breaks", at_most=0), *speed.GOALS)
EARLY, LATE = 5, 50
POLICIES = [
    skip_cache(every=2),
    Policy(Inner(), Every(3, warmup=2), forecast(), "Policy(Inner(), Every(3, warmup=2), forecast())"),
    Policy(Inner(), Drift(0.1), residual(), "Policy(Inner(), Drift(0.1), residual())"),
]


def measure(options: Options) -> list[Record]:
    """Graphs after 5 and after 50 steps, by dynamo's counters, then the speed bench with compiled blocks."""
    records = [count(options, policy) for policy in POLICIES]
    if options.device == "cpu" and not shutil.which("gcc") and not shutil.which("c++"):
        options.say("no C++ compiler: graphs are counted, but nothing compiled is timed")
        return records
    return records + speed.measure(replace(options, backend="inductor"))


@torch.no_grad()
def count(options: Options, policy: Policy, steps: int = LATE) -> Record:
    """Compile a tiny model's blocks with dynamo's "eager" backend, sample, and count."""
    options.say(f"counting graphs of {policy}")
    torch._dynamo.reset()
    counters.clear()
    model = made(replace(options, model="tiny", backend="eager"))
    x, y = torch.zeros(2, 4, 8, 8, device=options.device), torch.zeros(2, dtype=torch.long, device=options.device)
    x, early = x.to(next(model.parameters()).dtype), 0
    with attach(model, policy) as run:
        for index in range(steps):
            t = 1000.0 - 1000 * index / steps
            run.begin(index, t, "cond", steps)
            model(x, torch.full((2,), t, device=options.device), y)
            if index + 1 == EARLY:
                early = counters["stats"]["unique_graphs"]
    late = counters["stats"]["unique_graphs"]
    figures = {
        f"graphs_after_{EARLY}": early,
        f"graphs_after_{steps}": late,
        "graphs_that_came_later": late - early,
        "graph_breaks": sum(counters["graph_break"].values()),
        "stood_in": run.report().stood_in,
    }
    return options.record("compile tiny eager", str(policy), figures, 2, steps)

"""Measured speed-up against the one that the spared FLOPs promise."""

from collections.abc import Callable

import torch
from torch import Tensor

from skipdit.backbones.dit import DiT
from skipdit.backbones.latte import Latte
from skipdit.bench.options import DTYPES, Options, made
from skipdit.bench.table import Goal
from skipdit.core.attach import attach
from skipdit.core.policy import Policy
from skipdit.core.report import Report
from skipdit.methods.skip_cache import skip_cache
from skipdit.metrics.latency import Latency, interleaved, ratio
from skipdit.results import Record
from skipdit.sample import shape_of

GOALS = (Goal("of_ideal", at_least=0.97),)
PLAIN, BARE = "uncached", "uncached, no branches"


def measure(options: Options, every: tuple[int, ...] = (1, 2, 3, 5)) -> list[Record]:
    """Sampling loops of one model, uncached and with Skip-Cache (K = 1), interleaved; a record each and batch size.

    speedup        of the whole loop over the same model without a policy: the median over the rounds
    ideal          from FLOPs counted: what a machine bound by arithmetic alone would reach
    over_plain     speed-up over a model of the same size without skip branches, uncached: it counts their price, too

    every=1 computes at every step: what an attached policy costs where it spares nothing.
    """
    model, bare = made(options), made(options, skips=None)
    policies = [skip_cache(every=n) for n in every]
    records = []
    for batch in options.batch:
        if options.backend:
            torch.compiler.reset()  # each batch size is compiled by itself
        reports: dict[str, Report] = {}
        candidates = {
            BARE: _loop(bare, None, batch, options, reports),
            PLAIN: _loop(model, None, batch, options, reports),
        }
        candidates |= {str(policy): _loop(model, policy, batch, options, reports) for policy in policies}

        def say(done: int, rounds: int, batch: int = batch) -> None:
            options.say(f"{options.model}, batch {batch}: round {done} of {rounds}")

        times = interleaved(candidates, options.repeats, warmup=1, on_round=say)
        records += _records(options, batch, times, reports)
    return records


def _loop(
    model: DiT | Latte, policy: Policy | None, batch: int, options: Options, reports: dict[str, Report]
) -> Callable[[], Tensor]:
    """A sampling loop in miniature: the clock is named and the model called as `skipdit.sample` does it."""
    generator = torch.Generator().manual_seed(options.seed)
    shape, channels = shape_of(model.config), model.config.in_channels
    noise = torch.randn(batch, *shape, generator=generator).to(options.device)  # (B, C, H, W) or (B, F, C, H, W)
    y = (torch.arange(batch) % model.config.num_classes).to(options.device)
    times = torch.linspace(999, 0, options.steps).tolist()
    ts = [torch.full((batch,), t, device=options.device) for t in times]  # (B,) each
    dtype = DTYPES[options.dtype]

    def step(x: Tensor, t: Tensor) -> Tensor:
        velocity = model(x.to(dtype), t, y).float().narrow(-3, 0, channels)  # as x
        return x - velocity / options.steps

    @torch.no_grad()
    def uncached() -> Tensor:
        x = noise
        for t in ts:
            x = step(x, t)
        return x

    @torch.no_grad()
    def cached() -> Tensor:
        assert policy is not None
        x = noise
        with attach(model, policy) as run:
            for index, t in enumerate(times):
                run.begin(index, t, "cond", options.steps)
                x = step(x, ts[index])
        if str(policy) not in reports:  # in the round that warms up: counting takes a while
            reports[str(policy)] = run.report()
        return x

    return uncached if policy is None else cached


def _records(options: Options, batch: int, times: dict[str, Latency], reports: dict[str, Report]) -> list[Record]:
    records = []
    for candidate, latency in times.items():
        report = reports.get(candidate)
        speedup, ideal = ratio(times[PLAIN], latency), report.ideal_speedup if report else None
        figures = {
            "batch": batch,
            "ms_a_step": latency.median / options.steps * 1e3,
            "spread": latency.spread,
            "speedup": speedup,
            "ideal": ideal,
            "of_ideal": speedup / ideal if ideal else None,
            "over_plain": ratio(times[BARE], latency),
        }
        name = f"speed {options.model}" + (f" {options.backend}" if options.backend else "")
        policy = candidate if report else ""
        records.append(options.record(name if report else f"{name} {candidate}", policy, figures, batch))
    return records

"""Side by side with diffusers' own caches and cache-dit: every second step cached, and what caching costs by itself."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import pairwise
from statistics import median
from typing import Any, ClassVar

import torch
from torch import Tensor

from skipdit.attach import attach
from skipdit.bench.families import FAMILIES, Family, Size
from skipdit.bench.options import Options, Skipped
from skipdit.bench.peers_idle import idle
from skipdit.bench.peers_ready import (
    Plan,
    Ready,
    cache_dit,
    first_block_cache,
    mag_cache,
    nothing,
    ours,
    pyramid_attention_broadcast,
    taylorseer,
)
from skipdit.bench.peers_turns import Candidate, copies, take_turns
from skipdit.bench.table import Goal
from skipdit.core.policy import Memory, Moment, Policy, Site, Step, What, Where
from skipdit.core.what import forecast, hold, residual
from skipdit.core.when import Drift, Every, head_change
from skipdit.core.where import Inner
from skipdit.methods.pab import Attentions
from skipdit.results import Record

GOALS = (Goal("faster", at_least=0.98), Goal("error_over_theirs", at_most=1.01), Goal("added_over_theirs", at_most=1))
PLAIN = "no cache"
SMALL = Size(depth=24, heads=1, side=16)  # blocks are idle there


@dataclass(frozen=True)
class Contest:
    """One way to spare work: ours, and the peers that spare the same."""

    name: str
    ours: Callable[[Plan], Policy]
    peers: dict[str, Ready]
    only: tuple[str, ...] = tuple(FAMILIES)


def every(where: Where, what: What) -> Callable[[Plan], Policy]:
    """A policy that computes one step in so many."""
    return lambda plan: Policy(where, Every(plan.every), what)


ATTENTION = Attentions(("attn", "temporal", "cross"))
F1B1 = {"cache-dit F1B1": cache_dit(1, 1)}
CONTESTS = (
    Contest(
        "first block runs",
        every(Inner(1, 0), residual()),
        {"cache-dit F1B0": cache_dit(1, 0), "FirstBlockCache on a schedule": first_block_cache(forced=True)},
    ),
    Contest(
        "first block runs, forecast",
        every(Inner(1, 0), forecast(1, change=True)),
        {"cache-dit F1B0, TaylorSeer": cache_dit(1, 0, order=1)},
    ),
    Contest("both ends run", every(Inner(1, 1), residual()), F1B1),
    Contest("both ends run, held (Skip-Cache)", every(Inner(1, 1), hold()), F1B1, only=("HunyuanDiT",)),
    Contest("no block runs", every(Inner(0, 0), residual()), {"MagCache": mag_cache}),
    Contest("no block runs, forecast", every(Inner(0, 0), forecast(1)), {"TaylorSeer lite": taylorseer(lite=True)}),
    Contest("no attention runs", every(ATTENTION, hold()), {"PAB": pyramid_attention_broadcast}),
    Contest("no attention runs, forecast", every(ATTENTION, forecast(1)), {"TaylorSeer": taylorseer(lite=False)}),
    Contest(
        "a gate decides",
        lambda plan: Policy(Inner(1, 0), Drift(plan.threshold), residual()),
        {"FirstBlockCache": first_block_cache(forced=False)},
    ),
)


def measure(options: Options, families: Sequence[str] = tuple(FAMILIES), size: Size | None = None) -> list[Record]:
    """Records of every candidate on every family, of every contest, and of what each adds where nothing is spared.

    speedup      CPU time of the uncached loop over the candidate's; ideal: the same of FLOPs, counted as they ran
    error        relative L2 distance of the last latent to the uncached one
    faster       CPU time of the peer's loop over ours, at the same work where the two ideals are equal
    added_ms     CPU time a step of a cache that computes every step, over none: medians over the steps

    Raises Skipped where cache-dit is missing, or on a GPU: it is CPU time that is measured.
    """
    if options.device != "cpu":
        raise Skipped("peers measures CPU time: leave --device out")
    if find_spec("cache_dit") is None:
        raise Skipped("peers needs cache-dit: pip install cache-dit==1.5.3, or pip install -e '.[dev]'")
    options = replace(options, dtype="fp32")  # as the families are made
    alone: list[Record] = []
    against: list[Record] = []
    added: list[Record] = []
    for name in families:
        contests = [contest for contest in CONTESTS if name in contest.only]
        tried = _raced(name, contests, size or Size(), options)
        alone += [options.record(f"{name}: {one}", "", _alone(tried, one)) for one in tried]
        against += _against(name, contests, tried, options)
        added += _bookkeeping(name, contests, options, size)
    return alone + against + added


# ---- every second step ----------------------------------------------------------------------------------------------


def _raced(name: str, contests: Sequence[Contest], size: Size, options: Options) -> dict[str, Candidate]:
    """All candidates on one family, every second step cached."""
    family = FAMILIES[name]
    model = family.model(size, options.seed)
    noise = torch.randn(family.shape(size.side), generator=torch.Generator().manual_seed(options.seed))
    threshold = _threshold(family, model, noise, options.steps)
    tried = _candidates(contests)
    take_turns(
        family,
        copies(model),
        tried,
        noise,
        lambda: Plan(options.steps, 2, threshold, family.named),
        options.repeats,
        lambda line: options.say(f"{name}: {line}"),
    )
    return tried


def _candidates(contests: Sequence[Contest]) -> dict[str, Candidate]:
    """By name, in the order of the contests; a peer that takes part in two runs once."""
    readies: dict[str, Ready] = {PLAIN: nothing}
    for contest in contests:
        readies |= {f"skipdit, {contest.name}": ours(contest.ours), **contest.peers}
    return {name: Candidate(ready) for name, ready in readies.items()}


def _alone(tried: dict[str, Candidate], name: str) -> dict[str, Any]:
    """A candidate against no cache."""
    one, plain = tried[name], tried[PLAIN]
    figures: dict[str, Any] = dict.fromkeys(("ms_a_step", "speedup", "ideal", "of_ideal", "error"))
    if one.raised:
        return {**figures, "note": f"raises {one.raised}"}
    seconds, ideal = sum(one.steps()), plain.flops / one.flops
    speedup = sum(plain.steps()) / seconds
    notes = ["skips nothing"] if one is not plain and one.flops == plain.flops else one.notes
    return {
        "ms_a_step": seconds / len(one.steps()) * 1e3,
        "speedup": speedup,
        "ideal": ideal,
        "of_ideal": speedup / ideal,
        "error": _distance(one.x, plain.x),
        "note": "; ".join(notes),
    }


def _against(name: str, contests: Sequence[Contest], tried: dict[str, Candidate], options: Options) -> list[Record]:
    """Ours against each peer that got anywhere."""
    records = []
    for contest in contests:
        mine = tried[f"skipdit, {contest.name}"]
        for peer in contest.peers:
            theirs = tried[peer]
            if theirs.raised or mine.raised or theirs.flops == tried[PLAIN].flops:
                continue
            same_work = abs(mine.flops / theirs.flops - 1) < 1e-3
            errors = [_distance(one.x, tried[PLAIN].x) for one in (mine, theirs)]
            figures = {
                "faster": sum(theirs.steps()) / sum(mine.steps()) if same_work else None,
                "work_over_theirs": mine.flops / theirs.flops,
                "error": errors[0],
                "their_error": errors[1],
                "error_over_theirs": errors[0] / errors[1],
            }
            records.append(options.record(f"{name}: {contest.name}, over {peer}", "", figures))
    return records


def _distance(x: Tensor, reference: Tensor) -> float:
    return ((x - reference).norm() / reference.norm()).item()


@dataclass(frozen=True)
class Watch:
    """A gate that computes every step and keeps what the first block adds."""

    seen: list[Tensor] = field(default_factory=list)
    gate: ClassVar[bool] = True

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        assert moment is not None
        self.seen.append(head_change(moment))
        return True


@torch.no_grad()
def _threshold(family: Family, model: torch.nn.Module, noise: Tensor, steps: int) -> float:
    """A threshold at which a gate spares about every second step, from one uncached run."""
    watch, x = Watch(), noise
    with attach(model, Policy(Inner(1, 0), watch, residual())):
        for i in range(steps):
            y = model(**family.arguments(x, 1000 - 1000 * i / steps))[0]
            x = x - (y if y.shape == x.shape else y[:, : x.shape[1]]) / steps
    pairs = [*pairwise(watch.seen), *zip(watch.seen, watch.seen[2:], strict=False)]
    return median(((b - a).abs().mean() / a.abs().mean()).item() for a, b in pairs)  # of one step and of two


# ---- where nothing is spared ----------------------------------------------------------------------------------------


def _bookkeeping(name: str, contests: Sequence[Contest], options: Options, size: Size | None) -> list[Record]:
    """What each candidate adds to a step when every step is computed, where blocks do nothing."""
    family, small = FAMILIES[name], SMALL if size is None else size
    noise = torch.randn(family.shape(small.side), generator=torch.Generator().manual_seed(options.seed))
    copy, tried = copies(family.model(small, options.seed)), _candidates(contests)
    take_turns(
        family,
        lambda: idle(copy()),
        tried,
        noise,
        lambda: Plan(options.steps, 1, 1e-9, family.named),
        4 * options.repeats,
        lambda line: options.say(f"{name}, bookkeeping: {line}"),
    )
    added = {one: _added(tried, one) for one in tried if one != PLAIN}
    return [
        options.record(f"{name}: bookkeeping, {mine}, over {peer}", "", figures)
        for mine, peer, figures in _compared(contests, added)
    ]


def _added(tried: dict[str, Candidate], name: str) -> float | None:
    """Milliseconds a step: the median over all steps of all rounds of the difference to no cache at the same step."""
    one, plain = tried[name], tried[PLAIN]
    if one.raised or one.flops != plain.flops:  # HunyuanDiT under cache-dit runs blocks of its own making
        return None
    rounds = zip(one.rounds, plain.rounds, strict=True)
    return median(a - b for mine, bare in rounds for a, b in zip(mine, bare, strict=True)) * 1e3


def _compared(
    contests: Sequence[Contest], added: dict[str, float | None]
) -> Iterator[tuple[str, str, dict[str, float | None]]]:
    for contest in contests:
        mine = added[f"skipdit, {contest.name}"]
        for peer in contest.peers:
            theirs = added[peer]
            over = mine / theirs if mine is not None and theirs else None
            yield contest.name, peer, {"added_ms": mine, "their_added_ms": theirs, "added_over_theirs": over}

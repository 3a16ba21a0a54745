"""Every small pipeline, guided and not: identity, block calls, clock, streams and report under four kinds of policy."""

from functools import cache

import pytest
import torch
from small import PIPELINES, Small, output
from watch import attentions, counted, held, inner, same

import skipdit
from skipdit.attach import Runs
from skipdit.core.policy import Policy
from skipdit.core.what import forecast, hold, residual
from skipdit.core.when import Drift, Every, head_change
from skipdit.core.where import Inner

STEPS = 6
CASES = [(name, guidance) for name in PIPELINES for guidance in (True, False)]
pytestmark = pytest.mark.parametrize(
    ("name", "guidance"), CASES, ids=lambda v: v if isinstance(v, str) else "on" if v else "off"
)


@cache
def built(name: str) -> Small:
    return PIPELINES[name]()


@cache
def uncached(name: str, guidance: bool) -> torch.Tensor:
    return output(built(name), guidance=guidance, steps=STEPS)


@cache
def skip_cached(name: str, guidance: bool) -> torch.Tensor:
    """By hand."""
    small = built(name)
    order = [(i, p) for i in range(int(STEPS * small.strength)) for p in range(len(streams(small, guidance)))]
    with held(small, order, inner(small)):
        return output(small, guidance=guidance, steps=STEPS)


def runs_of(small: Small, run: object) -> dict[str, skipdit.core.run.Run]:
    return dict(run) if isinstance(run, Runs) else {small.transformers[0]: run}


def streams(small: Small, guidance: bool) -> list[str]:
    """The names of one step's passes."""
    passes = small.passes if guidance else small.passes_off
    return list(small.contexts[:passes]) or ["main", *(f"main, repeat {i}" for i in range(1, passes))]


def times(small: Small) -> list[float]:
    """The timesteps that the last call ran, falling from 1000."""
    asked = [float(t) for t in small.pipe.scheduler.timesteps]
    return [1000 - t if asked[0] < asked[-1] else t for t in asked][STEPS - int(STEPS * small.strength) :]


def test_an_always_computing_policy_changes_no_bit(name, guidance):
    small, want = built(name), uncached(name, guidance)
    with counted(small) as counts, skipdit.attach(small.pipe, Policy(Inner(1, 1), Every(1), hold())):
        assert same(output(small, guidance=guidance, steps=STEPS), want)
    calls = len(times(small)) * len(streams(small, guidance))
    assert sum(counter[0] for counter in counts.values()) == calls
    assert all(len(set(counter.values())) == 1 for counter in counts.values())
    assert same(output(small, guidance=guidance, steps=STEPS), want)


def test_skip_cache_equals_the_same_made_by_hand(name, guidance):
    """Bit-equal to hooks that hold every inner block's output pass by pass: no guidance branch gets another's."""
    small, named = built(name), streams(built(name), guidance)
    steps, want = int(STEPS * small.strength), skip_cached(name, guidance)
    with counted(small) as counts, skipdit.attach(small.pipe, Policy(Inner(1, 1), Every(2), hold())) as run:
        got = output(small, guidance=guidance, steps=STEPS)
    assert same(got, want)
    assert not torch.equal(got, uncached(name, guidance))
    ran, runs = times(small), runs_of(small, run)
    clock = sorted(
        ((step, stream) for each in runs.values() for step, stream, _ in each.passes), key=lambda p: p[0].index
    )
    assert [(step.index, stream) for step, stream in clock] == [(i, s) for i in range(len(ran)) for s in named]
    assert [step.t for step, _ in clock] == pytest.approx([t for t in ran for _ in named], abs=0.01)
    assert {step.total for step, _ in clock} == {len(ran)}
    fresh = (len(ran) + 1) // 2
    depth = len(attentions(getattr(small.pipe, small.transformers[0])))
    for i in range(depth):
        assert sum(counter[i] for counter in counts.values()) == (fresh if i in inner(small) else steps) * len(named)
    if guidance:  # counting FLOPs takes longer than sampling: once a pipeline
        report = run.report()
        assert (report.steps, report.computed, report.passes) == (len(ran), fresh, len(ran) * len(named))
        assert report.blocks_run == sum(counter.total() for counter in counts.values())
        assert report.blocks_in_full == depth * len(ran) * len(named)
        assert report.ideal_speedup is not None
        assert report.ideal_speedup > 1
    assert same(output(small, guidance=guidance, steps=STEPS), uncached(name, guidance))


def test_a_first_block_gate_decides_by_what_it_saw(name, guidance):
    """The threshold lies just above the first change, so that it spares some passes; the verdicts are worked out again
    from the probes."""
    small, probes = built(name), []

    def seen(moment):
        probes.append(head_change(moment))
        return probes[-1]

    named = streams(small, guidance)
    with skipdit.attach(small.pipe, Policy(Inner(1, 0), Drift(1e-9, seen), residual())):
        output(small, guidance=guidance, steps=STEPS)
    threshold = 1.01 * moved(probes[len(named)], probes[0])
    probes.clear()
    with (
        counted(small) as counts,
        skipdit.attach(small.pipe, Policy(Inner(1, 0), Drift(threshold, seen), residual())) as run,
    ):
        got = output(small, guidance=guidance, steps=STEPS)
    assert torch.isfinite(got).all()
    assert not torch.equal(got, uncached(name, guidance))
    last, verdicts = {}, []
    places = [stream_key(small, i, len(named)) for i in range(len(probes))]
    for key, probe in zip(places, probes, strict=True):
        verdicts.append(key not in last or not moved(probe, last[key]) <= threshold)
        if verdicts[-1]:
            last[key] = probe
    runs = runs_of(small, run)
    first = {each: min(e.site for e in each.trace) for each in runs.values()}
    events = sorted((e for each in runs.values() for e in each.trace if e.site == first[each]), key=lambda e: e.step)
    assert [e.computed for e in events] == verdicts
    assert 0 < sum(verdicts) < len(verdicts)
    for i in range(len(attentions(getattr(small.pipe, small.transformers[0])))):
        ran = sum(counter[i] for counter in counts.values())
        assert ran == (len(verdicts) if i < inner(small).start else sum(verdicts))


def moved(now: torch.Tensor, before: torch.Tensor) -> float:
    return ((now - before).abs().mean() / before.abs().mean()).item()


def stream_key(small: Small, call: int, passes: int) -> tuple[int, int]:
    """(which transformer, which pass of the step); the second of two takes over after 2 of 6 steps."""
    return (len(small.transformers) > 1 and call // passes >= 2, call % passes)


def test_a_forecast_spares_as_much_and_gives_something_else(name, guidance):
    small = built(name)
    with counted(small) as counts, skipdit.attach(small.pipe, Policy(Inner(1, 1), Every(2), forecast(1))):
        got = output(small, guidance=guidance, steps=STEPS)
    calls, fresh = len(times(small)), (len(times(small)) + 1) // 2
    named = len(streams(small, guidance))
    for i in range(len(attentions(getattr(small.pipe, small.transformers[0])))):
        assert sum(counter[i] for counter in counts.values()) == (fresh if i in inner(small) else calls) * named
    assert torch.isfinite(got).all()
    assert not torch.equal(got, uncached(name, guidance))
    assert torch.equal(got, skip_cached(name, guidance)) == (calls < 4)  # the first stood-in step knows one value only

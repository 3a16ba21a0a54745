"""What must hold for every small model of the wild: one check a law, used by the tests and by the table in docs/."""

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import torch
from case import CASES
from laws_reference import ByHand, Guess, in_and_out, line, parts_by_hand
from laws_reference import residual as residual_by_hand
from laws_small import STEPS, TIMES, Counted, Small, bare, differ, leaves_run, moving, pieces_of, run_all, same
from torch import Tensor, nn

from skipdit.attach import attach
from skipdit.core.policy import Moment, Policy, What
from skipdit.core.what import forecast, hold, residual
from skipdit.core.when import Drift, Every
from skipdit.core.where import Inner, Parts

NO_TIMESTEP = "is given no timestep"


def identity(it: Small) -> None:
    """Always computing is bit for bit the bare model, whether a sampler names the steps or nobody does."""
    for named in (True, False):
        with attach(it.model, Policy(Inner(1, 1), Every(1), hold())) as run:
            same(run_all(it.model, moving(it), run if named else None), bare(it.name), "always computing")
            assert [step.index for step, _, _ in run.passes] == list(range(STEPS))
            assert all(event.computed for event in run.trace)


def clocked(it: Small) -> None:
    """The clock finds the sampler's timesteps in the calls, though each model is given them in its own way."""
    with attach(it.model, Policy(Inner(1, 1), Every(2), hold())) as run:
        run_all(it.model, moving(it)[::2])
    steps = [step for step, _, _ in run.passes]
    assert steps[0].t is not None, NO_TIMESTEP
    off = max(abs((step.t or 0) - t) for step, t in zip(steps, TIMES[::2], strict=True))
    assert off < 0.01, f"the clock is {off} off the sampler's timesteps"
    assert [stream for _, stream, _ in run.passes] == ["main"] * 3


def economy(it: Small) -> None:
    """Exactly the blocks outside the span run, in the order of the table; trace, report and counted calls agree."""
    blocks, unit = it.backbone.blocks(it.model), it.backbone.unit
    calls, inner = moving(it), range(unit, len(blocks) - unit)
    with Counted(it.model, blocks, calls[0]) as counted, attach(it.model, Policy(Inner(1, 1), Every(2), hold())) as run:
        run_all(it.model, calls)
        counts = counted.calls
        assert counts == [STEPS // 2 if i in inner else STEPS for i in range(len(blocks))], f"blocks ran {counts} times"
        first = list(dict.fromkeys(counted.order))
        assert first == list(range(len(blocks))), f"blocks run in the order {first}"
        verdicts = {event.step: event.computed for event in run.trace}
        assert verdicts == {step: step % 2 == 0 for step in range(STEPS)}
        assert sorted(i for a, b in pieces_of(run) for i in range(a, b)) == list(inner)
        run.example = None  # no FLOPs: counting them would take longer than all laws together
        report = run.report()
        rounds = report.blocks_in_full // (STEPS * len(blocks))
        assert (report.blocks_run, report.blocks_in_full) == (rounds * sum(counts), rounds * STEPS * len(blocks))
        assert rounds == (1 if it.name in CASES else 3)
        assert (report.computed, report.stood_in, report.passes) == (STEPS // 2, STEPS // 2, STEPS)


def held(it: Small) -> None:
    """Hold: bit for bit a reference in which every spared block gives back its last output; held input, held output."""
    ours, theirs = _both(it, Policy(Inner(1, 1), Every(2), hold()), lambda step, _: step % 2 == 0, None)
    same(ours, theirs, "hold")
    assert differ(ours[1], bare(it.name)[1]), "holding changes nothing"
    _held_input(it, hold(), 0.0)


def added(it: Small) -> None:
    """Residual: the input plus what was added, as in a reference by hand; held input, held output."""
    ours, theirs = _both(it, Policy(Inner(1, 1), Every(3), residual()), lambda step, _: step % 3 == 0, residual_by_hand)
    same(ours, theirs, "residual", 1e-4)
    _held_input(it, residual(), 1e-4)


def extrapolated(it: Small) -> None:
    """Forecast of order 1: the straight line of a reference by hand; held input, held output."""
    policy = Policy(Inner(1, 1), Every(3, warmup=2), forecast(1))
    ours, theirs = _both(it, policy, lambda step, _: step in (0, 1, 4), line)
    same(ours, theirs, "forecast", 1e-4)
    _held_input(it, forecast(1), 1e-4)


def gated(it: Small) -> None:
    """First-block caching: the same verdicts and outputs as a reference by hand; NaN means compute."""
    with attach(it.model, Policy(Inner(1, 0), Drift(1e9), residual())) as run:
        run_all(it.model, moving(it)[:2])
        pieces = pieces_of(run)
        assert {event.step: event.computed for event in run.trace} == {0: True, 1: False}
    never = ByDrift(float("inf"))
    ByHand(it.model, it.backbone, pieces, never, residual_by_hand)(moving(it))
    changes = sorted(never.changes)
    threshold = (changes[1] + changes[2]) / 2  # the two steps after the first stand in, the leap does not
    by_hand = ByHand(it.model, it.backbone, pieces, ByDrift(threshold), residual_by_hand)
    theirs = by_hand(moving(it))
    assert len(set(by_hand.decided[1:])) == 2, f"a gate that never changes its mind: {by_hand.decided}"
    with attach(it.model, Policy(Inner(1, 0), Drift(threshold), residual())) as run:
        same(run_all(it.model, moving(it)), theirs, "gate", 1e-4)
        verdicts = {event.step: event.computed for event in run.trace}
    assert list(verdicts.values()) == by_hand.decided, f"verdicts {verdicts}, by hand {by_hand.decided}"
    with attach(it.model, Policy(Inner(1, 0), Drift(1e9, probe=_not_a_number), residual())) as run:
        same(run_all(it.model, moving(it)[:3]), bare(it.name)[:3], "NaN at the gate")
        assert all(event.computed for event in run.trace), "NaN at the gate stands in"


class ByDrift:
    """Computes when a probe has moved by more than the threshold since the last computed step."""

    def __init__(self, threshold: float):
        self.threshold, self.changes = threshold, []
        self.last: Any = None

    def __call__(self, step: int, probe: Tensor) -> bool:
        if self.last is not None:
            self.changes.append(((probe - self.last).abs().mean() / self.last.abs().mean()).item())
            if self.changes[-1] <= self.threshold:
                return False
        self.last = probe
        return True


def _not_a_number(moment: Moment) -> Tensor:
    return torch.full_like(moment.entry[0], float("nan"))


def parts(it: Small) -> None:
    """Holding one kind of part, and then all kinds: bit for bit a reference by hand, and the parts don't compute."""
    names, calls = tuple(it.backbone.parts), moving(it)[:4]
    for kinds in dict.fromkeys([names[:1], names]):
        sites = Parts(kinds)(it.model, it.backbone)
        found = [it.model.get_submodule(site.path) for site in sites]
        missing = set(it.backbone.blocks(it.model)) - _owners(it, found)
        assert not missing, f"{len(missing)} blocks have none of {kinds}"
        with (
            Counted(it.model, found, calls[0]) as counted,
            attach(it.model, Policy(Parts(kinds), Every(2), hold())),
        ):
            ours = run_all(it.model, calls)
            assert counted.calls == [2] * len(found), f"{kinds} ran {counted.calls} times"
        odd = cycle([False, True])
        with parts_by_hand(it.model, found, odd.__next__):
            theirs = run_all(it.model, calls)
        same(ours, theirs, f"parts {kinds}")


def _owners(it: Small, found: Sequence[nn.Module]) -> set[nn.Module]:
    """The blocks that hold one of these."""
    ids = {id(part) for part in found}
    return {block for block in it.backbone.blocks(it.model) if any(id(m) in ids for m in block.modules())}


def guided(it: Small) -> None:
    """Two guidance branches at every timestep, told apart by the repeated timestep: equal to two runs of their own."""
    policy = Policy(Inner(1, 1), Every(3, warmup=2), forecast(1))
    calls = [moving(it, seed)[:4] for seed in (0, 1)]
    alone = []
    for each in calls:
        with attach(it.model, policy):
            alone.append(run_all(it.model, each))
    with attach(it.model, policy) as run:
        both = run_all(it.model, [call for pair in zip(*calls, strict=True) for call in pair])
        assert run.passes[0][0].t is not None, NO_TIMESTEP
        assert [stream for _, stream, _ in run.passes] == ["main", "main, repeat 1"] * 4
    same(both[::2], alone[0], "first branch")
    same(both[1::2], alone[1], "second branch")
    assert differ(alone[0], alone[1])


def batched(it: Small) -> None:
    """A batch of one and then, in a new run found by the clock, of two: both as in runs of their own."""
    policy = Policy(Inner(1, 1), Every(2), residual())
    one, two = moving(it)[:3], moving(it, batch=2)[:3]
    with attach(it.model, policy) as run:
        ours = [run_all(it.model, one), run_all(it.model, two)]
        assert run.passes[0][0].t is not None, NO_TIMESTEP
    for calls, outputs in zip((one, two), ours, strict=True):
        with attach(it.model, policy):
            same(outputs, run_all(it.model, calls), "one batch after another")


def aborted(it: Small) -> None:
    """An exception inside a spared block: the next run is clean, though it begins at the timestep that broke off."""
    policy = Policy(Inner(1, 1), Every(2), residual())
    again = moving(it, seed=1)[2:5]
    with attach(it.model, policy):
        clean = run_all(it.model, again)
    block = in_and_out(it.backbone.blocks(it.model)[it.backbone.unit])[1]
    first = next(iter(leaves_run(it.model, again[0], block)))
    with attach(it.model, policy) as run:
        run_all(it.model, moving(it)[:2])
        hook = first.register_forward_pre_hook(_interrupt)
        try:
            run_all(it.model, moving(it)[2:3])
            raise AssertionError("the block did not run")
        except Interrupted:
            hook.remove()
        same(run_all(it.model, again), clean, "after an abort")
        assert [(step.index, stream) for step, stream, _ in run.passes] == [(i, "main") for i in range(3)]


class Interrupted(Exception):
    """Raised in the middle of a pass."""


def _interrupt(*_: object) -> None:
    raise Interrupted


def detached(it: Small) -> None:
    """After a run: the same outputs, keys, types, children, attributes and hooks, and no cache_context left."""
    before, calls = _shape(it.model), moving(it)[:2]
    for where in (Inner(1, 1), Parts(tuple(it.backbone.parts)[:1])):
        with attach(it.model, Policy(where, Every(2), hold())):
            run_all(it.model, calls)
            assert _shape(it.model) != before, "nothing was attached"
        assert _shape(it.model) == before
        same(run_all(it.model, calls), bare(it.name)[:2], "after detaching")


def _shape(model: nn.Module) -> list[Any]:
    """Everything that attaching could leave behind, in a form that compares."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs")
    return [list(model.state_dict())] + [
        (path, type(m), id(m), list(m._modules), sorted(vars(m)), [list(getattr(m, name)) for name in hooks])
        for path, m in model.named_modules()
    ]


def _both(
    it: Small, policy: Policy, computes: Callable[[int, Tensor], bool], guess: Guess | None
) -> tuple[list[Any], list[Any]]:
    """The outputs of a run of ours, and of the same by hand."""
    with attach(it.model, policy) as run:
        ours, pieces = run_all(it.model, moving(it)), pieces_of(run)
    return ours, ByHand(it.model, it.backbone, pieces, computes, guess)(moving(it))


def _held_input(it: Small, what: What, tolerance: float) -> None:
    """The same call at two computed and two stood-in steps gives the same output."""
    with attach(it.model, Policy(Inner(1, 1), Every(3, warmup=2), what)) as run:
        outputs = run_all(it.model, moving(it)[:1] * 4, run)
        assert [event.computed for event in run.trace if event.site == run._first] == [True, True, False, False]
    for output in outputs[2:]:
        same(output, outputs[1], "held input", tolerance)


LAWS: dict[str, Callable[[Small], None]] = {
    "identity": identity,
    "clock": clocked,
    "economy": economy,
    "hold": held,
    "residual": added,
    "forecast": extrapolated,
    "gate": gated,
    "parts": parts,
    "guidance": guided,
    "batch": batched,
    "abort": aborted,
    "detach": detached,
}

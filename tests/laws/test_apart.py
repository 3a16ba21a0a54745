"""Streams, threads and tasks keep apart; a changed batch shape is refused; foreign loops find their own clock."""

import asyncio
import threading

import pytest
import torch
from zoo import BACKBONES, CASES, POLICIES, STEPS, TIMES, inputs, loop

from skipdit import attach


@pytest.mark.parametrize(("backbone", "policy"), CASES)
@torch.no_grad()
def test_two_streams_in_turn_equal_two_runs(backbone, policy):
    model = BACKBONES[backbone]()
    want = []
    for seed in (0, 1):
        with attach(model, POLICIES[policy]) as run:
            want.append(loop(model, run, seed=seed))
    got = [[], []]
    with attach(model, POLICIES[policy]) as run:
        for step in range(STEPS):
            for seed, stream in enumerate(("cond", "uncond")):
                run.begin(step, TIMES[step], stream, STEPS)
                got[seed].append(model(*inputs(step, seed=seed)))
    assert torch.equal(torch.stack(got[0]), want[0])
    assert torch.equal(torch.stack(got[1]), want[1])
    assert len({step.index for step, _, _ in run.passes}) == STEPS


@pytest.mark.parametrize(("backbone", "policy"), CASES)
@torch.no_grad()
def test_a_foreign_loop_is_clocked_by_its_timesteps(backbone, policy):
    """Nobody calls begin: two passes at one timestep are two streams, and a timestep that rises is a new run."""
    model = BACKBONES[backbone]()
    want = []
    for seed in (0, 1):
        with attach(model, POLICIES[policy]) as run:
            want.append(loop(model, run, seed=seed))
    with attach(model, POLICIES[policy], timesteps=TIMES) as run:
        for _ in range(2):
            got = [[], []]
            for step in range(STEPS):
                for seed in (0, 1):
                    got[seed].append(model(*inputs(step, seed=seed)))
            assert torch.equal(torch.stack(got[0]), want[0])
            assert torch.equal(torch.stack(got[1]), want[1])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_eight_threads_with_eight_policies_equal_eight_single_runs(backbone):
    model = BACKBONES[backbone]()
    chosen = [p for b, p in CASES if b == backbone][:8]
    bare, want = loop(model), []
    for policy in chosen:
        with attach(model, POLICIES[policy]) as run:
            want.append(loop(model, run))
    got, ready = [None] * len(chosen), threading.Barrier(len(chosen) + 1)

    def work(i):
        ready.wait()
        with attach(model, POLICIES[chosen[i]]) as run:
            got[i] = loop(model, run)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(chosen))]
    for thread in threads:
        thread.start()
    ready.wait()
    assert torch.equal(loop(model), bare)  # this thread has no policy
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    assert torch.equal(loop(model), bare)


@torch.no_grad()
def test_two_policies_at_once_may_call_a_part_by_other_kinds():
    """A probe for one is an attention for the other."""
    model = BACKBONES["dit"]()
    with attach(model, POLICIES["pab"]) as run:
        want = loop(model, run)

    def other():
        with attach(model, POLICIES["adacache"]) as run:
            loop(model, run, steps=1)
            held.set()
            done.wait()

    held, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    with attach(model, POLICIES["pab"]) as run:
        got = loop(model, run)
    done.set()
    thread.join()
    assert torch.equal(got, want)


@torch.no_grad()
def test_two_tasks_that_take_turns_within_a_loop_keep_apart():
    model = BACKBONES["dit-replace"]()
    names = ("skip_cache", "forecast")
    want = []
    for name in names:
        with attach(model, POLICIES[name]) as run:
            want.append(loop(model, run))

    async def work(name):
        outputs = []
        with attach(model, POLICIES[name]) as run:
            for step in range(STEPS):
                run.begin(step, TIMES[step], total=STEPS)
                outputs.append(model(*inputs(step)))
                await asyncio.sleep(0)
        return torch.stack(outputs)

    async def both():
        return await asyncio.gather(*(work(name) for name in names))

    got = asyncio.run(both())
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize(("backbone", "policy"), CASES)
@torch.no_grad()
def test_a_changed_batch_shape_is_refused_by_name(backbone, policy):
    model = BACKBONES[backbone]()
    with pytest.raises(ValueError, match=r"one batch shape a run"), attach(model, POLICIES[policy]) as run:
        for step in range(STEPS):
            run.begin(step, TIMES[step], total=STEPS)
            model(*inputs(step, batch=2 if step == 0 else 1))
    with attach(model, POLICIES[policy]) as run:
        loop(model, run, batch=2)
        loop(model, run, batch=1)  # another image may have another shape

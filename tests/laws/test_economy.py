"""Exactly the blocks outside the span run, and the trace, the report and the counted calls agree."""

from functools import cache

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from zoo import BACKBONES, CASES, OWN, POLICIES, STEPS, Counted, loop

from skipdit import attach
from skipdit.core.policy import Leaf, Span


@pytest.mark.parametrize(("backbone", "policy"), CASES)
def test_blocks_run_are_those_of_the_trace(backbone, policy):
    model = BACKBONES[backbone]()
    with Counted(model) as calls, attach(model, POLICIES[policy]) as run:
        loop(model, run)
    want = [STEPS] * len(calls)
    for event in run.trace:
        if isinstance(event.site, Span) and not event.computed:
            for i in range(event.site.start, event.site.stop):
                want[i] -= 1
    assert calls == want
    report = run.report()
    assert report.blocks_run == sum(calls)
    assert report.blocks_in_full == STEPS * len(calls)
    assert report.steps == STEPS == report.computed + report.stood_in


@cache
def flops_in_full(backbone):
    with FlopCounterMode(display=False) as bare:
        loop(BACKBONES[backbone]())
    return bare.get_total_flops()


@pytest.mark.parametrize(("backbone", "policy"), CASES)
def test_flops_spared_are_the_flops_not_spent(backbone, policy):
    model = BACKBONES[backbone]()
    with sdpa_kernel(SDPBackend.MATH):  # torch's counter knows no FLOPs of the CPU's fused attention
        bare = flops_in_full(backbone)
        with attach(model, POLICIES[policy]) as run, FlopCounterMode(display=False) as counted:
            loop(model, run)
    report = run.report()
    spent = counted.get_total_flops() - OWN.get(policy, lambda run: 0)(run)
    assert report.flops == spent
    assert report.flops + report.spared_flops == bare
    assert report.ideal_speedup == pytest.approx(bare / spent)


def test_parts_that_are_stood_in_for_do_not_run():
    model = BACKBONES["dit"]()
    calls = []
    for i, block in enumerate(model.blocks):
        block.attn.proj.register_forward_hook(lambda *_, i=i: calls.append(i))
    with attach(model, POLICIES["parts"]) as run:
        loop(model, run)
    assert all(isinstance(event.site, Leaf) for event in run.trace)
    assert len(calls) == sum(event.computed for event in run.trace)


def test_one_tensor_is_held_a_stream():
    model = BACKBONES["dit-replace"]()
    with attach(model, POLICIES["skip_cache"]) as run:
        loop(model, run)
        alone = run.report().bytes_held
        loop(model, run, stream="uncond", seed=1)
    tokens, width = 4, 32
    assert alone == 2 * tokens * width * 4
    assert run.report().bytes_held == 2 * alone


def test_report_in_words_and_as_a_dict():
    model = BACKBONES["dit-replace"]()
    with attach(model, POLICIES["skip_cache"]) as run:
        loop(model, run)
    report = run.report()
    assert "9 steps: 5 computed, 4 stood in" in str(report)
    assert report.as_dict()["stood_in"] == 4
    assert torch.isclose(torch.tensor(report.ideal_speedup), torch.tensor(1 / (1 - _share(report))))


def _share(report):
    return report.spared_flops / (report.flops + report.spared_flops)

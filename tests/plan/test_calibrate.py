"""What is calibrated is what a plain run shows, and the correction is the least squares one."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from zoo import dit

from skipdit.core.policy import Span, Step
from skipdit.plan.calibrate import correction, magcache_ratios, smoothcache_curves, teacache_polynomial
from skipdit.plan.curves import smoothcache_schedules
from skipdit.plan.linear import Differences, fit, left_over
from skipdit.plan.study import Study


@pytest.fixture
def study():
    return Study.of(dit("replace"), 6, 2.0, None, 0, 2, 2)[0]


def test_ratios_are_those_of_the_norms(study):
    entered, left = [], []
    blocks = study.model.blocks
    hooks = [
        blocks[0].register_forward_pre_hook(lambda module, args: entered.append(args[0].clone())),
        blocks[-1].register_forward_hook(lambda module, args, y: left.append(y.clone())),
    ]
    try:
        ratios = magcache_ratios(study)
    finally:
        for hook in hooks:
            hook.remove()
    norms = [(y - x).norm(dim=-1) for x, y in zip(entered, left, strict=True)]
    assert len(ratios) == 6
    assert ratios[0] == 1
    assert ratios[1:] == pytest.approx([(b / a).mean().item() for a, b in pairwise(norms)])


def test_teacache_s_polynomial_is_fitted_to_what_the_blocks_show(study):
    given, left = [], []
    blocks = study.model.blocks
    hooks = [
        blocks[0].attn.register_forward_pre_hook(lambda module, args: given.append(args[0].clone())),
        blocks[-1].register_forward_hook(lambda module, args, y: left.append(y.clone())),
    ]
    try:
        polynomial = teacache_polynomial(study, degree=1)
    finally:
        for hook in hooks:
            hook.remove()
    moved, followed = (
        [((b - a).abs().mean() / a.abs().mean()).item() for a, b in pairwise(seen)] for seen in (given, left)
    )
    slope, offset = np.polyfit(moved, followed, 1)
    assert polynomial == pytest.approx((slope, offset), rel=1e-3)
    with pytest.raises(ValueError, match="can't fix degree 9"):
        teacache_polynomial(study, degree=9)


def test_smoothcache_curves_give_a_schedule_for_each_kind(study):
    curves = smoothcache_curves(study)
    schedules = smoothcache_schedules(curves.kinds(), max(curves.rows("attn")[0]), 6)
    assert set(schedules) == {"attn", "mlp"}
    assert len(schedules["attn"]) < 6
    assert schedules["attn"][0] == 0
    assert schedules["attn"][-1] == 5


def test_smoothcache_curves_are_relative_l1_norms_as_in_the_authors_calibration(study):
    """Row r holds the error between a step and the one r + 1 later, averaged over the blocks."""
    given, blocks = [[] for _ in study.model.blocks], study.model.blocks
    hooks = [
        block.attn.register_forward_hook(lambda *call, to=to: to.append(call[-1].clone()))
        for block, to in zip(blocks, given, strict=True)
    ]
    try:
        rows = smoothcache_curves(study).rows("attn")
    finally:
        for hook in hooks:
            hook.remove()
    assert [len(row) for row in rows] == [5, 4, 3]
    for gap, row in enumerate(rows, start=1):
        for step, error in enumerate(row):
            each = [((y[step] - y[step + gap]).norm(p=1) / y[step + gap].norm(p=1)).item() for y in given]
            assert error == pytest.approx(sum(each) / len(each), rel=1e-5)


def watched(a: torch.Tensor, steps: int = 6) -> tuple[Differences, float]:
    """What is seen of a span that maps by A exactly."""
    torch.manual_seed(0)
    watch, memory, energy, then = Differences((0, 3)), {}, 0.0, None
    for step in range(steps):
        x = torch.randn(2, 40, len(a))
        y = x @ a.T
        watch.observe(memory, Step(step), Span(1, 2), (x,), (y,))
        then = y if step in (0, 3) else then
        energy += (y - then).square().sum().item()
    return watch, energy


def test_a_map_of_low_rank_and_diagonal_is_found():
    torch.manual_seed(1)
    a = torch.randn(12, 12)
    watch, energy = watched(a)
    errors = [left_over(watch.moments, energy, fit(watch.moments, rank, ridge=0)) for rank in (0, 3, 6, 12)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 1
    assert errors[-1] == pytest.approx(0, abs=1e-5)
    parts = fit(watch.moments, 12, ridge=0)
    assert torch.allclose(parts["up"] @ parts["down"] + parts["diagonal"].diag(), a, atol=1e-4)
    with pytest.raises(ValueError, match="rank=13 is above the width 12"):
        fit(watch.moments, 13)


def test_a_correction_is_written_for_its_method(study, tmp_path):
    path = tmp_path / "a.safetensors"
    correction(study, path, computed=(0, 2, 4), rank=4)
    parts = load_file(path)
    assert {name: tuple(part.shape) for name, part in parts.items()} == {
        "diagonal": (32,),
        "down": (4, 32),
        "up": (32, 4),
    }
    with pytest.raises(ValueError, match="all of 6 steps are computed"):
        correction(study, path, computed=range(6))

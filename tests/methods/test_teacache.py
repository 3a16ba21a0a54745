"""TeaCache: its probe on real blocks, its sums by hand, the fit of its polynomial."""

import math

import pytest
import torch
from small import PIPELINES, output
from torch import nn
from zoo import dit, inputs

from skipdit import attach, methods
from skipdit.backbones.diffusers import backbone_of
from skipdit.core.policy import Moment, Policy, Span, Step
from skipdit.core.what import residual
from skipdit.core.when import Drift
from skipdit.core.where import Inner
from skipdit.methods.teacache import Accumulated, modulated


def test_teacache_sums_rescaled_changes_from_step_to_step(monkeypatch):
    """Inputs 1, 1.1, 1.32, 1.452 change by .1, .2, .1; doubled: .2, .6 >= .5 computes, then .2."""
    model, values = dit(None), iter([1.0, 1.1, 1.32, 1.452])
    with attach(model, methods.teacache(0.5, polynomial=(2.0, 0.0), warmup=1, tail=0)) as run, torch.no_grad():
        block = model.blocks[0]
        monkeypatch.setattr(block, "norm1", Fixed(values))
        block.adaLN_modulation[1].weight.zero_()
        block.adaLN_modulation[1].bias.zero_()
        for step in range(4):
            run.begin(step, 9.0 - step, total=4)
            block.norm1.advance()
            model(*inputs(step))
    assert [event.computed for event in run.trace] == [True, False, True, False]


class Fixed(nn.Module):
    """A norm that gives one number everywhere: the next one a step."""

    def __init__(self, values):
        super().__init__()
        self.values, self.value = values, 0.0

    def advance(self):
        self.value = next(self.values)

    def forward(self, x):
        return torch.full_like(x, self.value)


def test_teacache_takes_nan_as_a_reason_to_compute_and_starts_anew():
    when, memory = Accumulated(0.5), {"before": torch.ones(2, 4, 32), "sum": math.nan}
    x, c = torch.ones(2, 4, 32), torch.ones(2, 32)
    assert when(memory, Step(3, 9), Span(0, 6), Moment((x,), (x,), dit(None).blocks[0], (x, c)))
    when.observe(memory, Step(3, 9), Span(0, 6), (x,), (x,))
    assert memory["sum"] == 0


@pytest.mark.parametrize("name", [n for n in PIPELINES if n not in ("qwen-image", "z-image", "unidiffuser")])
def test_teacache_s_probe_is_what_the_first_attention_is_given(name):
    small, given, probed = PIPELINES[name](), [], []
    model = getattr(small.pipe, small.transformers[0])
    backbone = backbone_of(model)
    block = backbone.blocks(model)[0]
    attention = block.get_submodule(backbone.parts["attn"])

    def before(_, args, kwargs):
        given.append(args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values()))))

    attention.register_forward_pre_hook(before, with_kwargs=True)
    probe = Drift(1e9, lambda moment: (probed.append(modulated(moment)), moment.entry[0])[1])
    with attach(small.pipe, Policy(Inner(0, 0), probe, residual())):
        output(small, steps=3)
    assert torch.equal(probed[0].flatten(), given[0].flatten())  # HunyuanDiT's lacks the batch where that is 1


@pytest.mark.parametrize("name", ["qwen-image", "z-image", "unidiffuser"])
def test_teacache_refuses_blocks_without_a_modulated_norm(name):
    with pytest.raises(TypeError, match="no first norm that the condition modulates: use first_block or easycache"):
        with attach(PIPELINES[name]().pipe, methods.teacache()):
            pytest.fail("attached")


def test_teacache_fits_its_polynomial():
    x = [0.1 * i for i in range(12)]
    y = [2 * v**4 - 3 * v**2 + 0.5 * v + 0.25 for v in x]
    assert methods.teacache.fitted(x, y) == pytest.approx((2, 0, -3, 0.5, 0.25), abs=1e-6)
    with pytest.raises(ValueError, match="can't fix degree 4"):
        methods.teacache.fitted([1, 2], [1, 2])

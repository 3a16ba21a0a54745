"""Similarity: 1 for identical runs, equal to what hooks by hand find, on our models and on a foreign one."""

import importlib.util
from pathlib import Path

import pytest
import torch

from skipdit.core.backbone import Backbone
from skipdit.methods.skip_cache import skip_cache
from skipdit.probes.similarity import cached, cosine, uncached
from skipdit.sample import sample

spec = importlib.util.spec_from_file_location("zoo", Path(__file__).parents[1] / "laws" / "zoo.py")
zoo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zoo)
STEPS = 4


@pytest.fixture(scope="module")
def model():
    return zoo.dit("replace")


def drawn(model, **said):
    return lambda: sample(model, [0, 3], steps=STEPS, seed=1, **said)


def hooked(model):
    return [len(module._forward_hooks) for module in model.modules()]


def test_cosine_of_equal_opposite_and_upright():
    a = torch.randn(2, 3, 4)
    assert cosine(a, a).tolist() == [1.0, 1.0]
    assert cosine(a, -a).tolist() == [-1.0, -1.0]
    assert cosine(torch.tensor([[3.0, 0]]), torch.tensor([[0, 2.0]])).item() == 0


@pytest.mark.parametrize("two_pass", [False, True])
def test_equals_hooks_by_hand(model, two_pass):
    seen = [[] for _ in model.blocks]
    hooks = [b.register_forward_hook(lambda m, a, y, i=i: seen[i].append(y)) for i, b in enumerate(model.blocks)]
    drawn(model, two_pass=two_pass)()
    for hook in hooks:
        hook.remove()
    apart = 2 if two_pass else 1  # calls a step
    found = uncached(model, drawn(model, two_pass=two_pass))
    assert len(found.blocks) == 6
    for block, outputs in enumerate(seen):
        for step in range(1, STEPS):
            pairs = [(outputs[apart * step + k], outputs[apart * (step - 1) + k]) for k in range(apart)]
            by_hand = torch.cat([torch.cosine_similarity(a.flatten(1), b.flatten(1)) for a, b in pairs]).mean()
            assert found.blocks[block][step - 1] == pytest.approx(by_hand.item(), abs=1e-6)
    assert len(found.outputs) == apart * STEPS
    assert found.figures()["images"] == 4  # two labels, two branches


def test_identical_runs_are_at_1_and_nothing_is_left_behind(model):
    draw, before, hooks = drawn(model), drawn(model)(), hooked(model)
    whole = uncached(model, draw)
    found = cached(model, draw, skip_cache(every=1), whole)
    assert found.mean == found.low == found.high == (1.0,) * STEPS
    assert found.figures()["computed"] == "1111"
    assert torch.equal(draw(), before)
    assert hooked(model) == hooks


def test_a_cached_run_drifts_after_the_first_step(model):
    draw = drawn(model)
    whole = uncached(model, draw)
    found = cached(model, draw, skip_cache(every=2), whole)
    assert found.computed == (True, False, True, False)
    assert found.mean[0] == 1
    assert all(low <= mean <= high for low, mean, high in zip(found.low, found.mean, found.high, strict=True))
    assert found.mean[1] < 1
    assert found.times == whole.times


def test_a_foreign_model():
    """A diffusers class in a loop of its own: steps and branches are found out from the calls."""
    from diffusers import DiTTransformer2DModel

    from skipdit.backbones.diffusers import backbone_of

    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=3, num_layers=4, sample_size=8, patch_size=4,
        num_embeds_ada_norm=10,
    ).eval()  # fmt: skip
    noise = torch.randn(2, 3, 8, 8)

    @torch.no_grad()
    def draw():
        x = noise
        for t in (900, 600, 300):
            x = x - 0.3 * model(x, torch.full((2,), t), torch.tensor([1, 2])).sample

    found = uncached(model, draw, backbone_of(model))
    assert (found.times, len(found.blocks), len(found.blocks[0])) == ((900.0, 600.0, 300.0), 4, 2)
    assert cached(model, draw, skip_cache(every=1), found, backbone_of(model)).mean == (1.0,) * 3
    assert cached(model, draw, skip_cache(every=3), found, backbone_of(model)).mean[2] <= 1


def test_refusals(model):
    with pytest.raises(ValueError, match="ran for 0 steps"):
        uncached(model, lambda: None)
    whole = uncached(model, drawn(model))
    with pytest.raises(ValueError, match="same noise"):
        cached(model, lambda: sample(model, [0, 3], steps=STEPS, seed=2), skip_cache(every=2), whole)
    with pytest.raises(ValueError, match="other passes"):
        cached(model, lambda: sample(model, [0, 3], steps=3, seed=1), skip_cache(every=2), whole)
    with pytest.raises(TypeError, match="carries no Backbone"):
        uncached(torch.nn.Linear(2, 2), lambda: None)
    assert Backbone.of(model)

"""The DiT computes the paper's formulas, has the paper's sizes, and behaves as a diffusers model."""

import json
import math

import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from formulas import affine, attention, condition, gelu, normed
from torch import Tensor

from skipdit.backbones import dit
from skipdit.backbones.dit import SIZES, DiT, DiT_B_2, DiT_L_2, DiT_S_2, DiT_XL_2

SKIPS = [None, "join", "replace"]


def tiny(**given) -> DiT:
    """A small DiT whose every trained weight is random: a fresh one answers zero."""
    torch.manual_seed(0)
    sizes = dict(input_size=8, patch_size=2, in_channels=3, hidden_size=32, depth=4, num_heads=2, num_classes=5)
    model = DiT(**{**sizes, **given})
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.2)
    return model.eval()


def inputs(channels: int = 3, side: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(3, channels, side, side), torch.tensor([0.0, 3.5, 17.0]), torch.tensor([0, 2, 4])


# ---- the formulas ---------------------------------------------------------------------------------------------------


def reference(model: DiT, x: Tensor, t: Tensor, y: Tensor, style: Tensor | None = None) -> Tensor:
    """DiT in float64 from its weights and formulas alone, one patch at a time."""
    w, sizes = {k: v.double() for k, v in model.state_dict().items()}, model.config
    p, side = sizes.patch_size, sizes.input_size // sizes.patch_size
    patches = [
        x[:, :, r * p : r * p + p, s * p : s * p + p].double().flatten(1) for r in range(side) for s in range(side)
    ]
    kernel = w["x_embedder.proj.weight"].flatten(1)
    x = torch.stack(patches, 1) @ kernel.T + w["x_embedder.proj.bias"] + w["pos_embed"]
    c = condition(w, t, y, style)
    lit = c * c.sigmoid()
    for i in range(sizes.depth):
        shift1, scale1, gate1, shift2, scale2, gate2 = affine(w, f"blocks.{i}.adaLN_modulation.1", lit)[:, None].split(
            sizes.hidden_size, -1
        )
        x = x + gate1 * attention(w, f"blocks.{i}.attn", normed(x) * (1 + scale1) + shift1, sizes.num_heads)
        hidden = affine(w, f"blocks.{i}.mlp.fc1", normed(x) * (1 + scale2) + shift2)
        x = x + gate2 * affine(w, f"blocks.{i}.mlp.fc2", gelu(hidden))
    shift, scale = affine(w, "final_layer.adaLN_modulation.1", lit)[:, None].split(sizes.hidden_size, -1)
    tokens = affine(w, "final_layer.linear", normed(x) * (1 + scale) + shift)
    rows = [torch.cat([tokens[:, r * side + s].view(len(x), p, p, -1) for s in range(side)], 2) for r in range(side)]
    return torch.cat(rows, 1).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "given", [{}, {"learn_sigma": False}, {"patch_size": 4}, {"mlp_ratio": 2.0, "num_heads": 4}, {"depth": 3}]
)
def test_the_forward_is_the_papers_formulas(given):
    model = tiny(**given)
    want = reference(model, *inputs())
    torch.testing.assert_close(model(*inputs()).double(), want, rtol=0, atol=1e-5 * want.abs().max().item())


def test_a_style_is_added_to_the_condition():
    model, style = tiny(num_styles=3), torch.tensor([0, 1, 2])
    want = reference(model, *inputs(), style)
    torch.testing.assert_close(model(*inputs(), style).double(), want, rtol=0, atol=1e-5 * want.abs().max().item())
    assert not torch.allclose(model(*inputs(), style), model(*inputs(), style.flip(0)))


def test_timesteps_are_the_cosines_and_sines_of_128_frequencies():
    embed = dit.TimestepEmbedder(256)
    embed.mlp = torch.nn.Sequential(torch.nn.Linear(256, 256))
    torch.nn.init.eye_(embed.mlp[0].weight)
    torch.nn.init.zeros_(embed.mlp[0].bias)
    angles = [999 * 10000 ** (-k / 128) for k in range(128)]
    want = torch.tensor([[f(angle) for f in (math.cos, math.sin) for angle in angles]])
    torch.testing.assert_close(embed(torch.tensor([999])), want, rtol=0, atol=2e-4)  # 999 in float32


def test_positions_are_the_sines_and_cosines_of_column_and_row():
    table = dit.sincos_2d(16, 5)  # (25, 16)
    for row, column in [(0, 0), (1, 3), (4, 2)]:
        turns = [10000 ** (-k / 4) for k in range(4)]
        want = [f(at * turn) for at in (column, row) for f in (math.sin, math.cos) for turn in turns]
        torch.testing.assert_close(table[row * 5 + column], torch.tensor(want))


def test_unpatchify_puts_each_patch_in_its_place():
    model = tiny(learn_sigma=False)
    picture = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).view(2, 3, 8, 8)
    tokens = torch.empty(2, 16, 12)
    for row in range(4):
        for column in range(4):
            patch = picture[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            tokens[:, 4 * row + column] = patch.permute(0, 2, 3, 1).flatten(1)
    assert torch.equal(model.unpatchify(tokens), picture)


def test_a_fresh_model_answers_zero():
    assert not DiT(8, 2, 3, 32, 2, 2, num_classes=5)(*inputs()).any()


# ---- labels ---------------------------------------------------------------------------------------------------------


def test_labels_and_styles_are_dropped_only_while_training():
    model, (x, t, y), style = tiny(num_styles=3, class_dropout_prob=1.0), inputs(), torch.tensor([0, 1, 2])
    null = model.eval()(x, t, torch.full_like(y, 5), torch.full_like(style, 3))
    assert not torch.allclose(model(x, t, y, style), null)
    assert torch.equal(model.train()(x, t, y, style), null)


def test_labels_are_dropped_as_often_as_asked_and_each_by_itself():
    model = tiny(num_styles=3, class_dropout_prob=0.3).train()
    y = torch.zeros(4000, dtype=torch.long)
    dropped = [
        (embed(y) != embed.embedding_table.weight[0]).any(-1) for embed in (model.y_embedder, model.style_embedder)
    ]
    for each in dropped:
        assert each.float().mean().item() == pytest.approx(0.3, abs=0.04)
    assert (dropped[0] & dropped[1]).float().mean().item() == pytest.approx(0.09, abs=0.03)


def test_without_dropout_there_is_no_null_row():
    assert tiny(class_dropout_prob=0.0).y_embedder.embedding_table.num_embeddings == 5
    assert tiny().y_embedder.embedding_table.num_embeddings == 6


# ---- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "skips", "count"),
    [
        (DiT_XL_2, None, 675_129_632),
        (DiT_XL_2, "replace", 712_369_184),
        (DiT_L_2, "replace", 483_330_080),
        (DiT_B_2, "replace", 137_613_344),
        (DiT_S_2, "replace", 34_744_352),
    ],
)
def test_parameter_counts(size, skips, count):
    with torch.device("meta"):
        model = size(skips=skips)
    assert sum(weight.numel() for weight in model.parameters()) == count


def test_the_table_of_sizes_holds_the_named_ones():
    assert len(SIZES) == 12
    for name, size in SIZES.items():
        assert size is getattr(dit, name.replace("-", "_").replace("/", "_"))
        assert size.keywords["patch_size"] == int(name[-1])
        assert size.keywords["hidden_size"] // size.keywords["num_heads"] == (72 if "XL" in name else 64)


def test_a_misspelt_choice_is_refused_by_name():
    with pytest.raises(ValueError, match=r"skips='joins'.*'join', 'replace'"):
        tiny(skips="joins")
    with pytest.raises(ValueError, match=r"patch_size=3.*input_size=8"):
        tiny(patch_size=3)


@pytest.mark.parametrize("skips", ["join", "replace"])
def test_an_odd_depth_leaves_the_middle_block_alone(skips):
    model = tiny(depth=5, skips=skips)
    assert sorted(model.skip_branches) == ["3", "4"]
    assert model(*inputs()).isfinite().all()


# ---- as a diffusers model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skips", SKIPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_save_and_load(tmp_path, skips, dtype):
    model = tiny(skips=skips, num_styles=2, class_names=["a", "b", "c", "d", "e"]).to(dtype)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "DiT"
    same = DiT.from_pretrained(tmp_path, torch_dtype=dtype)
    assert same.dtype == dtype
    assert not same.training
    assert same.config.class_names == ["a", "b", "c", "d", "e"]
    assert not same.pos_embed.requires_grad
    assert same.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(same.state_dict()[name], weight) for name, weight in model.state_dict().items())
    x, t, y = inputs()
    style = y % 2
    assert torch.equal(same(x.to(dtype), t, y, style), model(x.to(dtype), t, y, style))


@pytest.mark.parametrize("skips", SKIPS)
def test_gradient_checkpointing_gives_equal_gradients(skips):
    model = tiny(skips=skips).train()

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        torch.manual_seed(2)
        model(*inputs()).square().mean().backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}

    plain = gradients()
    calls = []
    model.blocks[1].register_forward_pre_hook(lambda *_: calls.append(1))
    model.enable_gradient_checkpointing()
    assert model.is_gradient_checkpointing
    again = gradients()
    assert len(calls) == 2
    assert all(torch.equal(again[name], gradient) for name, gradient in plain.items())
    model.disable_gradient_checkpointing()
    assert not model.is_gradient_checkpointing


class Pipeline(DiffusionPipeline):
    def __init__(self, transformer: DiT, scheduler: DDIMScheduler):
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)


@pytest.mark.parametrize("skips", SKIPS)
def test_a_pipeline_takes_it_as_a_component(tmp_path, skips):
    model = tiny(skips=skips)
    Pipeline(model, DDIMScheduler()).save_pretrained(tmp_path)
    pipeline = Pipeline.from_pretrained(tmp_path)
    assert isinstance(pipeline.transformer, DiT)
    assert torch.equal(pipeline.transformer(*inputs()), model(*inputs()))


def test_a_style_is_asked_for_by_name():
    torch.manual_seed(0)
    settings = dict(input_size=8, patch_size=4, in_channels=3, hidden_size=32, depth=2, num_heads=2, num_classes=3)
    x, t, y = torch.zeros(1, 3, 8, 8), torch.zeros(1), torch.zeros(1).long()
    with pytest.raises(ValueError, match="num_styles=2, but style is left out"):
        DiT(**settings, num_styles=2)(x, t, y)
    with pytest.raises(ValueError, match="num_styles=0, but style is given"):
        DiT(**settings)(x, t, y, y)


def test_a_model_in_a_subfolder_loads(tmp_path):
    model = DiT(input_size=8, patch_size=4, in_channels=3, hidden_size=32, depth=2, num_heads=2, num_classes=3)
    model.save_pretrained(tmp_path / "transformer")
    assert DiT.from_pretrained(tmp_path, subfolder="transformer").config.depth == 2

"""The Latte computes its paper's formulas, has the published sizes and FLOPs, and behaves as a diffusers model."""

import json

import pytest
import torch
from formulas import affine, attention, condition, gelu, normed
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import skipdit
from skipdit import methods
from skipdit.backbones import latte
from skipdit.backbones.dit import DiT
from skipdit.backbones.latte import SIZES, Latte, Latte_B_2, Latte_L_2, Latte_S_2, Latte_XL_2
from skipdit.backbones.shift import temporal_shift
from skipdit.core.backbone import Backbone

SKIPS = [None, "join", "replace"]
TEMPORAL = ["attention", "shift", "none"]
FRAMES, SIDE = 3, 8


def tiny(**given) -> Latte:
    """A small Latte whose every trained weight is random: a fresh one answers zero."""
    torch.manual_seed(0)
    sizes = dict(input_size=SIDE, patch_size=4, in_channels=3, hidden_size=32, depth=8, num_heads=2, num_classes=5)
    model = Latte(**{**sizes, "num_frames": FRAMES, **given})
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.2)
    return model.eval()


def inputs(frames: int = FRAMES) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, frames, 3, SIDE, SIDE), torch.tensor([3.5, 170.0]), torch.tensor([0, 5])


# ---- the formulas ---------------------------------------------------------------------------------------------------


def block(w: dict[str, Tensor], name: str, x: Tensor, lit: Tensor, heads: int, mix=lambda x: x) -> Tensor:
    """One adaLN-Zero block over the tokens of x (N, T, D), all under one condition (D,)."""
    shift1, scale1, gate1, shift2, scale2, gate2 = affine(w, f"{name}.adaLN_modulation.1", lit).chunk(6)
    x = x + gate1 * attention(w, f"{name}.attn", mix(normed(x)) * (1 + scale1) + shift1, heads)
    hidden = affine(w, f"{name}.mlp.fc1", mix(normed(x)) * (1 + scale2) + shift2)
    return x + gate2 * affine(w, f"{name}.mlp.fc2", gelu(hidden))


def neighbours(x: Tensor) -> Tensor:
    """The shift of an eighth of the channels each way, one frame at a time; x is (F, T, D)."""
    n, last = x.shape[-1] // 8, len(x) - 1
    rows = [
        torch.cat([x[min(f + 1, last), :, :n], x[max(f - 1, 0), :, n : 2 * n], x[f, :, 2 * n :]], -1)
        for f in range(len(x))
    ]
    return torch.stack(rows)


def joined(w: dict[str, Tensor], target: int, x: Tensor, skips: list[Tensor], form: str) -> Tensor:
    both = torch.cat([x, skips.pop()], -1)
    centred = both - both.mean(-1, keepdim=True)
    branch = f"skip_branches.{target}"
    both = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{branch}.norm.weight"]
    y = affine(w, f"{branch}.linear", both + w[f"{branch}.norm.bias"])
    return x + y if form == "join" else y


def reference(model: Latte, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Latte in float64 from its weights and the papers' formulas alone, one video at a time; x is (B, F, C, H, W)."""
    w, sizes = {k: v.double() for k, v in model.state_dict().items()}, model.config
    p, side, heads = sizes.patch_size, sizes.input_size // sizes.patch_size, sizes.num_heads
    paired = sizes.temporal == "attention"
    units = sizes.depth // 2 if paired else sizes.depth
    answers = []
    for video, time, label in zip(x.double(), t, y, strict=True):
        cells = [video[:, :, r * p : r * p + p, s * p : s * p + p].flatten(1) for r in range(side) for s in range(side)]
        kernel = w["x_embedder.proj.weight"].flatten(1)
        z = torch.stack(cells, 1) @ kernel.T + w["x_embedder.proj.bias"] + w["pos_embed"]  # (F, T, D)
        c = condition(w, time[None], label[None], None)[0]
        lit, skips = c * c.sigmoid(), []
        for i in range(units):
            if sizes.skips and i >= units - units // 2:
                z = joined(w, 2 * i if paired else i, z, skips, sizes.skips)
            z = block(w, f"blocks.{i}", z, lit, heads, neighbours if sizes.temporal == "shift" else lambda x: x)
            if paired:
                z = z.transpose(0, 1)  # (T, F, D)
                z = z + w["temp_embed"][0, : z.shape[1]] if i == 0 else z
                z = block(w, f"temporal_blocks.{i}", z, lit, heads).transpose(0, 1)  # (F, T, D)
            if i < units // 2:
                skips.append(z)
        shift, scale = affine(w, "final_layer.adaLN_modulation.1", lit).chunk(2)
        tokens = affine(w, "final_layer.linear", normed(z) * (1 + scale) + shift)
        rows = [
            torch.cat([tokens[:, r * side + s].view(len(z), p, p, -1) for s in range(side)], 2) for r in range(side)
        ]
        answers.append(torch.cat(rows, 1).permute(0, 3, 1, 2))
    return torch.stack(answers)


@pytest.mark.parametrize("temporal", TEMPORAL)
@pytest.mark.parametrize("skips", SKIPS)
def test_the_forward_is_the_papers_formulas(temporal, skips):
    model = tiny(temporal=temporal, skips=skips)
    want = reference(model, *inputs())
    torch.testing.assert_close(model(*inputs()).double(), want, rtol=0, atol=1e-5 * want.abs().max().item())


@pytest.mark.parametrize(
    "given", [{"depth": 2}, {"depth": 6, "skips": "replace"}, {"num_frames": 5}, {"patch_size": 2}]
)
def test_any_depth_and_number_of_frames(given):
    model = tiny(**given)
    want = reference(model, *inputs())
    torch.testing.assert_close(model(*inputs()).double(), want, rtol=0, atol=1e-5 * want.abs().max().item())


def test_frames_are_told_apart_by_sines_and_cosines():
    table = latte.sincos_1d(8, 4)
    turns = [10000 ** (-k / 4) for k in range(4)]
    want = torch.tensor(
        [[f(at * turn) for f in (torch.sin, torch.cos) for turn in torch.tensor(turns)] for at in range(4)]
    )
    torch.testing.assert_close(table, want)


@pytest.mark.parametrize("skips", SKIPS)
def test_without_temporal_mixing_every_frame_is_an_image_of_a_dit(skips):
    """The shift has no weights: with it, too, a state dict of the image model fits, and one frame is drawn as there."""
    frames, t, y = inputs()
    image = DiT(SIDE, 4, 3, 32, 4, 2, num_classes=5, skips=skips).eval()
    image.load_state_dict(tiny(temporal="none", depth=4, skips=skips).state_dict())
    videos = {kind: tiny(temporal=kind, depth=4, skips=skips) for kind in ("none", "shift")}
    for model in videos.values():
        model.load_state_dict(image.state_dict())
    want = torch.stack([image(frames[:, f], t, y) for f in range(FRAMES)], 1)
    torch.testing.assert_close(videos["none"](frames, t, y), want)
    torch.testing.assert_close(videos["shift"](frames[:, :1], t, y), want[:, :1])
    assert not torch.allclose(videos["shift"](frames, t, y), want, atol=1e-2)


# ---- joint training with images -------------------------------------------------------------------------------------


@pytest.mark.parametrize("temporal", TEMPORAL)
@pytest.mark.parametrize("skips", [None, "replace"])
def test_images_beside_a_video_are_as_without_it_and_leave_it_alone(temporal, skips):
    model, (x, t, y) = tiny(temporal=temporal, skips=skips), inputs()
    images, labels = torch.randn(2, 2, 3, SIDE, SIDE), torch.tensor([[1, 2], [3, 0]])
    together = model(torch.cat([x, images], 1), t, y, labels, use_image_num=2)
    torch.testing.assert_close(together[:, :FRAMES], model(x, t, y))
    other = model(torch.cat([x + 1, images.flip(1)], 1), t, y.flip(0), labels.flip(1), use_image_num=2)
    torch.testing.assert_close(other[:, FRAMES:].flip(1), together[:, FRAMES:])


def test_images_need_labels_and_may_not_be_all():
    model, (x, t, y) = tiny(), inputs()
    for wrong in ({"use_image_num": 1}, {"y_image": y[:, None]}, {"y_image": y[:, None], "use_image_num": 2}):
        with pytest.raises(ValueError, match=r"y_image \(B, use_image_num\)"):
            model(x, t, y, **wrong)
    with pytest.raises(ValueError, match="pass y"):
        model(x, t)
    with pytest.raises(ValueError, match="0 frames"):
        model(x, t, y, use_image_num=FRAMES)
    with pytest.raises(ValueError, match=r"4 frames.*1 \.\.\. 3"):
        model(*inputs(4))


def test_an_unconditional_one_takes_no_labels():
    model, (x, t, y) = tiny(num_classes=0), inputs()
    assert torch.equal(model(x, t), model(x, t, y))
    assert model(torch.cat([x, x[:, :1]], 1), t, use_image_num=1).shape[1] == FRAMES + 1


# ---- the shift ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edges", ["replicate", "zero"])
def test_a_shift_brings_channels_of_both_neighbours(edges):
    x = torch.arange(1.0, 1 + 3 * 8).view(1, 3, 1, 8)  # (B, F, T, D)
    y = temporal_shift(x, 0.5, edges)
    kept = 1.0 if edges == "replicate" else 0.0
    assert torch.equal(y[..., 4:], x[..., 4:])
    assert torch.equal(y[:, :-1, :, :2], x[:, 1:, :, :2])
    assert torch.equal(y[:, 1:, :, 2:4], x[:, :-1, :, 2:4])
    assert torch.equal(y[:, -1, :, :2], kept * x[:, -1, :, :2])
    assert torch.equal(y[:, 0, :, 2:4], kept * x[:, 0, :, 2:4])


@pytest.mark.parametrize("edges", ["replicate", "zero"])
def test_one_frame_is_left_as_it_is(edges):
    x = torch.randn(2, 1, 4, 8)
    assert torch.equal(temporal_shift(x, 0.5, edges), x)
    model, (x, t, y) = tiny(temporal="shift", shift_edges=edges), inputs()
    plain = tiny(temporal="none")
    assert torch.equal(model(x[:, :1], t, y), plain(x[:, :1], t, y))


def test_what_a_frame_says_reaches_two_frames_a_block():
    model, (x, t, y) = tiny(temporal="shift", depth=1), inputs(7)
    touched = x.clone()
    touched[:, 3] += 1
    moved = (model(touched, t, y) - model(x, t, y)).abs().amax((0, 2, 3, 4)) > 1e-6
    assert moved.tolist() == [False, True, True, True, True, True, False]


# ---- sizes, FLOPs and schedules as published ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "given", "count"),
    [
        (Latte_XL_2, {}, 673_681_568),  # 673.68 M in the Latte paper; fixed tables of positions are not counted
        (Latte_XL_2, {"skips": "replace"}, 673_681_568 + 18_619_776),
        (Latte_XL_2, {"temporal": "shift", "depth": 14}, 673_681_568 - 14 * 23_905_152),
        (Latte_L_2, {"skips": "replace"}, 456_815_648 + 6 * 2_102_272),
        (Latte_B_2, {"skips": "replace"}, 129_547_040 + 3 * 1_183_488),
        (Latte_S_2, {"skips": "replace"}, 32_480_672 + 3 * 296_832),
    ],
)
def test_parameter_counts(size, given, count):
    with torch.device("meta"):
        model = size(num_classes=0, **given)
    assert sum(weight.numel() for weight in model.parameters() if weight.requires_grad) == count


def test_the_table_of_sizes():
    assert len(SIZES) == 12
    for name, size in SIZES.items():
        assert size.keywords["patch_size"] == int(name[-1])
        assert size.keywords["hidden_size"] // size.keywords["num_heads"] == (72 if "XL" in name else 64)


def test_skips_join_pairs_as_published():
    """Pair 13-p takes the output of pair p: the temporal block of one, the spatial block of the other."""
    model = Latte(8, 4, 3, 16, 28, 2, num_classes=0, skips="replace")
    pairs = skipdit.core.stack.trunk_of(model, model.backbone).pairs()
    assert sorted(pairs) == [(2 * p + 1, 2 * (13 - p)) for p in range(7)]
    assert not any(model.skip_branches["14"].linear.bias)


PUBLISHED = {1: 290.05, 2: 180.68, 3: 145.87, 4: 125.99, 5: 121.02, 6: 111.07}  # N -> T, arXiv 2411.17616, table 1


def passed(model: Latte, policy=None) -> list[float]:
    """Multiply-adds (in 10^12) of a computed pass and, with a policy, of one stood in for, as the authors counted them:
    linear layers and convolutions, three videos of 16 frames of 32 x 32 latent cells."""
    x, t = torch.empty(3, 16, 4, 32, 32, device="meta"), torch.zeros(3, device="meta")
    found = []
    with skipdit.attach(model, policy or methods.skip_cache(every=2)) as run, torch.no_grad():
        for step in range(1 if policy is None else 2):
            run.begin(step, 500.0 - step, total=2)
            with FlopCounterMode(display=False) as counter:
                model(x, t)
            ops = counter.get_flop_counts()["Global"].items()
            found.append(sum(n for op, n in ops if "bmm" not in str(op) and "attention" not in str(op)) / 2e12)
    return found


def test_multiply_adds_of_50_calls_are_the_published_ones():
    fifty = range(980, -1, -20)
    with torch.device("meta"):
        plain, skips = Latte_XL_2(num_classes=0), Latte_XL_2(num_classes=0, skips="replace")
    assert 50 * passed(plain)[0] == pytest.approx(278.63, rel=5e-4)
    full, cached = passed(skips, methods.skip_cache(every=2))
    for every, published in PUBLISHED.items():
        decided = skipdit.plan(methods.skip_cache.preset("class-to-video", every, paper=True), fifty)
        total = full * sum(decided) + cached * (50 - sum(decided))
        assert total == pytest.approx(published, rel=5e-4), every


# ---- policies -------------------------------------------------------------------------------------------------------


def test_a_backbone_says_which_attention_is_temporal():
    model = tiny(skips="replace")
    sites = methods.pab(spatial=2, temporal=4, cross=None).where(model, Backbone.of(model))
    assert [site.kind for site in sites] == ["attn", "temporal"] * 4
    probe = methods.adacache(block=3, frame=1).where(model, Backbone.of(model))
    assert [site.path for site in probe if site.kind == "probe"] == ["temporal_blocks.3.attn"]


@torch.no_grad()
def test_a_cached_step_runs_the_outermost_pairs_and_holds_one_tensor():
    model, ran = tiny(skips="replace"), []
    for name, module in model.named_modules():
        if name.split(".")[0] in ("blocks", "temporal_blocks") and name.count(".") == 1:
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with skipdit.attach(model, methods.skip_cache(every=2)) as run:
        for step in range(2):
            ran.clear()
            run.begin(step, 500.0 - step)
            model(*inputs())
    assert ran == ["blocks.0", "temporal_blocks.0", "blocks.3", "temporal_blocks.3"]
    assert run.report().bytes_held == 2 * FRAMES * 4 * 32 * 4  # (B F, T, D) in float32


# ---- as a diffusers model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temporal", TEMPORAL)
@pytest.mark.parametrize("skips", SKIPS)
def test_save_and_load(tmp_path, temporal, skips):
    model = tiny(skips=skips, temporal=temporal, class_names=["a", "b", "c", "d", "e"])
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "Latte"
    for same in (Latte.from_pretrained(tmp_path), skipdit.from_pretrained(tmp_path)):
        assert type(same) is Latte
        assert not same.training
        assert not same.pos_embed.requires_grad
        assert torch.equal(same(*inputs()), model(*inputs()))
    with pytest.raises(ValueError, match="holds a Latte, not a DiT"):
        DiT.from_pretrained(tmp_path)


@pytest.mark.parametrize("temporal", TEMPORAL)
@pytest.mark.parametrize("images", [0, 1])
def test_gradient_checkpointing_gives_equal_gradients(temporal, images):
    model = tiny(skips="replace", temporal=temporal).train()
    x, t, y = inputs(FRAMES + images)

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        torch.manual_seed(2)
        model(x, t, y, y[:, None] if images else None, images).square().mean().backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}

    plain, calls = gradients(), []
    model.blocks[1].register_forward_pre_hook(lambda *_: calls.append(1))
    model.enable_gradient_checkpointing()
    again = gradients()
    assert len(calls) == 2
    assert all(torch.equal(again[name], gradient) for name, gradient in plain.items())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temporal": "conv"}, r"temporal='conv'.*'attention', 'shift', 'none'"),
        ({"depth": 5}, "depth=5 is odd"),
        ({"temporal": "shift", "shift_portion": 0.01}, r"shift_portion=0\.01 of 32"),
        ({"temporal": "shift", "shift_portion": 1.5}, r"shift_portion=1\.5"),
        ({"temporal": "shift", "shift_edges": "wrap"}, r"shift_edges='wrap'.*'replicate', 'zero'"),
        ({"skips": "joins"}, r"Latte: skips='joins'"),
        ({"patch_size": 3}, r"Latte: patch_size=3"),
    ],
)
def test_a_misspelt_choice_is_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        tiny(**given)


# ---- sampling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++"])
def test_videos_are_drawn_like_images(sampler):
    """Each has its own noise whatever the batch; guidance in one pass or two; a policy that always computes."""
    model, settings = tiny(skips="replace"), dict(steps=3, sampler=sampler, guidance=2.0)
    videos = skipdit.sample(model, [0, 4, 0], **settings)
    assert videos.shape == (3, FRAMES, 3, SIDE, SIDE)
    assert videos.abs().max() <= 1
    torch.testing.assert_close(skipdit.sample(model, [0, 4, 0], batch_size=2, **settings), videos, atol=1e-4, rtol=0)
    torch.testing.assert_close(skipdit.sample(model, [0, 4, 0], two_pass=True, **settings), videos, atol=1e-4, rtol=0)
    with skipdit.attach(model, methods.skip_cache(every=2)) as run:
        assert not torch.equal(skipdit.sample(model, [0, 4, 0], **settings), videos)
    assert run.report().stood_in == 1


def test_a_frame_of_a_model_without_mixing_is_drawn_as_an_image_is():
    """The noise, the guidance and the learned variance meet the channels, not the frames."""
    video = tiny(temporal="none", num_frames=1)
    image = DiT(SIDE, 4, 3, 32, 8, 2, num_classes=5).eval()
    image.load_state_dict(video.state_dict())
    for sampler in ("ddim", "ddpm"):
        said = dict(labels=[1, 2], steps=3, sampler=sampler)
        torch.testing.assert_close(skipdit.sample(video, **said)[:, 0], skipdit.sample(image, **said))


def test_an_unconditional_one_draws_label_0_without_guidance_and_latents_are_not_bounded():
    model = tiny(num_classes=0, in_channels=4)
    assert skipdit.sample(model, [0, 0], steps=2, guidance=1).abs().max() > 1
    with pytest.raises(ValueError, match="guidance must be 1"):
        skipdit.sample(model, [0], steps=2)
    with pytest.raises(ValueError, match=r"label 1 is outside 0\.\.\.0"):
        skipdit.sample(model, [1], steps=2, guidance=1)

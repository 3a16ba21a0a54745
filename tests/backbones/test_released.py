"""Published files load into our DiT and compute what their authors' code computes; anything else is refused."""

import argparse
import math
import pickle
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from skipdit.backbones.dit import DiT
from skipdit.backbones.released import convert, read_released

WIDTH, HEADS, DEPTH, PATCH = 384, 6, 4, 2


def weights(
    skips: bool, sigma: bool = True, rows: int = 1001, tokens: int = 16, depth: int = DEPTH
) -> dict[str, Tensor]:
    """A small state dict under the names of the published files: width of DiT-S, but few blocks and a slim MLP."""
    g = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, tokens, WIDTH),
        "x_embedder.proj.weight": (WIDTH, 4, PATCH, PATCH),
        "x_embedder.proj.bias": (WIDTH,),
        "y_embedder.embedding_table.weight": (rows, WIDTH),
    }

    def linear(name: str, into: int, out: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into), (out,)

    linear("t_embedder.mlp.0", 256, WIDTH)
    linear("t_embedder.mlp.2", WIDTH, WIDTH)
    for i in range(depth):
        linear(f"blocks.{i}.attn.qkv", WIDTH, 3 * WIDTH)
        linear(f"blocks.{i}.attn.proj", WIDTH, WIDTH)
        linear(f"blocks.{i}.mlp.fc1", WIDTH, 2 * WIDTH)
        linear(f"blocks.{i}.mlp.fc2", 2 * WIDTH, WIDTH)
        linear(f"blocks.{i}.adaLN_modulation.1", WIDTH, 6 * WIDTH)
    linear("final_layer.linear", WIDTH, PATCH * PATCH * 4 * (1 + sigma))
    linear("final_layer.adaLN_modulation.1", WIDTH, 2 * WIDTH)
    for i in range(depth // 2 if skips else 0):
        shapes[f"skip_norms.{i}.weight"] = shapes[f"skip_norms.{i}.bias"] = (2 * WIDTH,)
        linear(f"skip_linears.{i}.linear", 2 * WIDTH, WIDTH)
    return {name: torch.randn(shape, generator=g) * 0.05 for name, shape in shapes.items()}


def linear(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, (WIDTH,), eps=1e-6)


def authors_ends(
    w: dict[str, Tensor], x: Tensor, t: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """What comes before the authors' blocks, tokens and condition, and what comes behind them."""
    x = F.conv2d(x, w["x_embedder.proj.weight"], w["x_embedder.proj.bias"], stride=PATCH)
    side = x.shape[-1]
    x = x.flatten(2).mT + w["pos_embed"]
    angles = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(128) / 128)
    hidden = F.silu(linear(w, "t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], 1)))
    c = F.silu(linear(w, "t_embedder.mlp.2", hidden) + w["y_embedder.embedding_table.weight"][y])[:, None]

    def finish(x: Tensor, c: Tensor) -> Tensor:
        shift, scale = linear(w, "final_layer.adaLN_modulation.1", c).split(WIDTH, -1)
        x = linear(w, "final_layer.linear", norm(x) * (1 + scale) + shift)
        x = torch.einsum("nhwpqc->nchpwq", x.view(len(x), side, side, PATCH, PATCH, -1))
        return x.reshape(len(x), -1, side * PATCH, side * PATCH)

    return x, c, finish


def authors_block(w: dict[str, Tensor], block: str, x: Tensor, c: Tensor) -> Tensor:
    m = linear(w, f"{block}.adaLN_modulation.1", c).split(WIDTH, -1)
    qkv = linear(w, f"{block}.attn.qkv", norm(x) * (1 + m[1]) + m[0]).view(len(x), -1, 3, HEADS, WIDTH // HEADS)
    q, k, v = qkv.transpose(1, 3).unbind(2)
    mixed = F.scaled_dot_product_attention(q, k, v)
    x = x + m[2] * linear(w, f"{block}.attn.proj", mixed.transpose(1, 2).flatten(2))
    hidden = F.gelu(linear(w, f"{block}.mlp.fc1", norm(x) * (1 + m[4]) + m[3]), approximate="tanh")
    return x + m[5] * linear(w, f"{block}.mlp.fc2", hidden)


def authors_forward(w: dict[str, Tensor], x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The forward of the authors' DiT_skip (of DiT, where there are no skips), on a file's own names."""
    depth = 1 + max(int(name.split(".")[1]) for name in w if name.startswith("blocks."))
    x, c, finish = authors_ends(w, x, t, y)
    saved: list[Tensor] = []
    for index in range(depth):
        if index >= depth // 2 and "skip_norms.0.weight" in w:
            i, both = index - depth // 2, torch.cat([x, saved.pop()], -1)
            normed = F.layer_norm(both, (2 * WIDTH,), w[f"skip_norms.{i}.weight"], w[f"skip_norms.{i}.bias"], 1e-6)
            x = linear(w, f"skip_linears.{i}.linear", normed)
        x = authors_block(w, f"blocks.{index}", x, c)
        if index < depth // 2:
            saved.append(x)
    return finish(x, c)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(3, 4, 8, 8), torch.tensor([0, 17, 999]), torch.tensor([0, 207, 1000])


def saved(place: Path, stored: object, name: str = "released.pt") -> Path:
    torch.save(stored, place / name)
    return place / name


def same(model: DiT, w: dict[str, Tensor]) -> bool:
    """Does a model compute bit for bit what the authors' forward computes with these weights?"""
    with torch.no_grad():
        return torch.equal(model(*inputs()), authors_forward(w, *inputs()))


# ---- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("sigma", [False, True])
def test_a_file_computes_what_its_authors_code_computes(tmp_path, skips, sigma):
    w = weights(skips, sigma)
    model = read_released(saved(tmp_path, w))
    assert not model.training
    assert model.config.skips == ("replace" if skips else None)
    assert model.config.learn_sigma is sigma
    assert same(model, w)


def test_the_first_released_branch_enters_block_half_the_depth(tmp_path):
    w = weights(skips=True, depth=6)
    branches = read_released(saved(tmp_path, w)).skip_branches
    assert sorted(branches) == ["3", "4", "5"]
    for i in range(3):
        assert torch.equal(branches[str(3 + i)].linear.weight, w[f"skip_linears.{i}.linear.weight"])
        assert torch.equal(branches[str(3 + i)].norm.bias, w[f"skip_norms.{i}.bias"])


def test_sizes_come_from_the_shapes(tmp_path):
    config = read_released(saved(tmp_path, weights(True, tokens=64, depth=2))).config
    assert (config.input_size, config.patch_size, config.in_channels) == (16, 2, 4)
    assert (config.hidden_size, config.num_heads, config.depth, config.mlp_ratio) == (384, 6, 2, 2.0)
    assert (config.num_classes, config.class_dropout_prob) == (1000, 0.1)


@pytest.mark.parametrize(
    ("rows", "told", "classes", "dropout"),
    [(1000, None, 1000, 0.0), (11, None, 10, 0.1), (11, 10, 10, 0.1), (11, 11, 11, 0.0), (1001, 1000, 1000, 0.1)],
)
def test_the_null_row(tmp_path, rows, told, classes, dropout):
    stored = {"model": weights(False, rows=rows, depth=1)}
    if told is not None:
        stored["args"] = argparse.Namespace(num_classes=told)
    config = read_released(saved(tmp_path, stored)).config
    assert (config.num_classes, config.class_dropout_prob) == (classes, dropout)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_averaged_weights_come_first_and_wrappers_names_go(tmp_path, prefix):
    w = weights(True)
    stored = {
        "model": {name: torch.zeros_like(weight) for name, weight in w.items()},
        "ema": {prefix + name: weight for name, weight in w.items()},
        "opt": {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]},
        "args": argparse.Namespace(model="DiT-XL/2-skip", num_classes=1000, results_dir="results", vae="ema"),
    }
    assert same(read_released(saved(tmp_path, stored)), w)
    del stored["ema"]
    stored["model"] = {prefix + name: weight for name, weight in w.items()}
    assert same(read_released(saved(tmp_path, stored)), w)


def test_other_containers(tmp_path):
    w = weights(True)
    torch.save(w, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert same(read_released(tmp_path / "old.pt"), w)
    save_file(w, tmp_path / "new.safetensors")
    assert same(read_released(str(tmp_path / "new.safetensors")), w)


def test_the_model_outlives_its_file(tmp_path):
    w = weights(True)
    file = saved(tmp_path, w)
    model = read_released(file)
    with file.open("r+b") as opened:
        opened.write(bytes(file.stat().st_size))
    assert same(model, w)
    names = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert names == {"pos_embed"}
    model.train()(*inputs()).square().mean().backward()


def test_half_precision_stays(tmp_path):
    half = {name: weight.half() for name, weight in weights(True).items()}
    assert read_released(saved(tmp_path, half)).dtype == torch.float16


# ---- what is refused ------------------------------------------------------------------------------------------------


def refusal(file: Path) -> ValueError:
    with pytest.raises(ValueError) as caught:
        read_released(file)
    assert type(caught.value) is ValueError
    assert str(file) in str(caught.value)
    return caught.value


def test_missing_file(tmp_path):
    for name in ("none.pt", "none.safetensors"):
        with pytest.raises(FileNotFoundError):
            read_released(tmp_path / name)


@pytest.mark.parametrize("name", ["cut.pt", "cut.safetensors", "old.pt"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file(tmp_path, name, kept):
    file, w = tmp_path / name, weights(False, depth=1)
    if file.suffix == ".pt":
        torch.save({"ema": w}, file, _use_new_zipfile_serialization=name == "cut.pt")
    else:
        save_file(w, file)
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    error = refusal(file)
    assert "cut off" in str(error)
    assert error.__cause__ is not None


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"\x00" * 100, b"PK\x03\x04 broken", b"version https"])
def test_no_weights_at_all(tmp_path, content):
    for name in ("page.pt", "page.safetensors"):
        (tmp_path / name).write_bytes(content)
        assert refusal(tmp_path / name).__cause__ is not None


class Malicious:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain"])
def test_code_in_a_file_is_never_run(tmp_path, kind):
    marker, file = tmp_path / "marker", tmp_path / "evil.pt"
    for stored in (
        Malicious(marker),
        {"ema": weights(False, depth=1), "args": argparse.Namespace(x=Malicious(marker))},
    ):
        if kind == "plain":
            file.write_bytes(pickle.dumps(stored))
        else:
            torch.save(stored, file, _use_new_zipfile_serialization=kind == "zip")
        error = refusal(file)
        assert "not run" in str(error)
        assert error.__cause__ is not None
        assert not marker.exists()
    torch.load(file, weights_only=False) if kind != "plain" else pickle.loads(file.read_bytes())
    assert marker.exists()  # it would have


def test_no_other_class_is_let_in(tmp_path):
    refusal(saved(tmp_path, {"ema": weights(False, depth=1), "args": types.SimpleNamespace(num_classes=1000)}))
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_another_model_is_named_by_what_differs(tmp_path):
    other = {"conv1.weight": torch.zeros(8, 3, 7, 7), "fc.bias": torch.zeros(10)}
    for stored in (other, {"model": other}):
        message = str(refusal(saved(tmp_path, stored)))
        assert "missing: x_embedder.proj.weight, pos_embed" in message
        assert "unexpected: conv1.weight, fc.bias (2)" in message
    for stored in ({}, [1, 2], torch.zeros(3), {"ema": None, "model": 3}, {1: torch.zeros(2)}):
        assert "missing" in str(refusal(saved(tmp_path, stored)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("blocks.1.attn.qkv.bias"), r"missing: blocks.1.attn.qkv.bias \(1\)"),
        (lambda w: w.pop("skip_norms.0.weight"), r"missing: skip_norms.0.weight \(1\)"),
        (lambda w: w.update({"skip_norms.2.weight": w["skip_norms.1.weight"]}), r"unexpected: skip_norms.2.weight"),
        (lambda w: w.update({"pos_embed": torch.zeros(1, 15, WIDTH)}), r"another shape: pos_embed \(1, 15, 384\)"),
        (lambda w: w.update({"pos_embed": torch.zeros(16, WIDTH)}), r"missing: pos_embed"),
        (lambda w: w.update({"x_embedder.proj.weight": torch.zeros(WIDTH, 4, 0, 0)}), r"missing: x_embedder"),
        (lambda w: w.update({"t_embedder.mlp.0.bias": torch.zeros(WIDTH).int()}), r"missing: t_embedder.mlp.0.bias"),
        (lambda w: w.update({"cap_embedder.weight": torch.zeros(3)}), r"unexpected: cap_embedder.weight \(1\)"),
        (lambda w: w.update({"x_embedder.proj.weight": torch.zeros(64, 4, 2, 2)}), r"width 64.*heads.*\[384, 768"),
    ],
)
def test_weights_that_almost_fit(tmp_path, change, message):
    w = weights(True)
    change(w)
    with pytest.raises(ValueError, match=message):
        read_released(saved(tmp_path, w))


def test_skips_with_an_odd_depth_dont_exist(tmp_path):
    with pytest.raises(ValueError, match=r"missing: skip_norms\.2\.weight"):
        read_released(saved(tmp_path, weights(True, depth=5)))


def test_a_folder_is_sent_to_from_pretrained(tmp_path):
    assert "skipdit.from_pretrained" in str(refusal(tmp_path))


# ---- conversion -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skips", [False, True])
def test_convert(tmp_path, skips):
    w = weights(skips)
    file = saved(tmp_path, {"ema": w, "model": w, "args": argparse.Namespace()})
    exact = convert(file, tmp_path / "deep" / "exact", dtype=None)
    assert same(exact, w)
    assert same(DiT.from_pretrained(tmp_path / "deep" / "exact"), w)

    (tmp_path / "slim").mkdir()  # an empty folder may be there already
    slim = convert(file, tmp_path / "slim")
    assert slim.dtype == torch.float16
    again = DiT.from_pretrained(tmp_path / "slim")
    assert all(torch.equal(again.state_dict()[name], weight.float()) for name, weight in slim.state_dict().items())
    stored = [sum(p.stat().st_size for p in (tmp_path / f).iterdir()) for f in ("deep/exact", "slim")]
    assert stored[1] < 0.51 * stored[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "released.pt", "slim"]
    assert sorted(p.name for p in (tmp_path / "slim").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]


def test_convert_leaves_what_is_there(tmp_path):
    file, out = saved(tmp_path, weights(False, depth=1)), tmp_path / "out"
    convert(file, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    for place in (out, file):
        with pytest.raises(FileExistsError, match=place.name):
            convert(file, place)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_a_failed_conversion_leaves_nothing(tmp_path, monkeypatch):
    file = saved(tmp_path, weights(False, depth=1))

    def half(self, folder, **_):
        Path(folder).mkdir()
        (Path(folder) / "config.json").write_text("{")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(DiT, "save_pretrained", half)
        with pytest.raises(OSError, match="disk full"):
            convert(file, tmp_path / "out")
    (tmp_path / "broken.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"broken\.pt"):
        convert(tmp_path / "broken.pt", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.pt", "released.pt"]

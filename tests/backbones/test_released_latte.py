"""Published video files load into our Latte and compute what their authors' code computes."""

from pathlib import Path

import pytest
import torch
from test_released import WIDTH, authors_block, authors_ends, saved, weights
from torch import Tensor
from torch.nn import functional as F

import skipdit
from skipdit.backbones.latte import Latte
from skipdit.backbones.released import convert, read_released

FRAMES = 3


def video_weights(skips: bool, classes: int = 0, depth: int = 8) -> dict[str, Tensor]:
    """A small state dict under the names of the published video files: blocks in one list, and half the branches."""
    w = weights(skips, rows=classes + 1, depth=depth)
    w["temp_embed"] = torch.randn(1, FRAMES, WIDTH, generator=torch.Generator().manual_seed(1)) * 0.05
    gone = tuple(f"skip_{kind}.{i}." for kind in ("norms", "linears") for i in range(depth // 4, depth // 2))
    return {
        name: weight
        for name, weight in w.items()
        if not name.startswith(gone) and (classes or not name.startswith("y_embedder"))
    }


def authors_video(w: dict[str, Tensor], x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The forward of the authors' Latte_skip (of Latte, where there are no skips), on a file's own names."""
    batch, depth = len(x), 1 + max(int(name.split(".")[1]) for name in w if name.startswith("blocks."))
    labels = w.get("y_embedder.embedding_table.weight", torch.zeros(1 + int(y.max()), WIDTH))
    x, c, finish = authors_ends({**w, "y_embedder.embedding_table.weight": labels}, x.flatten(0, 1), t, y)
    spatial, temporal = c.repeat_interleave(FRAMES, 0), c.repeat_interleave(x.shape[1], 0)
    kept: list[Tensor] = []
    for i in range(0, depth, 2):
        if i >= depth // 2 and "skip_norms.0.weight" in w:
            k, both = (i - depth // 2) // 2, torch.cat([x, kept.pop()], -1)
            both = F.layer_norm(both, (2 * WIDTH,), w[f"skip_norms.{k}.weight"], w[f"skip_norms.{k}.bias"], 1e-6)
            x = F.linear(both, w[f"skip_linears.{k}.linear.weight"], w[f"skip_linears.{k}.linear.bias"])
        x = authors_block(w, f"blocks.{i}", x, spatial)
        x = x.view(batch, FRAMES, -1, WIDTH).transpose(1, 2).reshape(-1, FRAMES, WIDTH)
        x = authors_block(w, f"blocks.{i + 1}", x + w["temp_embed"] if i == 0 else x, temporal)
        x = x.view(batch, -1, FRAMES, WIDTH).transpose(1, 2).reshape(batch * FRAMES, -1, WIDTH)
        if i < depth // 2:
            kept.append(x)
    return finish(x, spatial).unflatten(0, (batch, FRAMES))


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, FRAMES, 4, 8, 8), torch.tensor([17, 999]), torch.tensor([2, 5])


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("classes", [0, 5])
@torch.no_grad()
def test_a_video_file_computes_what_its_authors_code_computes(tmp_path, skips, classes):
    w = video_weights(skips, classes)
    model = read_released(saved(tmp_path, {"ema": {f"module.{name}": weight for name, weight in w.items()}}))
    assert isinstance(model, Latte)
    config = model.config
    assert (config.num_frames, config.num_classes, config.depth, config.input_size) == (FRAMES, classes, 8, 8)
    assert config.skips == ("replace" if skips else None)
    torch.testing.assert_close(model(*inputs()), authors_video(w, *inputs()), rtol=0, atol=1e-6)


def test_the_published_depth_has_seven_branches(tmp_path):
    w = video_weights(True, depth=28)
    branches = read_released(saved(tmp_path, w)).skip_branches
    assert [int(target) for target in branches] == sorted(range(14, 28, 2), reverse=True)
    for i in range(7):
        assert torch.equal(branches[str(14 + 2 * i)].linear.weight, w[f"skip_linears.{i}.linear.weight"])


@torch.no_grad()
def test_convert_writes_a_folder(tmp_path):
    w = video_weights(True, 5)
    convert(saved(tmp_path, w), tmp_path / "out", dtype=None)
    same = skipdit.from_pretrained(tmp_path / "out")
    assert type(same) is Latte
    torch.testing.assert_close(same(*inputs()), authors_video(w, *inputs()), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("blocks.3.attn.qkv.bias"), r"missing: blocks.3.attn.qkv.bias \(1\)"),
        (lambda w: w.pop("skip_norms.1.weight"), r"missing: skip_norms.1.weight \(1\)"),
        (lambda w: w.update({"temp_embed": torch.zeros(FRAMES, WIDTH)}), "missing: temp_embed"),
        (lambda w: w.update({"text_embedding_projection.1.weight": torch.zeros(3)}), "unexpected: text_embedding"),
    ],
)
def test_weights_that_almost_fit(tmp_path, change, message):
    w, file = video_weights(True), Path(tmp_path) / "released.pt"
    change(w)
    with pytest.raises(ValueError, match=message):
        read_released(saved(file.parent, w))

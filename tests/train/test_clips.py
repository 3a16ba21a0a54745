"""Training on clips: frames of other clips ride behind, a Latte learns, and a run resumes bit for bit."""

import json

import pytest
import torch
from test_loop import equal, recipe

from skipdit.backbones.latte import Latte
from skipdit.data import ClipSet, ImageSet, to_model
from skipdit.diffusion import path_of
from skipdit.train import checkpoint, train
from skipdit.train.draws import draw

PATH = path_of("v_prediction", learn_sigma=False)


def clips(n: int = 10, frames: int = 3) -> ClipSet:
    """Every frame of every clip has a value of its own."""
    value = torch.arange(n * frames, dtype=torch.uint8).view(n, frames, 1, 1, 1)
    return ClipSet(value.expand(n, frames, 3, 8, 8).contiguous(), torch.arange(n) % 4, None, ("a", "b", "c", "d"))


def latte(**changes) -> Latte:
    torch.manual_seed(0)
    sizes = dict(input_size=8, patch_size=4, in_channels=3, hidden_size=32, depth=4, num_heads=2, num_frames=3)
    settings = dict(num_classes=4, learn_sigma=False, prediction="v_prediction", skips="join")
    return Latte(**{**sizes, **settings, **changes})


def test_frames_of_any_clips_ride_behind_with_their_own_classes():
    data = clips()
    draws = draw(data, PATH, recipe(batch_size=5, images=2), step=3)
    assert draws.x0.shape == draws.noise.shape == (5, 5, 3, 8, 8)
    values = ((draws.x0[:, :, 0, 0, 0] + 1) * 127.5).round().long()  # (B, F + I)
    clip = values // 3
    assert torch.equal(values[:, :3] % 3, torch.arange(3).expand(5, 3))
    assert torch.equal(clip[:, 0] % 4, draws.given["y"])
    assert torch.equal(clip[:, 3:] % 4, draws.given["y_image"])
    assert draws.given["use_image_num"] == 2
    again, other = (draw(data, PATH, recipe(batch_size=5, images=2), step=step) for step in (3, 4))
    assert torch.equal(again.x0, draws.x0)
    assert not torch.equal(other.given["y_image"], draws.given["y_image"])


def test_without_images_a_step_sees_whole_clips():
    draws = draw(clips(), PATH, recipe(batch_size=5), step=0)
    assert draws.given.keys() == {"y"}
    assert torch.equal(draws.x0[0], to_model(clips().x[int(((draws.x0[0, 0, 0, 0, 0] + 1) * 127.5).round()) // 3]))


def test_images_beside_images_are_refused():
    stills = ImageSet(clips().x[:, 0], clips().y, None, clips().class_names)
    with pytest.raises(ValueError, match="images=2 are frames beside clips, but the data are images"):
        draw(stills, PATH, recipe(images=2), 0)


@pytest.mark.parametrize("temporal", ["attention", "shift", "none"])
def test_a_run_on_clips_resumes_bit_for_bit(tmp_path, temporal):
    settings = recipe(steps=4, images=1, precision="no")
    train(latte(temporal=temporal), clips(), settings, tmp_path / "whole", save_every=2)
    asked = iter([False, False, True])
    train(latte(temporal=temporal), clips(), settings, tmp_path / "halves", save_every=2, stop=lambda: next(asked))
    assert train(latte(temporal=temporal), clips(), settings, tmp_path / "halves", resume=True) == 4
    states = []
    for run in ("whole", "halves"):
        made = latte(temporal=temporal)
        checkpoint.load_weights(made, tmp_path / run / "checkpoint-0000004" / "ema")
        states.append(made.state_dict())
    assert equal(*states)


def test_a_latte_learns_which_frame_follows(tmp_path):
    frames = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1, 1).expand(8, 3, 3, 8, 8)
    data = ClipSet(frames.contiguous(), torch.zeros(8, dtype=torch.long), None, ("a",))
    settings = recipe(steps=80, batch_size=8, lr=3e-3, warmup=5, decay=5, precision="no")
    train(latte(num_classes=1), data, settings, tmp_path, save_every=1000)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").open()]
    assert sum(losses[-10:]) < 0.4 * sum(losses[:10])

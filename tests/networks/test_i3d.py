"""I3D: a known clip, TensorFlow's padding, what FVD rests on.

bunny.webp: 16 frames of Big Buck Bunny, (c) 2008 Blender Foundation, www.bigbuckbunny.org, CC BY 3.0; reduced and cut.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skipdit.metrics.fvd import fvd
from skipdit.networks.i3d import same, watch

FEEDING_BIRDS = 123  # in the alphabetical list of Kinetics-400


def clip():
    """(1, 16, 3, 224, 224) uint8."""
    with Image.open(Path(__file__).with_name("bunny.webp")) as picture:
        frames = []
        for number in range(picture.n_frames):
            picture.seek(number)
            frames.append(np.array(picture.convert("RGB")))
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None]


def test_a_known_clip(network):
    """The bunny and the bird: feeding birds, 0.98. Uint8 and [-1, 1] are the same video."""
    network("i3d")
    seen = watch(clip())
    likely = seen.logits.softmax(1).max(1)
    assert likely.indices.item() == FEEDING_BIRDS
    assert likely.values.item() == pytest.approx(0.981, abs=0.005)
    assert seen.pool.shape == (1, 1024)


def test_order_and_noise_move_the_features(network):
    """Short and small, to be quick: shuffled frames are nearer than noise, and the set is at 0 from itself."""
    network("i3d")
    frames = clip()[0, :, :, ::4, ::4]
    shuffled = frames[torch.randperm(16, generator=torch.Generator().manual_seed(0))]
    noise = torch.randint(0, 256, frames.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    told = []
    seen = watch(torch.stack([frames[:9], shuffled[:9], noise[:9]]), batch_size=2, on_batch=told.append)
    assert told == [2, 3]
    near, far = ((seen.pool[0] - seen.pool[i]).norm() for i in (1, 2))
    assert 0 < near < far
    assert fvd(seen.logits, seen.logits) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("side", "window", "stride"), [(8, 3, 2), (9, 3, 2), (7, 7, 2), (5, 3, 1), (4, 2, 2)])
def test_padding_is_that_of_tensorflow(side, window, stride):
    """ceil(side / stride) places come out, and what is odd goes to the end."""
    padded = same(torch.ones(1, 1, side, side, side), (window,) * 3, (stride,) * 3)
    assert (padded.shape[-1] - window) // stride + 1 == -(-side // stride)
    line = padded[0, 0, padded.shape[2] // 2, padded.shape[3] // 2]
    before, after = int(line.argmax()), int(line.flip(0).argmax())
    assert after - before in (0, 1)
    assert before + after == max((-(-side // stride) - 1) * stride + window - side, 0)


def test_short_and_odd_videos_are_refused():
    with pytest.raises(ValueError, match="with T from 9 on"):
        watch(torch.zeros(1, 8, 3, 32, 32))
    with pytest.raises(ValueError, match="videos are"):
        watch(torch.zeros(1, 3, 16, 32, 32))

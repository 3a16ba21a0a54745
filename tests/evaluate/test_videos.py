"""Clips against clips: disturbed ones are far, lengths must agree."""

import pytest
import torch

from skipdit.evaluate.videos import scores_of_videos

generator = torch.Generator().manual_seed(0)


def clips(n: int, noise: float = 0) -> torch.Tensor:
    """Bright squares that move over the frames, (N, 4, 3, 32, 32) uint8."""
    x = torch.full((n, 4, 3, 32, 32), 200.0)
    for clip in range(n):
        for frame in range(4):
            at = 3 + 5 * frame
            x[clip, frame, clip % 3, at : at + 8, 4 + 3 * clip : 12 + 3 * clip] = 20
    x = x + noise * torch.randn(x.shape, generator=generator)
    return x.clamp(0, 255).to(torch.uint8)


def test_noise_is_seen_by_every_figure(network):
    network("i3d")
    network("inception")
    found = scores_of_videos(clips(3, noise=40), clips(3))
    assert found["fvd"] > 10
    assert found["kvd"] > 0
    assert found["frame_fid"] > 10
    assert found["flicker"] > 2 * found["flicker_real"] > 0


def test_other_lengths_and_sizes_are_refused():
    with pytest.raises(ValueError, match="compares equal lengths and sizes"):
        scores_of_videos(clips(3)[:, :3], clips(3))
    with pytest.raises(ValueError, match="compares equal lengths and sizes"):
        scores_of_videos(clips(3)[..., :16, :16], clips(3))

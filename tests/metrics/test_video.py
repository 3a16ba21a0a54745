"""Metrics of videos: stills, motion and noise told apart; flow of known motions."""

import pytest
import torch

from skipdit.metrics.flicker import flicker
from skipdit.metrics.fvd import fvd
from skipdit.metrics.kvd import kvd
from skipdit.metrics.warping_error import flow, warped, warping_error


def scene(size=128, seed=0):
    """A smooth random picture (3, size, size) in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 10, 10, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")[0].clamp(-1, 1)


def panned(dx, dy, frames=4, size=64):
    """A window that moves over the scene: (T, 3, H, W). What is in it moves the other way."""
    whole = scene()
    return torch.stack(
        [whole[:, 20 + dy * t : 20 + dy * t + size, 20 + dx * t : 20 + dx * t + size] for t in range(frames)]
    )


def test_flicker_by_hand():
    videos = torch.zeros(2, 3, 3, 4, 4)
    videos[1, 1] = 1  # black grey white grey ...: two changes of 127.5
    assert flicker(videos).tolist() == [0, 127.5]
    with pytest.raises(ValueError, match="at least two frames"):
        flicker(videos[:, :1])


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1, 0), (0, -2), (3, 2), (-5, 4)])
def test_flow_of_known_motion(dx, dy):
    video = panned(dx, dy, 2).mean(1)
    found = flow(video[:1], video[1:])[0, :, 12:-12, 12:-12]  # what leaves the picture can't be followed
    assert (found - torch.tensor([-dx, -dy]).view(2, 1, 1)).abs().median() < 0.1


def test_warping_brings_the_next_frame_back():
    video = panned(3, 2, 2)
    motion = torch.tensor([-3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 64, 64)
    torch.testing.assert_close(warped(video[1:], motion)[..., 3:, 4:], video[:1, :, 3:, 4:], atol=1e-5, rtol=0)


def test_motion_flickers_and_warps_well_but_noise_does_neither():
    still, moving = panned(0, 0)[None], panned(2, 1)[None]
    noise = 0.1 * torch.randn(moving.shape, generator=torch.Generator().manual_seed(0))
    assert flicker(still).item() == 0
    assert warping_error(still).item() < 1e-9
    assert flicker(moving) > 2
    assert warping_error(moving) < 0.02 * (moving[:, 1:] - moving[:, :-1]).square().mean()
    assert warping_error(moving + noise) > 20 * warping_error(moving)
    assert warping_error(moving + noise, reference=moving) > 0.015  # both frames' noise: 2 * 0.01
    with pytest.raises(ValueError, match="videos and their reference"):
        warping_error(moving, still[:, :2])


def test_fvd_and_kvd_of_logits():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 60, 40, generator=generator)
    assert fvd(a, a) == pytest.approx(0, abs=1e-6)
    assert fvd(a, b) < fvd(a, b + 1)
    assert abs(kvd(a, b).mean) < kvd(a, b + 1).mean

"""Clips as film strips and moving pictures: what is written is what was drawn."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from skipdit import films


def clips(n: int = 2, frames: int = 3) -> torch.Tensor:
    """Clip i at frame f is one grey: i / 4 + f / 8."""
    grey = torch.arange(n)[:, None] / 4 + torch.arange(frames) / 8  # (N, F)
    return grey[:, :, None, None, None].expand(n, frames, 3, 8, 8) * 2 - 1


def test_a_strip_has_a_row_for_each_clip_and_a_column_for_each_frame():
    page = np.asarray(films.strip(clips(), scale=2))
    assert page.shape == (2 * 16 + 3 * 6, 3 * 16 + 4 * 6, 3)
    at = [[page[6 + 22 * clip, 6 + 22 * frame, 0] for frame in range(3)] for clip in range(2)]
    assert at == [[0, 32, 64], [64, 96, 128]]


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".WEBP"])
def test_a_loop_holds_every_frame_and_its_time(tmp_path, suffix):
    moving = films.frames(clips(), columns=2)
    path = films.save(moving, tmp_path / f"clip{suffix}", fps=8)
    with Image.open(path) as file:
        assert file.n_frames == 3
        assert file.info["loop"] == 0
        read = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(file)]
    for one, other in zip(read, moving, strict=True):
        assert np.abs(one.astype(int) - np.asarray(other)).max() <= (4 if suffix == ".gif" else 0)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_stream_plays_back_near_to_what_was_drawn(tmp_path, suffix):
    av = pytest.importorskip("av")
    moving = films.frames(clips(1), scale=4)
    path = films.save(moving, tmp_path / f"clip{suffix}", fps=12)
    with av.open(str(path)) as file:
        assert file.streams.video[0].average_rate == 12
        read = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(read) == 3
    for one, other in zip(read, moving, strict=True):
        width, height = other.size
        assert np.abs(one[:height, :width].astype(float) - np.asarray(other)).mean() < 3


def test_another_suffix_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"\.webp, \.gif, \.mp4, \.webm"):
        films.save(films.frames(clips()), tmp_path / "clip.avi")
    assert not list(tmp_path.iterdir())

"""A set of clips: its folder on disk, its fixed split, its sizes and frame counts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from skipdit.data import ClipSet, open_clips, read_clips, write_clips

ROWS = [{"label": f"thing {i // 2}", "file": f"{i}.webp"} for i in range(80)]


def clips_of(count: int, frames: int = 4, size: int = 4) -> np.ndarray:
    """Frame f of clip i is all i + 100 f / frames."""
    x = np.zeros((count, frames, size, size, 3), np.uint8)
    x += np.arange(count, dtype=np.uint8)[:, None, None, None, None]
    return x + (100 * np.arange(frames) // frames).astype(np.uint8)[:, None, None, None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_clips(tmp_path, clips_of(len(ROWS)), ROWS)
    return tmp_path


def test_what_is_written_is_read(folder: Path) -> None:
    clips = read_clips(folder)
    assert isinstance(clips, ClipSet)
    assert clips.x.shape == (80, 4, 3, 4, 4)
    assert clips.frames == 4
    assert torch.equal(clips.x[7, :, 0, 0, 0], torch.tensor([7, 32, 57, 82], dtype=torch.uint8))
    assert [clips.class_names[y] for y in clips.y] == [row["label"] for row in ROWS]


def test_the_same_clips_are_held_out_for_ever(folder: Path) -> None:
    train, held = read_clips(folder).split()
    assert sorted(held.x[:, 0, 0, 0, 0].tolist()) == [9, 23, 76]
    assert len(train) == 77


def test_a_row_may_say_that_it_is_held_out(tmp_path: Path) -> None:
    write_clips(tmp_path, clips_of(3), [{**row, "held_out": i == 1} for i, row in enumerate(ROWS[:3])])
    train, held = read_clips(tmp_path).split()
    assert train.x[:, 0, 0, 0, 0].tolist() == [0, 2]
    assert held.x[:, 0, 0, 0, 0].tolist() == [1]


def test_thinning_is_even_and_sizes_are_averaged(folder: Path) -> None:
    clips = open_clips(folder, size=2, frames=2)
    assert clips.x.shape == (80, 2, 3, 2, 2)
    assert clips.x[7, :, 0, 0, 0].tolist() == [7, 57]
    with pytest.raises(ValueError, match="4 frames: frames=3 must divide"):
        open_clips(folder, size=2, frames=3)


def test_classes_are_chosen(folder: Path) -> None:
    clips = read_clips(folder).only(["thing 3", "thing 8"])
    assert clips.class_names == ("thing 3", "thing 8")
    assert clips.y.tolist() == [0, 0, 1, 1]
    assert len(clips.split()[0]) + len(clips.split()[1]) == 4


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="skipdit data animation"):
        open_clips(tmp_path / "none", 4, 4)
    with pytest.raises(ValueError, match="holds no clips"):
        open_clips(tmp_path, 4, 4)
    write_clips(tmp_path, clips_of(3), ROWS[:2])
    with pytest.raises(ValueError, match="but 2 rows"):
        read_clips(tmp_path)
    (tmp_path / "clips.npz").write_bytes(b"none")
    with pytest.raises(ValueError, match="is damaged"):
        read_clips(tmp_path)

"""Videos in class folders: cut into clips, squared, held out by file; broken ones are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skipdit import films
from skipdit.data import open_clips
from skipdit.data.videos import windows


def write(path: Path, frames: int, size: tuple[int, int] = (16, 16)) -> Path:
    """A video whose frame f is all 20 f."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return films.save([Image.new("RGB", size, (20 * f,) * 3) for f in range(frames)], path)


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".mp4", ".webm"])
def test_a_video_is_cut_into_clips_that_do_not_overlap(tmp_path: Path, suffix: str) -> None:
    if suffix in films.STREAM:
        pytest.importorskip("av")
    path = write(tmp_path / f"a{suffix}", 9)
    clips = np.stack(list(windows(path, 8, 3, interval=2)))
    assert clips.shape == (1, 3, 8, 8, 3)  # frames 0, 2, 4; of 6, 8 there are two
    assert np.abs(clips[0, :, 0, 0, 0].astype(int) - [0, 40, 80]).max() <= 4
    assert len(list(windows(path, 8, 2))) == 4


def test_class_folders_become_a_set(tmp_path: Path) -> None:
    for name, count in (("walk/a.webp", 6), ("walk/deep/b.webp", 3), ("run/c.webp", 2)):
        write(tmp_path / name, count)
    with pytest.warns(UserWarning, match=r"c\.webp left out: fewer than 3 frames"):
        clips = open_clips(tmp_path, 8, 3)
    assert clips.class_names == ("run", "walk")
    assert clips.y.tolist() == [1, 1, 1]
    assert clips.x.shape == (3, 3, 3, 8, 8)
    assert clips.x[:, 0, 0, 0, 0].tolist() == [0, 60, 0]
    train, held = clips.split()
    assert len(train) + len(held) == 3


def test_the_shorter_side_is_reduced_and_the_centre_kept(tmp_path: Path) -> None:
    page = Image.new("RGB", (32, 8), "red")
    page.paste((0, 0, 255), (12, 0, 20, 8))
    other = page.copy()
    other.paste((0, 255, 0), (0, 0, 4, 8))  # equal frames become one in a WebP
    path = films.save([page, other], tmp_path / "wide.webp")
    (clip,) = windows(path, 8, 2)
    assert (clip == [0, 0, 255]).all()


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no clips"):
        open_clips(tmp_path, 8, 3)
    write(tmp_path / "walk" / "a.webp", 2)
    with pytest.raises(ValueError, match=r"no video in .* has 3 frames"):
        open_clips(tmp_path, 8, 3)
    (tmp_path / "walk" / "b.webp").write_bytes(b"no video at all")
    with pytest.raises(ValueError, match=r"b\.webp is not a readable video .* remove or replace it"):
        open_clips(tmp_path, 8, 2)


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\x00\x00\x00\x18ftypmp42" + bytes(64)])
def test_a_broken_stream_is_named(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("av")
    path = tmp_path / "walk" / "a.mp4"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.mp4 is not a readable video"):
        open_clips(tmp_path, 8, 2)

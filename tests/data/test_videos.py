"""Videos in class folders: cut into clips, squared, held out by file; broken ones are named."""

import sys
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


def encode(path: Path, frames: int) -> Path:
    """The same through PyAV's MPEG-4, which every container takes."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        for f in range(frames):
            file.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (16, 16), (20 * f,) * 3))))
        file.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".avi"])
def test_other_containers_are_read(tmp_path: Path, suffix: str) -> None:
    encode(tmp_path / "walk" / f"a{suffix}", 6)
    clips = open_clips(tmp_path, 8, 3)
    assert clips.x.shape == (2, 3, 3, 8, 8)
    assert np.abs(clips.x[:, :, 0, 0, 0].numpy().astype(int) - [[0, 20, 40], [60, 80, 100]]).max() <= 6


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
    with pytest.raises(ValueError, match=r"no video in .* has 3 frames \(not .*a\.webp\)"):
        open_clips(tmp_path, 8, 3)
    for frames, interval in ((0, 1), (2, 0)):
        with pytest.raises(ValueError, match=f"frames={frames}, interval={interval}: take at least 1"):
            open_clips(tmp_path, 8, frames, interval)
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


def test_the_frames_between_are_counted_and_those_after_the_last_are_not(tmp_path: Path) -> None:
    write(tmp_path / "walk" / "a.webp", 5)
    write(tmp_path / "walk" / "b.webp", 4)
    write(tmp_path / "walk" / "c.webp", 3)
    with pytest.warns(UserWarning, match=r"b\.webp and 1 more left out: fewer than 5 frames"):
        clips = open_clips(tmp_path, 8, 3, interval=2)
    assert clips.x[:, :, 0, 0, 0].tolist() == [[0, 40, 80]]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_loop_that_is_cut_off_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "walk" / f"a{suffix}"
    path.parent.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    films.save([Image.fromarray(page) for page in noise], path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"a\{suffix} is not a readable video"):
        open_clips(tmp_path, 8, 4)


@pytest.mark.parametrize("after", [0, 24])
def test_a_stream_without_a_frame_is_broken_not_short(tmp_path: Path, after: int) -> None:
    path = encode(tmp_path / "walk" / "a.mkv", 3)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x1f\x43\xb6\x75") + after])  # up to, or into, the cluster of frames
    said = "it has no frame" if after else "End of file"
    with pytest.raises(ValueError, match=rf"a\.mkv is not a readable video \(.*{said}"):
        open_clips(tmp_path, 8, 2)


def test_an_error_of_ffmpeg_alone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")

    def refuse(*arguments: object, **options: object) -> None:
        raise av.error.DecoderNotFoundError(1, "no decoder")

    write(tmp_path / "walk" / "a.mp4", 2)
    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(ValueError, match=r"a\.mp4 is not a readable video .*no decoder"):
        open_clips(tmp_path, 8, 2)


def test_a_missing_pyav_is_said_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk" / "a.mp4").write_bytes(b"never opened")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'skipdit\[video\]'"):
        open_clips(tmp_path, 8, 2)

"""The animated set: built without a network, from tarballs made by hand."""

import io
import json
from pathlib import Path

import pytest
from packed import pack
from PIL import Image
from typer.testing import CliRunner

from skipdit.cli import app
from skipdit.data import animation, emoji, read_clips
from skipdit.data.archives import tarball

DOG, STAR, STILL = "1F436", "2B50", "1F680"
ENTRIES = [
    {"label": "dog face", "hexcode": DOG, "tags": ["pet"], "group": 3, "subgroup": 12},
    {"label": "star", "hexcode": STAR, "tags": [], "group": 5, "subgroup": 61},
    {"label": "rocket", "hexcode": STILL, "tags": [], "group": 5, "subgroup": 50},
]


def moving(frames: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """An animated WebP whose frame f is all 10 f."""
    pages = [Image.new("RGBA", size, (10 * f, 10 * f, 10 * f, 255)) for f in range(frames)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "WEBP", save_all=True, append_images=pages[1:], lossless=True, duration=40)
    return buffer.getvalue()


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Labels and two of the four packages; npm is nowhere."""
    monkeypatch.setenv("PATH", "")
    folder = tmp_path / "kept"
    pack(folder, emoji.LABELS, {"en/data.json": json.dumps(ENTRIES).encode()})
    first, second, *_ = animation.PACKAGES
    files = {"assets/2b50.webp": moving(20), "assets/1f680.webp": moving(4), "assets/1f3fb.webp": moving(20)}
    pack(folder, first, files)
    pack(folder, second, {"assets/1f436.webp": moving(17)})
    return folder


def test_loops_are_thinned_and_stills_and_skin_tones_are_left_out(tmp_path: Path, kept: Path) -> None:
    said: list[str] = []
    built = animation.build_animation(tmp_path / "set", 8, 4, kept, said.append)
    assert built.clips == 2
    assert [line.partition(":")[0] for line in built.missing] == list(animation.PACKAGES[2:])
    assert all("npm is not installed" in line for line in built.missing)
    clips = read_clips(tmp_path / "set")
    assert clips.x.shape == (2, 4, 3, 8, 8)
    assert [clips.class_names[y] for y in clips.y] == ["dog face", "star"]  # by file
    dog = [round(i * 16 / 4) for i in range(4)]
    star = [round(i * 19 / 4) for i in range(4)]
    assert clips.x[:, :, 0, 0, 0].tolist() == [[10 * f for f in dog], [10 * f for f in star]]
    rows = json.loads((tmp_path / "set" / "rows.json").read_text())
    assert rows[0] == {"label": "dog face", "group": 3, "subgroup": 12, "frames": 17, "file": "1f436.webp"}
    assert (tmp_path / "set" / "LICENSES" / "MIT-Fluent-Emoji.txt").exists()


def test_nothing_at_all_is_an_error_that_says_why(tmp_path: Path, kept: Path) -> None:
    for package in animation.PACKAGES[:2]:
        (kept / tarball(package)).unlink()
    with pytest.raises(RuntimeError, match="no animated emoji could be had") as refusal:
        animation.build_animation(tmp_path / "set", 8, 4, kept, lambda line: None)
    assert str(refusal.value).count("npm is not installed") == 4
    assert not (tmp_path / "set" / "clips.npz").exists()


def test_a_broken_picture_costs_its_package_by_name(tmp_path: Path, kept: Path) -> None:
    pack(kept, animation.PACKAGES[0], {"assets/2b50.webp": b"no picture"})
    built = animation.build_animation(tmp_path / "set", 8, 4, kept, lambda line: None)
    assert built.clips == 1
    assert [line.partition(":")[0] for line in built.missing] == [animation.PACKAGES[0], *animation.PACKAGES[2:]]


def test_the_command_builds_the_set_and_says_how_to_go_on(tmp_path: Path, kept: Path) -> None:
    words = ["data", "animation", tmp_path / "set", "--size", 8, "--frames", 4, "--downloads", kept]
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    assert result.exit_code == 0, (result.output, result.exception)
    assert "2 clips in" in result.output
    assert "skipdit train --data" in result.output
    assert len(read_clips(tmp_path / "set")) == 2

"""Class folders: what counts as a picture, how it is cut, and what is refused."""

from pathlib import Path

import pytest
from PIL import Image

from skipdit.data import open_images
from skipdit.data.folder import read_class_folders

WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


def save(path: Path, size: tuple[int, int] = (8, 8), color: int | tuple[int, ...] = RED, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def test_classes_and_sizes(tmp_path: Path) -> None:
    save(tmp_path / "dog" / "b.png", (20, 10))
    save(tmp_path / "dog" / "a.bmp", (5, 9), BLUE)
    save(tmp_path / "cat" / "deep" / "c.PNG", (8, 8))
    images = read_class_folders(tmp_path, 8)
    assert images.x.shape == (3, 3, 8, 8)
    assert images.class_names == ("cat", "dog")
    assert images.y.tolist() == [0, 1, 1]
    assert images.x[:, :, 4, 4].tolist() == [list(RED), list(BLUE), list(RED)]  # by name inside a class
    assert images.style is None
    assert len(images.split()[1]) == 0


def test_the_centre_is_kept(tmp_path: Path) -> None:
    wide = Image.new("RGB", (24, 8), BLUE)
    wide.paste(RED, (8, 0, 16, 8))
    (tmp_path / "a").mkdir()
    wide.save(tmp_path / "a" / "wide.png")
    images = read_class_folders(tmp_path, 8)
    assert images.x[0, 0].eq(255).all()
    assert images.x[0, 2].eq(0).all()


def test_transparent_becomes_white(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", color=(0, 0, 0, 0), mode="RGBA")
    save(tmp_path / "a" / "2.png", color=128, mode="L")
    images = read_class_folders(tmp_path, 4)
    assert images.x[0].eq(255).all()
    assert images.x[1].eq(128).all()


def test_a_soft_edge_keeps_its_colour(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (0, 0, 8, 16))
    (tmp_path / "a").mkdir()
    picture.save(tmp_path / "a" / "half.png")
    assert read_class_folders(tmp_path, 4).x[0, 0].eq(255).all()  # red on white: no dark fringe


def test_other_files_and_empty_folders_are_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "dog" / "a.png")
    save(tmp_path / ".hidden" / "b.png")
    save(tmp_path / "loose.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dog" / "folder.png").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("woof")
    images = read_class_folders(tmp_path, 8)
    assert images.class_names == ("dog",)
    assert len(images) == 1


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no pictures in class folders"):
        open_images(tmp_path, 8)
    save(tmp_path / "loose.png")
    with pytest.raises(ValueError, match="holds no pictures in class folders"):
        open_images(tmp_path, 8)


def test_a_corrupt_picture_is_named(tmp_path: Path) -> None:
    save(tmp_path / "dog" / "good.png", (64, 64))
    bad = tmp_path / "dog" / "bad.png"
    for content in (b"", b"not a picture", (tmp_path / "dog" / "good.png").read_bytes()[:60]):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.png is not a readable picture .*remove or replace it"):
            open_images(tmp_path, 8)

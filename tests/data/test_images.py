"""A set of images: its folder on disk, its fixed split, its sizes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from skipdit.data import ImageSet, is_held_out, open_images, read_images, to_model, write_images

STYLES = ("noto", "twemoji", "fluent3d", "fxemoji")
ROWS = [{"label": f"thing {i}", "style": style} for i in range(40) for style in STYLES]
HELD = [  # what the split of ROWS must hold out, for ever
    ("thing 2", "fluent3d"),
    ("thing 5", "twemoji"),
    ("thing 6", "noto"),
    ("thing 6", "fluent3d"),
    ("thing 9", "noto"),
    ("thing 15", "noto"),
    ("thing 15", "fluent3d"),
    ("thing 21", "fluent3d"),
    ("thing 33", "fluent3d"),
    ("thing 38", "noto"),
]


def images_of(rows: list[dict[str, str]], size: int = 4) -> np.ndarray:
    """Picture i is all i."""
    return np.stack([np.full((size, size, 3), i, np.uint8) for i in range(len(rows))])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path, images_of(ROWS), ROWS)
    return tmp_path


def names(images: ImageSet) -> list[tuple[str, str]]:
    assert images.style is not None
    return [(images.class_names[y], images.style_names[s]) for y, s in zip(images.y, images.style, strict=True)]


def test_held_out_is_a_fixed_hash() -> None:
    assert is_held_out("grinning face", "noto")
    assert is_held_out("flag: Japan", "noto")
    assert is_held_out("star", "noto")
    assert not is_held_out("grinning face", "twemoji")
    assert not is_held_out("dog face", "noto")


def test_about_one_in_twenty_is_held_out() -> None:
    share = sum(is_held_out(f"label {i}", "style") for i in range(20000)) / 20000
    assert share == pytest.approx(0.05, abs=0.005)


def test_the_split_is_fixed(folder: Path) -> None:
    training, held_out = read_images(folder).split()
    assert (len(training), len(held_out)) == (150, 10)
    assert names(held_out) == HELD
    assert not set(names(training)) & set(names(held_out))
    assert held_out.x[:, 0, 0, 0].tolist() == [ROWS.index({"label": a, "style": b}) for a, b in HELD]


def test_the_split_does_not_depend_on_the_order(tmp_path: Path) -> None:
    write_images(tmp_path, images_of(ROWS), ROWS[::-1])
    assert sorted(names(read_images(tmp_path).split()[1])) == sorted(HELD)


def test_without_styles_all_is_for_training() -> None:
    images = ImageSet(torch.zeros(3, 3, 2, 2, dtype=torch.uint8), torch.arange(3), None, ("a", "b", "c"))
    training, held_out = images.split()
    assert (len(training), len(held_out)) == (3, 0)


def test_written_and_read(folder: Path) -> None:
    images = read_images(folder)
    assert images.x.shape == (160, 3, 4, 4)
    assert images.x.dtype == torch.uint8
    assert images.style_names == tuple(sorted(STYLES))
    assert names(images) == [(row["label"], row["style"]) for row in ROWS]
    assert images.x[:, 0, 0, 0].tolist() == list(range(160))
    assert sorted(path.name for path in folder.iterdir()) == ["images.npz", "rows.json"]  # nothing left aside


def test_a_set_is_written_over_an_older_one(folder: Path) -> None:
    write_images(folder, images_of(ROWS[:2]), ROWS[:2])
    assert len(read_images(folder)) == 2


def test_labels_keep_their_letters(tmp_path: Path) -> None:
    write_images(tmp_path, images_of(ROWS[:1]), [{"label": "piñata", "style": "noto"}])
    assert "piñata" in (tmp_path / "rows.json").read_text(encoding="utf-8")
    assert read_images(tmp_path).class_names == ("piñata",)


def test_a_damaged_set_is_one_clear_error(folder: Path) -> None:
    whole = (folder / "images.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not an archive", whole[:99] + b"\xff" * 9 + whole[108:]):
        (folder / "images.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged .* build the data again"):
            read_images(folder)


@pytest.mark.parametrize("rows", ["[{", "{}", '["label"]', '[{"label": "dog"}]', "null"])
def test_damaged_rows_are_the_same_error(folder: Path, rows: str) -> None:
    (folder / "rows.json").write_text(rows)
    with pytest.raises(ValueError, match="build the data again"):
        read_images(folder)


def test_missing_rows_are_the_same_error(folder: Path) -> None:
    (folder / "rows.json").unlink()
    with pytest.raises(ValueError, match="build the data again"):
        read_images(folder)


def test_images_and_rows_must_agree(folder: Path) -> None:
    (folder / "rows.json").write_text(json.dumps(ROWS[:-1]))
    with pytest.raises(ValueError, match=r"\(160, 4, 4, 3\) but 159 rows: build the data again"):
        read_images(folder)


def test_images_must_be_bytes(folder: Path) -> None:
    np.savez_compressed(folder / "images.npz", x=images_of(ROWS).astype(np.float32))
    with pytest.raises(ValueError, match="float32 images"):
        read_images(folder)


def test_a_smaller_size_averages_whole_cells() -> None:
    x = torch.tensor([[0, 4, 255, 255], [8, 12, 255, 255], [1, 1, 0, 0], [1, 1, 0, 0]], dtype=torch.uint8)
    images = ImageSet(x.expand(1, 3, 4, 4), torch.zeros(1), None, ("a",))
    assert images.resized(2).x[0, 0].tolist() == [[6, 255], [1, 0]]
    assert images.resized(4) is images
    with pytest.raises(ValueError, match="size=3 must divide"):
        images.resized(3)


def test_to_model_spans_minus_one_to_one() -> None:
    assert to_model(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]


def test_open_images_finds_a_built_set(folder: Path) -> None:
    assert open_images(folder, 2).x.shape == (160, 3, 2, 2)
    with pytest.raises(FileNotFoundError, match="skipdit data emoji"):
        open_images(folder / "absent", 2)


def test_only_keeps_the_named_classes_and_numbers_them_anew():
    x = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 2, 2)
    whole = ImageSet(x, torch.tensor([0, 1, 2, 1]), torch.tensor([0, 0, 1, 1]), ("ant", "bee", "cat"), ("s", "t"))
    kept = whole.only(["cat", "bee"])
    assert kept.class_names == ("bee", "cat")
    assert kept.y.tolist() == [0, 1, 0]
    assert kept.x[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert kept.style.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="no class 'eel'"):
        whole.only(["eel"])

"""Folders: what lies there is read, in batches of one size; pairs are found, and sets that don't pair are refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from skipdit.data.images import write_images
from skipdit.evaluate.images import open_images, pairs


@pytest.fixture
def pictures(tmp_path):
    """Three pictures of two sizes; the last is half transparent."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    Image.new("RGB", (12, 10), (255, 0, 0)).save(folder / "a.png")
    Image.new("RGB", (12, 10), (0, 255, 0)).save(folder / "b.png")
    Image.new("RGBA", (16, 16), (0, 0, 255, 0)).save(folder / "below" / "c.png")
    return folder


def test_pictures_come_in_batches_of_one_size(pictures):
    found = open_images(pictures)
    assert found.count == 3
    assert found.names == ["a", "b", "below/c"]
    assert [tuple(batch.shape) for batch in found.batches(8)] == [(2, 3, 10, 12), (1, 3, 16, 16)]
    assert [len(batch) for batch in found.batches(1)] == [1, 1, 1]
    assert (list(found.batches(8))[1] == 255).all()  # transparent is white
    assert [tuple(batch.shape) for batch in open_images(pictures, 8).batches(8)] == [(3, 3, 8, 8)]
    assert [len(batch) for batch in found.first(2).batches(8)] == [2]
    with pytest.raises(ValueError, match="holds 3 images, not 4"):
        found.first(4)


def test_a_data_set_is_reduced_to_what_a_model_knows(tmp_path):
    rows = [{"label": label, "style": "ink"} for label in ("ape", "bee", "cat", "bee")]
    write_images(
        tmp_path, np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1).repeat(8, 1).repeat(8, 2).repeat(3, 3), rows
    )
    found = open_images(tmp_path)
    model = SimpleNamespace(config=SimpleNamespace(class_names=("bee", "dog")))
    known = found.known_to(model)
    assert (found.count, known.count, known.labelled.class_names) == (4, 2, ("bee",))
    assert torch.cat(list(known.batches(8)))[:, 0, 0, 0].tolist() == [1, 3]
    model.config.class_names = ("dog",)
    with pytest.raises(ValueError, match="knows no label"):
        found.known_to(model)


def test_shards_are_read_and_damage_is_told(tmp_path):
    for number, count in enumerate((3, 2)):
        np.savez_compressed(tmp_path / f"images-{number:05}.npz", x=np.full((count, 3, 8, 8), number, np.uint8))
    found = open_images(tmp_path)
    assert found.count == 5
    assert [len(batch) for batch in found.batches(2)] == [2, 1, 2]
    (tmp_path / "images-00001.npz").write_bytes(b"PK nonsense")
    with pytest.raises(ValueError, match=r"images-00001.npz is damaged .* delete it"):
        open_images(tmp_path)


def test_pairs_by_name_and_what_does_not_pair(pictures, tmp_path):
    found = open_images(pictures)
    assert [len(a) for a, b in pairs(found, found, 2) if torch.equal(a, b)] == [2, 1]
    other = tmp_path / "other"
    other.mkdir()
    for name in ("a", "b", "d"):
        Image.new("RGB", (12, 10)).save(other / f"{name}.png")
    with pytest.raises(ValueError, match="don't pair up: 3 and 3 images; below/c is in one alone"):
        next(pairs(found, open_images(other), 2))
    (other / "d.png").rename(other / "below")
    (other / "below").unlink()
    (other / "below").mkdir()
    Image.new("RGB", (12, 10)).save(other / "below" / "c.png")
    with pytest.raises(ValueError, match="pairs are of one size"):
        next(pairs(found, open_images(other), 2))


def test_images_drawn_of_other_labels_do_not_pair(tmp_path):
    for folder, labels in (("full", ("ape", "bee")), ("cached", ("ape", "cat")), ("again", ("ape", "bee"))):
        (tmp_path / folder).mkdir()
        x = np.zeros((2, 3, 8, 8), np.uint8)
        np.savez_compressed(tmp_path / folder / "images-00000.npz", x=x, label=np.array(labels))
    full, cached, again = (open_images(tmp_path / folder) for folder in ("full", "cached", "again"))
    assert len(list(pairs(again, full, 2))) == 1
    with pytest.raises(ValueError, match="image 1 is of 'cat' in one and of 'bee' in the other: draw both against"):
        next(pairs(cached, full, 2))


def test_what_holds_nothing_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no images"):
        open_images(tmp_path)

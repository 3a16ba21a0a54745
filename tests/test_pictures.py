"""Pictures: grids, sheets, maps of differences, and files that are never seen half-written."""

import numpy as np
import pytest
import torch
from PIL import Image

from skipdit import pictures


def noise(n=3, side=4):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_to_pil_keeps_every_pixel():
    x = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    made = pictures.to_pil(x.float() / 127.5 - 1)
    assert np.array_equal(np.stack([np.asarray(p) for p in made]), x.permute(0, 2, 3, 1).numpy())


def test_to_pil_clips_and_takes_grey():
    made = pictures.to_pil(torch.tensor([-3.0, 0.0, 3.0]).view(3, 1, 1, 1))
    assert [p.getpixel((0, 0)) for p in made] == [(0, 0, 0), (128, 128, 128), (255, 255, 255)]


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (3, 8, 8)])
def test_latents_and_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="decode latents first"):
        pictures.to_pil(torch.zeros(shape))


def test_grid_puts_pictures_in_rows():
    x = noise(5)
    page = pictures.grid(x, columns=2, scale=1, gap=1)
    assert page.size == (2 * 5 + 1, 3 * 5 + 1)
    fifth = page.crop((1, 11, 5, 15))
    assert np.array_equal(np.asarray(fifth), np.asarray(pictures.to_pil(x[4:])[0]))
    assert pictures.grid(x, scale=3, gap=0).size == (36, 24)


def test_difference_is_white_for_none_and_darker_for_more():
    same, little, much = torch.zeros(3, 1, 1, 1), torch.zeros(3, 3, 1, 1), torch.zeros(3, 3, 1, 1)
    little[:], much[:] = 0.1, 0.9
    levels = [sum(pictures.difference(x.expand(3, 3, 1, 1), torch.zeros(3, 3, 1, 1), 4)[0].getpixel((0, 0)))
              for x in (same, little, much)]  # fmt: skip
    assert levels[0] == 3 * 255
    assert levels == sorted(levels, reverse=True)
    assert levels[2] < 10
    with pytest.raises(ValueError, match="must be equal"):
        pictures.difference(noise(2), noise(3), 4)


def test_the_map_darkens_steadily():
    shades = pictures._coloured(np.linspace(0, 1, 65)[None])[0] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(shades) < 0).all()


def test_a_sheet_holds_every_row_and_its_map():
    x = noise(3, 32)
    rows = [pictures.Row("uncached", x, ["50 steps"]), pictures.Row("cached", x * 0.5, ["25 steps", "3 dB"], x)]
    names = ["red apple", "a name much too long for one line or even for two lines of this sheet", "c"]
    bare = pictures.contact_sheet(rows[:1], names, "title", "subtitle", "footer")
    full = pictures.contact_sheet(rows, names, "title", "subtitle", "footer")
    assert full.width >= bare.width > 3 * 96
    assert full.height > bare.height + 2 * 96
    assert (np.asarray(full)[:, -10:] == 255).all()  # nothing runs off the page


def test_text_is_wrapped_to_its_width():
    assert pictures.wrap("one two three four", 50, 12, most=2)[-1].endswith("...")
    assert pictures.wrap("one", 500, 12) == ["one"]
    assert pictures.wrap("", 500, 12) == []


def test_save_leaves_one_whole_file(tmp_path, monkeypatch):
    path = tmp_path / "new" / "a.png"
    pictures.save(pictures.grid(noise()), path)
    before = path.read_bytes()

    def full_disk(self, where, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        pictures.save(pictures.grid(noise(4)), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]

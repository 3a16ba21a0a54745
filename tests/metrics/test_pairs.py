"""Metrics of pairs: known values, torchmetrics' numbers, laws, refusals."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from skipdit.metrics.dists import _coefficients, _maps, dists
from skipdit.metrics.lpips import lpips
from skipdit.metrics.psnr import psnr
from skipdit.metrics.ssim import ssim

PAIRED = {"psnr": psnr, "ssim": ssim, "lpips": lpips, "dists": dists}


def noisy(size=64, noise=0.2, count=3):
    """(images with structure, the same with noise) in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(-1, 1)
    return images, (images + noise * torch.randn(images.shape, generator=generator)).clamp(-1, 1)


@pytest.mark.parametrize("size", [11, 32, 64])
def test_ssim_is_that_of_torchmetrics(size):
    functional = pytest.importorskip("torchmetrics.functional.image")
    a, b = noisy(size)
    want = functional.structural_similarity_index_measure(
        (b.double() + 1) / 2, (a.double() + 1) / 2, data_range=1.0, reduction="none"
    )
    torch.testing.assert_close(ssim(b, a), want.float(), atol=1e-6, rtol=0)


def test_psnr_is_that_of_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.image")
    a, b = noisy()
    want = [functional.peak_signal_noise_ratio(x, y, data_range=2.0) for x, y in zip(b, a, strict=True)]
    torch.testing.assert_close(psnr(b, a), torch.stack(want), atol=1e-3, rtol=0)


def test_ssim_of_a_flat_pair_by_hand():
    """Without variance only the luminance is left: (2ab + C1) / (a^2 + b^2 + C1)."""
    a, b = torch.full((1, 3, 16, 16), 0.5), torch.full((1, 3, 16, 16), -0.5)  # 0.75 and 0.25 in [0, 1]
    assert ssim(a, b).item() == pytest.approx((2 * 0.1875 + 1e-4) / (0.5625 + 0.0625 + 1e-4), abs=1e-6)


@pytest.mark.parametrize(("net", "known"), [("vgg", 0.3494), ("alex", 0.1445)])
def test_lpips_of_a_fixed_pair(net, known, network):
    """VGG: what others got from torchmetrics for this very pair. AlexNet: ours, so that it stays."""
    network("vgg16" if net == "vgg" else "alexnet")
    random = np.random.RandomState(123)
    a, b = (torch.from_numpy(random.rand(10, 3, 100, 100).astype(np.float32)) * 2 - 1 for _ in "ab")
    assert lpips(a, b, net).mean().item() == pytest.approx(known, abs=1e-4)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_has_the_heads_that_torchmetrics_ships(net, network):
    from skipdit.networks.alexnet import alexnet
    from skipdit.networks.vgg16 import vgg16

    network("vgg16" if net == "vgg" else "alexnet")
    spec = importlib.util.find_spec("torchmetrics")
    if spec is None:
        pytest.skip("torchmetrics is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "functional/image/lpips_models"
    theirs = torch.load(folder / f"{net}.pth", weights_only=True, map_location="cpu")
    ours = (vgg16 if net == "vgg" else alexnet)().heads
    for place, head in enumerate(ours):
        assert torch.equal(head.data, theirs[f"lin{place}.model.1.weight"].flatten())


@pytest.mark.parametrize("net", ["alex", "vgg"])
@pytest.mark.parametrize("size", [32, 64])
def test_lpips_grows_with_noise_and_is_each_pairs_own(net, size, network):
    network("vgg16" if net == "vgg" else "alexnet")
    images, little = noisy(size, 0.1)
    _, much = noisy(size, 0.5)
    assert (lpips(images, images, net) == 0).all()
    assert (lpips(images, little, net) < lpips(images, much, net)).all()
    alone = torch.cat([lpips(a[None], b[None], net) for a, b in zip(images, much, strict=True)])
    torch.testing.assert_close(lpips(images, much, net, batch_size=2), alone, atol=1e-5, rtol=1e-4)


def test_lpips_takes_grey_and_gives_gradients(network):
    network("alexnet")
    images, other = noisy()
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(
        lpips(grey, other[:, :1]), lpips(grey.expand(-1, 3, -1, -1), other[:, :1].expand(-1, 3, -1, -1))
    )
    other.requires_grad_(True)
    lpips(other, images).sum().backward()
    assert other.grad.abs().sum() > 0


@pytest.mark.parametrize("name", PAIRED)
def test_equal_images_and_unequal_shapes(name, network):
    network("alexnet"), network("vgg16"), network("dists")
    images, other = noisy(32)
    best = {"psnr": torch.inf, "ssim": 1, "lpips": 0, "dists": 0}[name]
    torch.testing.assert_close(PAIRED[name](images, images), torch.full((3,), float(best)), atol=1e-5, rtol=0)
    assert PAIRED[name](images, other).shape == (3,)
    with pytest.raises(ValueError, match="the shapes must be equal"):
        PAIRED[name](images, other[:1])


def test_dists_forgives_texture_drawn_anew_where_lpips_does_not(network):
    """Two draws of one noise are nearer than a blur of it, by DISTS; the formula once more, channel by channel."""
    network("vgg16"), network("dists")
    generator = torch.Generator().manual_seed(0)
    one, other = 0.3 * torch.randn(2, 1, 3, 64, 64, generator=generator)
    blurred = torch.nn.functional.avg_pool2d(one, 3, 1, 1)
    assert dists(other, one) < dists(blurred, one)
    assert psnr(other, one) < psnr(blurred, one)

    alpha, beta = _coefficients("cpu")
    total, place = 0.0, 0
    for maps in _maps(torch.cat([one, blurred])):
        for x, y in zip(maps[0].double(), maps[1].double(), strict=True):
            mx, my = x.mean(), y.mean()
            cov = ((x - mx) * (y - my)).mean()
            spread = ((x - mx) ** 2).mean() + ((y - my) ** 2).mean()
            total += alpha[place] * (2 * mx * my + 1e-6) / (mx**2 + my**2 + 1e-6)
            total += beta[place] * (2 * cov + 1e-6) / (spread + 1e-6)
            place += 1
    assert place == 1475
    assert dists(blurred, one).item() == pytest.approx(1 - total.item(), abs=1e-4)


def test_what_is_too_small_is_refused():
    with pytest.raises(ValueError, match="at least 16 pixels a side"):
        dists(torch.zeros(1, 3, 15, 32), torch.zeros(1, 3, 15, 32))
    with pytest.raises(ValueError, match="at least 11 x 11"):
        ssim(torch.zeros(1, 3, 10, 32), torch.zeros(1, 3, 10, 32))
    with pytest.raises(ValueError, match="30 x 32 is too small for 'alex', which needs 31 a side"):
        lpips(torch.zeros(1, 3, 30, 32), torch.zeros(1, 3, 30, 32))
    with pytest.raises(ValueError, match="decode latents first"):
        lpips(torch.zeros(1, 4, 32, 32), torch.zeros(1, 4, 32, 32))
    with pytest.raises(ValueError, match="no network 'squeeze'"):
        lpips(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32), "squeeze")


def test_the_smallest_sides_work(network):
    network("alexnet"), network("vgg16")
    assert lpips(torch.zeros(1, 3, 31, 31), torch.ones(1, 3, 31, 31)).isfinite().all()
    assert lpips(torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16), "vgg").isfinite().all()

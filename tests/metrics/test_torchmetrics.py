"""LPIPS and DISTS whole, as torchmetrics computes them: its code, with our convolutions in place of torchvision's."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from skipdit.metrics.dists import dists
from skipdit.metrics.lpips import lpips
from skipdit.networks.alexnet import alexnet
from skipdit.networks.vgg16 import vgg16


def pair(size):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 8, 8, generator=generator) * 2 - 1
    images = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(-1, 1)
    return images, (images + 0.3 * torch.randn(images.shape, generator=generator)).clamp(-1, 1)


def alexnet_features():
    """In torchvision's order: conv, ReLU, and a pool after the first two and the last."""
    layers = []
    for place, conv in enumerate(alexnet().convs):
        layers += [conv, nn.ReLU(), *([nn.MaxPool2d(3, 2)] if place in (0, 1, 4) else [])]
    return nn.Sequential(*layers)


def vgg16_features():
    layers = []
    for stage in vgg16().stages:
        layers += [part for conv in stage for part in (conv, nn.ReLU())] + [nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize(("net", "size"), [("alex", 64), ("alex", 32), ("vgg", 64), ("vgg", 32)])
def test_lpips_is_that_of_torchmetrics(net, size, network, monkeypatch):
    network("alexnet" if net == "alex" else "vgg16")
    module = pytest.importorskip("torchmetrics.functional.image.lpips")
    features = {"alexnet": alexnet_features, "vgg16": vgg16_features}
    monkeypatch.setattr(module, "_get_tv_model_features", lambda name, pretrained: features[name]())
    a, b = pair(size)
    theirs = module._LPIPS(pretrained=False, net=net)
    folder = module.__file__.rpartition("/")[0]
    theirs.load_state_dict(
        torch.load(f"{folder}/lpips_models/{net}.pth", weights_only=True, map_location="cpu"), strict=False
    )
    with torch.no_grad():
        want = theirs.eval()(a, b).flatten()
    torch.testing.assert_close(lpips(a, b, net), want, atol=1e-4, rtol=0)


def test_dists_is_that_of_torchmetrics(network, monkeypatch):
    network("vgg16"), network("dists")
    module = pytest.importorskip("torchmetrics.functional.image.dists")
    monkeypatch.setattr(module, "_TORCHVISION_AVAILABLE", True)
    monkeypatch.setattr(module, "VGG16_Weights", SimpleNamespace(DEFAULT=None), raising=False)
    monkeypatch.setattr(module, "vgg16", lambda weights: SimpleNamespace(features=vgg16_features()), raising=False)
    a, b = pair(64)
    with torch.no_grad():
        want = module.deep_image_structure_and_texture_similarity((a + 1) / 2, (b + 1) / 2, reduction="none")
    torch.testing.assert_close(dists(a, b), want.flatten(), atol=1e-4, rtol=0)

"""LPIPS, the distance of each image to its reference as a network sees it: 0 for equal images."""

from typing import Any

import torch
from torch import Tensor

from skipdit.networks.alexnet import alexnet
from skipdit.networks.vgg16 import vgg16

NETWORKS = {"alex": (alexnet, 31), "vgg": (vgg16, 16)}  # the smallest side that every layer has room for
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's mean and deviation, for [-1, 1]


def lpips(candidate: Tensor, reference: Tensor, net: str = "alex", batch_size: int = 64) -> Tensor:
    """(N, 1 or 3, H, W) in [-1, 1] -> (N,): LPIPS v0.1 on "alex" or "vgg" (arXiv 1801.03924, eq. 1).

        d = sum_l mean_hw w_l . (f_l(a) / |f_l(a)| - f_l(b) / |f_l(b)|)^2

    Images go in as they are, never resized. The weights w were fitted to people's judgements of 64 x 64 patches; at
    32 x 32 "alex" sees maps of 7, 3, 1, 1 and 1 pixels a side and "vgg" maps of 32, 16, 8, 4 and 2. Such values are
    fine for comparing runs at one size, and mean something else than at another: enlarge both images yourself, and say
    so, where you want to compare across sizes.

    The literature reports "alex"; "vgg" is the one to train with (gradients flow into the images). Raises ValueError
    for unequal shapes, too small images or latents, and OSError where the weights have not been fetched.
    """
    if net not in NETWORKS:
        raise ValueError(f"lpips: no network {net!r}: there are {', '.join(NETWORKS)}")
    load, smallest = NETWORKS[net]
    _check(candidate, reference, net, smallest)
    network = load(str(candidate.device))
    pairs = zip(candidate.split(batch_size), reference.split(batch_size), strict=True)
    return torch.cat([_distance(network, a, b) for a, b in pairs])


def _distance(network: Any, a: Tensor, b: Tensor) -> Tensor:
    """The distances (B,) of a batch of pairs."""
    shift, scale = (a.new_tensor(v, dtype=torch.float32).view(3, 1, 1) for v in (SHIFT, SCALE))
    maps = network((torch.cat([a, b]).float().expand(-1, 3, -1, -1) - shift) / scale)  # [(2B, C_l, H_l, W_l)]
    total = maps[0].new_zeros(len(a))
    for features, head in zip(maps, network.heads, strict=True):
        one, other = _unit(features).chunk(2)  # each (B, C, H, W)
        total = total + torch.einsum("c,bchw->b", head, (one - other).square()) / features[0, 0].numel()
    return total


def _unit(features: Tensor) -> Tensor:
    """Each place's feature over its length, (B, C, H, W); 1e-10 keeps a dead place at 0, as in the original."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _check(candidate: Tensor, reference: Tensor, net: str, smallest: int) -> None:
    shape = tuple(candidate.shape)
    if candidate.shape != reference.shape:
        raise ValueError(f"lpips: {shape} against {tuple(reference.shape)}: the shapes must be equal")
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise ValueError(f"lpips: images are (N, 1 or 3, H, W), not {shape}: decode latents first")
    if min(shape[-2:]) < smallest:
        raise ValueError(f"lpips: {shape[-2]} x {shape[-1]} is too small for {net!r}, which needs {smallest} a side")

"""DISTS, structure and texture as VGG16 sees them: 0 for equal images, forgiving of textures drawn anew."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from skipdit.networks.fetch import weights
from skipdit.networks.vgg16 import vgg16

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, for [0, 1]
C = 1e-6
SMALLEST = 16


def dists(candidate: Tensor, reference: Tensor, batch_size: int = 32) -> Tensor:
    """(N, 1 or 3, H, W) in [-1, 1] -> (N,) (arXiv 2004.07728, eq. 5 to 7).

        1 - sum_ij (a_ij l(x_ij, y_ij) + b_ij s(x_ij, y_ij))
        l = (2 m_x m_y + c) / (m_x^2 + m_y^2 + c),   s = (2 c_xy + c) / (v_x + v_y + c)

    over the channels j of the image and of the stages i, whose pools are l2. Images go in as they are; the original
    reduces them to 256 pixels first, so its values are for about that size. Raises ValueError for unequal shapes, too
    small images or latents, and OSError where the weights have not been fetched.
    """
    shape = tuple(candidate.shape)
    if candidate.shape != reference.shape:
        raise ValueError(f"dists: {shape} against {tuple(reference.shape)}: the shapes must be equal")
    if len(shape) != 4 or shape[1] not in (1, 3) or min(shape[-2:]) < SMALLEST:
        raise ValueError(f"dists: images are (N, 1 or 3, H, W) of at least {SMALLEST} pixels a side, not {shape}")
    pairs = zip(candidate.split(batch_size), reference.split(batch_size), strict=True)
    return torch.cat([_distance(a, b) for a, b in pairs])


def _distance(a: Tensor, b: Tensor) -> Tensor:
    alpha, beta = _coefficients(str(a.device))
    structure, texture = [], []
    for maps in _maps(torch.cat([a, b])):
        x, y = maps.chunk(2)  # each (B, C, H, W)
        mean_x, mean_y = x.mean((2, 3)), y.mean((2, 3))  # (B, C)
        variances = x.var((2, 3), correction=0) + y.var((2, 3), correction=0)
        covariance = (x * y).mean((2, 3)) - mean_x * mean_y
        texture.append((2 * mean_x * mean_y + C) / (mean_x**2 + mean_y**2 + C))
        structure.append((2 * covariance + C) / (variances + C))
    return 1 - torch.cat(texture, 1) @ alpha - torch.cat(structure, 1) @ beta  # (B,)


def _maps(images: Tensor) -> list[Tensor]:
    """The image in [0, 1], then the five stages."""
    x = (images.float().expand(-1, 3, -1, -1) + 1) / 2
    mean, deviation = (x.new_tensor(v).view(3, 1, 1) for v in (MEAN, DEVIATION))
    return [x, *vgg16(str(x.device))((x - mean) / deviation, pool=_l2_pool)]


def _l2_pool(x: Tensor) -> Tensor:
    """The root of the squares' mean under a 3 x 3 Hann window, every second place: (N, C, H, W) -> (N, C, H/2, W/2)."""
    hann = x.new_tensor([0.25, 0.5, 0.25])
    window = (hann[:, None] * hann).expand(x.shape[1], 1, 3, 3)
    return (functional.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


@cache
def _coefficients(device: str) -> tuple[Tensor, Tensor]:
    """(alpha, beta), each (1475,), 1 in sum together."""
    said = torch.load(weights("dists"), map_location="cpu", weights_only=True)
    alpha, beta = said["alpha"].flatten(), said["beta"].flatten()
    whole = alpha.sum() + beta.sum()
    return (alpha / whole).to(device), (beta / whole).to(device)

"""Structural similarity of each image to its reference: 1 for equal images."""

import torch
from torch import Tensor
from torch.nn import functional

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2  # (K L)^2 with a data range of L = 1


def ssim(candidate: Tensor, reference: Tensor) -> Tensor:
    """(N, C, H, W) in [-1, 1] -> (N,); the mean over all channels and places.

        SSIM = (2 m_a m_b + C1) (2 s_ab + C2) / ((m_a^2 + m_b^2 + C1) (s_a^2 + s_b^2 + C2))

    with means, variances and covariance under an 11 x 11 Gaussian of sigma 1.5 (Wang et al. 2004, IEEE TIP 13(4),
    eq. 13). SSIM depends on where black is, so images are moved to [0, 1] first: the value is that of the saved
    pictures. Each channel counts alike, and the borders are mirrored, so that they count, too: as in torchmetrics
    (scikit-image leaves out 5 pixels at each border, which at 32 x 32 is half of the picture).

    Raises ValueError for unequal shapes and for images smaller than the window.
    """
    if candidate.shape != reference.shape:
        raise ValueError(f"ssim: {tuple(candidate.shape)} against {tuple(reference.shape)}: the shapes must be equal")
    if candidate.dim() != 4 or min(candidate.shape[-2:]) < WINDOW:
        raise ValueError(f"ssim: images (N, C, H, W) of at least {WINDOW} x {WINDOW}, not {tuple(candidate.shape)}")
    a, b = (candidate.double() + 1) / 2, (reference.double() + 1) / 2  # float32 loses the variance of flat places
    a, b = a.flatten(0, 1)[:, None], b.flatten(0, 1)[:, None]  # (NC, 1, H, W)
    mean_a, mean_b, aa, bb, ab = (_blurred(x) for x in (a, b, a * a, b * b, a * b))  # each (NC, 1, H, W)
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    covariance = ab - mean_a * mean_b
    variances = (aa - mean_a**2) + (bb - mean_b**2)
    similarity = luminance * (2 * covariance + C2) / (variances + C2)
    return similarity.unflatten(0, candidate.shape[:2]).flatten(1).mean(1).float()  # (N,)


def _blurred(x: Tensor) -> Tensor:
    """Weighted means under the window, (N, 1, H, W) -> (N, 1, H, W)."""
    at = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weight = torch.exp(-(at**2) / (2 * SIGMA**2))
    weight = weight / weight.sum()  # (11,)
    x = functional.pad(x, (WINDOW // 2,) * 4, mode="reflect")  # (N, 1, H + 10, W + 10)
    return functional.conv2d(functional.conv2d(x, weight.view(1, 1, -1, 1)), weight.view(1, 1, 1, -1))

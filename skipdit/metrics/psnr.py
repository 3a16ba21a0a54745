"""Peak signal-to-noise ratio of each image to its reference, in dB."""

import torch
from torch import Tensor


def psnr(candidate: Tensor, reference: Tensor) -> Tensor:
    """(N, C, H, W) in [-1, 1] -> (N,) dB; equal images give infinity. Raises ValueError for unequal shapes."""
    if candidate.shape != reference.shape:
        raise ValueError(f"psnr: {tuple(candidate.shape)} against {tuple(reference.shape)}: the shapes must be equal")
    error = (candidate.double() - reference.double()).square().flatten(1).mean(1)  # (N,)
    return (10 * torch.log10(4 / error)).float()

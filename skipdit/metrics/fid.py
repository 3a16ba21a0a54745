"""FID, the Fréchet distance of two sets of features, each taken for a Gaussian: 0 for equal sets."""

from typing import NamedTuple

import torch
from torch import Tensor


class Gaussian(NamedTuple):
    """Mean (D,) and covariance C (D, D) of `total` features, in float64, and an L (D, R) with L L^T = C if known."""

    mean: Tensor
    cov: Tensor
    total: int
    root: Tensor | None = None


def gaussian(features: Tensor, rows: int = 4096) -> Gaussian:
    """Fit one to features (N, D), `rows` of them at a time. Raises ValueError for fewer than two."""
    count = len(features)
    if features.dim() != 2 or count < 2:
        raise ValueError(f"fid: features are (N, D) with at least two rows, not {tuple(features.shape)}")
    mean = features.double().mean(0)
    if count <= len(mean):  # the centred features are a root themselves: nothing to decompose
        root = (features.double() - mean).T / (count - 1) ** 0.5  # (D, N)
        return Gaussian(mean, root @ root.T, count, root)
    cov = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=features.device)
    for part in features.split(rows):
        centred = part.double() - mean
        cov += centred.T @ centred
    return Gaussian(mean, cov / (count - 1), count)


def fid(candidate: Tensor | Gaussian, reference: Tensor | Gaussian) -> float:
    """The distance of two sets of features (N, D), or of Gaussians fitted to them (arXiv 1706.08500, eq. 6).

        |m_1 - m_2|^2 + tr C_1 + tr C_2 - 2 tr (C_1 C_2)^(1/2)

    With C = L L^T the last trace is the sum of the singular values of L_1^T L_2: no root of a product that is singular
    as soon as there are fewer features than dimensions, so that a set is at 0 from itself.

    FID falls with the number of features: compare values of equal counts alone. 50,000 is usual, 10,000 the least.
    """
    one, other = (x if isinstance(x, Gaussian) else gaussian(x) for x in (candidate, reference))
    if one.mean.shape != other.mean.shape:
        raise ValueError(f"fid: features of {len(one.mean)} against {len(other.mean)} dimensions")
    shift = (one.mean - other.mean).square().sum()
    spread = torch.linalg.svdvals(_root(one).T @ _root(other)).sum()
    return (shift + one.cov.trace() + other.cov.trace() - 2 * spread).item()


def _root(of: Gaussian) -> Tensor:
    """L (D, R) with L L^T = C, directions without variance left out."""
    if of.root is not None:
        return of.root
    values, vectors = torch.linalg.eigh(of.cov)  # ascending
    kept = values > values[-1] * 1e-15
    return vectors[:, kept] * values[kept].sqrt()

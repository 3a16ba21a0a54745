"""KID, the squared maximum mean discrepancy of two sets of features: 0 on average for samples of one distribution."""

from typing import NamedTuple

import torch
from torch import Tensor


class Kid(NamedTuple):
    """Mean and standard deviation over the subsets."""

    mean: float
    std: float


def kid(candidate: Tensor, reference: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0) -> Kid:
    """The mean over random subsets of features (N, D) and (M, D) (arXiv 1801.01401, section 4).

        k(x, y) = (x . y / D + 1)^3
        MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    Unbiased: the expected value doesn't depend on the number of features, and it may come out negative. Sets that are
    smaller than `size` are taken whole, as many of each.
    """
    if min(len(candidate), len(reference)) < 2 or candidate.shape[1:] != reference.shape[1:]:
        raise ValueError(
            f"kid: features are (N, D) and (M, D) with at least two rows, not {tuple(candidate.shape)} and "
            f"{tuple(reference.shape)}"
        )
    size = min(size, len(candidate), len(reference))
    generator = torch.Generator().manual_seed(seed)
    whole = size == len(candidate) == len(reference)
    values = []
    for _ in range(1 if whole else subsets):
        x, y = (f[torch.randperm(len(f), generator=generator)[:size]].double() for f in (candidate, reference))
        values.append(mmd(x, y))
    found = torch.tensor(values, dtype=torch.float64)
    return Kid(found.mean().item(), found.std(correction=0).item())


def mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate for x and y (S, D)."""
    size, width = x.shape
    xx, yy, xy = ((a @ b.T / width + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))  # (S, S)
    within = xx.sum() - xx.trace() + yy.sum() - yy.trace()
    return (within / (size * (size - 1)) - 2 * xy.mean()).item()

"""Density and coverage: precision and recall that one outlier can't spoil; both near 1 where the sets are alike."""

from typing import NamedTuple

import torch
from torch import Tensor

from skipdit.metrics.neighbours import inside, radii


class DensityCoverage(NamedTuple):
    density: float  # fidelity; more than 1 where candidates crowd where references are dense
    coverage: float  # variety, up to 1


def density_coverage(candidate: Tensor, reference: Tensor, k: int = 5) -> DensityCoverage:
    """Of features (M, D) against (N, D) (arXiv 2002.09797, eq. 5 and 6).

        density  = 1 / (k M) sum_j sum_i [y_j in B_i],   coverage = 1 / N sum_i [some y_j in B_i]

    with B_i the open ball around reference i that reaches to its k-th neighbour. Raises ValueError for k or fewer.
    """
    radius = radii(reference, k)
    hits, covered = 0, torch.zeros(len(reference), dtype=torch.bool, device=reference.device)
    for within in inside(candidate, reference, radius, strict=True):  # (rows, N)
        hits += int(within.sum())
        covered |= within.any(0)
    return DensityCoverage(hits / (k * len(candidate)), covered.double().mean().item())

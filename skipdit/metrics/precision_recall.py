"""Precision and recall: the share of generated images that look real, and of real ones that could be generated."""

from typing import NamedTuple

import torch
from torch import Tensor

from skipdit.metrics.neighbours import inside, radii


class PrecisionRecall(NamedTuple):
    precision: float  # fidelity
    recall: float  # variety


def precision_recall(candidate: Tensor, reference: Tensor, k: int = 3) -> PrecisionRecall:
    """Of features (N, D) and (M, D), taken for samples of manifolds (arXiv 1904.06991, eq. 1 and 2).

    A feature lies on a set's manifold where it is no further from one of the set than that one's k-th neighbour.
    Precision is the share of candidates on the reference's manifold, recall that of references on the candidate's. Both
    depend on the counts: compare values of equal counts alone. Raises ValueError for k or fewer features.
    """
    return PrecisionRecall(_covered(candidate, reference, k), _covered(reference, candidate, k))


def _covered(those: Tensor, manifold: Tensor, k: int) -> float:
    parts = [within.any(1) for within in inside(those, manifold, radii(manifold, k), strict=False)]
    return torch.cat(parts).double().mean().item()

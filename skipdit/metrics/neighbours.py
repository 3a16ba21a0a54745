"""Balls around features: how far each one's k-th neighbour is, and which others lie within."""

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS = 1000  # features at a time: distances to all others are (ROWS, N)


def radii(features: Tensor, k: int) -> Tensor:
    """The distance (N,) of each feature (N, D) to its k-th nearest other one. Raises ValueError for too few."""
    if len(features) <= k:
        raise ValueError(f"{len(features)} features are too few for their {k} nearest neighbours: give {k + 1} or more")
    return torch.cat([distances.kthvalue(k + 1).values for distances in _rows(features, features)])  # itself is first


def inside(candidate: Tensor, reference: Tensor, radius: Tensor, strict: bool) -> Iterator[Tensor]:
    """(rows of the candidate, N): does it lie within the ball of each reference feature, its border left out or not?"""
    for distances in _rows(candidate, reference):
        yield distances < radius if strict else distances <= radius


def _rows(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """Distances of some rows of a to all of b, in float64: one is at 1e-7 of its length, or less, from itself."""
    b = b.double()
    for part in a.split(ROWS):
        yield torch.cdist(part.double(), b)

"""Concept accuracy: the share of drawn images that look most like real pictures of what they were to show."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

ROWS = 512  # images at a time: their similarities are (ROWS, M)


class ConceptAccuracy(NamedTuple):
    top1: float  # the nearest real picture has the right label
    top5: float  # the right label is among the five nearest labels


def concept_accuracy(candidate: Tensor, labels: Tensor, reference: Tensor, reference_labels: Tensor) -> ConceptAccuracy:
    """Of features (N, D) with labels (N,) to those of all real pictures, (M, D) with labels (M,).

    A label is as near as its nearest picture, by the cosine of the angle between features. It is GAN-test (arXiv
    1807.09499: the accuracy on drawn images of a classifier of real ones) with a nearest-neighbour classifier, as
    nobody has trained one of the data's own concepts.

    `skipdit eval` takes the features of EfficientNet-Lite0 (`networks.efficientnet.features`): of the networks at hand
    it finds a concept most often in a picture of another drawing style (docs/metrics.md has the figures), and it isn't
    the network of FID, which would be a second look through the same eyes. A model that copies its training pictures
    has 1: it says what is shown, not that it is new. Raises ValueError for shapes that don't fit, and where no
    reference picture has the label of a candidate.
    """
    _check(candidate, labels, reference, reference_labels)
    names, of = reference_labels.unique(return_inverse=True)  # (C,), (M,)
    place = torch.searchsorted(names, labels)  # (N,)
    return _accuracy(_ranks(candidate, place, reference, of, len(names)))


def among_themselves(reference: Tensor, labels: Tensor) -> ConceptAccuracy:
    """The same of real pictures (M, D), each against all others: what a set of one label's unlike pictures allows.

    Pictures that alone have their label are left out. Raises ValueError where no label has two.
    """
    names, of, counts = labels.unique(return_inverse=True, return_counts=True)
    several = (counts[of] > 1).nonzero().flatten()
    if not len(several):
        raise ValueError("concept_accuracy: no label has two pictures, so none can be compared with another")
    return _accuracy(_ranks(reference[several], of[several], reference, of, len(names), itself=several))


def _ranks(x: Tensor, place: Tensor, reference: Tensor, of: Tensor, count: int, itself: Tensor | None = None) -> Tensor:
    """How many labels are nearer than the right one, (N,); `itself` is each row's own place in the reference."""
    reference = functional.normalize(reference.float(), dim=1)
    ranks = []
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        near = functional.normalize(x[rows].float(), dim=1) @ reference.T  # (rows, M)
        if itself is not None:
            near[torch.arange(len(near)), itself[rows]] = -torch.inf
        nearest = near.new_full((len(near), count), -torch.inf)
        nearest = nearest.scatter_reduce(1, of.expand(len(near), -1), near, "amax")  # (rows, C)
        right = nearest.gather(1, place[rows, None])  # (rows, 1)
        ranks.append((nearest > right).sum(1))
    return torch.cat(ranks)


def _accuracy(ranks: Tensor) -> ConceptAccuracy:
    return ConceptAccuracy(*((ranks < k).double().mean().item() for k in (1, 5)))


def _check(candidate: Tensor, labels: Tensor, reference: Tensor, reference_labels: Tensor) -> None:
    if candidate.dim() != 2 or not len(candidate) or not len(reference) or candidate.shape[1:] != reference.shape[1:]:
        raise ValueError(
            f"concept_accuracy: features are (N, D) and (M, D), not {tuple(candidate.shape)} and "
            f"{tuple(reference.shape)}"
        )
    if labels.shape != candidate.shape[:1] or reference_labels.shape != reference.shape[:1]:
        raise ValueError(
            f"concept_accuracy: {len(candidate)} and {len(reference)} features have a label each, not "
            f"{tuple(labels.shape)} and {tuple(reference_labels.shape)}"
        )
    strange = labels[~torch.isin(labels, reference_labels)]
    if len(strange):
        raise ValueError(
            f"concept_accuracy: no reference picture has label {strange[0].item()} ({len(strange)} of "
            f"{len(labels)} candidates): give a reference that holds all labels that are drawn"
        )

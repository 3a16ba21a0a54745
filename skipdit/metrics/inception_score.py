"""Inception Score of a set by a classifier that is sure of each image and sees all classes; 1 is the least."""

from typing import NamedTuple

import torch
from torch import Tensor


class Score(NamedTuple):
    """Mean and standard deviation over the splits."""

    mean: float
    std: float


def inception_score(logits: Tensor, splits: int = 10) -> Score:
    """exp(mean_x KL(p(y | x) || p(y))) of logits (N, classes), in `splits` parts (arXiv 1606.03498, section 4).

    Name the classifier beside the value: `networks.efficientnet.classify` has EfficientNet-Lite0, as the head of the
    2015 Inception isn't to be had. Values of different classifiers don't compare. Raises ValueError for too few images.
    """
    if logits.dim() != 2 or splits < 1 or len(logits) < 2 * splits:
        raise ValueError(f"inception_score: {splits} splits need logits (N, classes) of {2 * splits} images or more, "
                         f"not {tuple(logits.shape)}")  # fmt: skip
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(0))  # a set may be sorted by class
    logs = logits[order].double().log_softmax(1)
    values = []
    for part in logs.tensor_split(splits):  # (N / splits, classes)
        marginal = part.exp().mean(0).log()  # (classes,)
        values.append((part.exp() * (part - marginal)).nansum(1).mean().exp())
    found = torch.stack(values)
    return Score(found.mean().item(), found.std(correction=0).item())

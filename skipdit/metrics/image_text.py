"""Image-text score: how near images are to their captions, and how often the own caption is the nearest of all."""

from typing import NamedTuple

import torch
from torch import Tensor

ROWS = 1000  # images at a time: their cosines are (ROWS, M)


class ImageTextScore(NamedTuple):
    cosine: float  # mean of an image and its own caption, from -1 to 1
    recall1: float  # share of images whose own caption is the nearest
    recall5: float  # ... is among the five nearest
    recall10: float


def image_text(images: Tensor, texts: Tensor, labels: Tensor) -> ImageTextScore:
    """Of unit vectors: images (N, D), a caption for each label (M, D), and which of these is each image's, (N,).

    Recall depends on M: chance is k / M. The vectors are those of `networks.image_text`, which is ours and small: its
    values compare with one another and with no CLIP score. Say beside them what real pictures reach. Raises ValueError
    for shapes that don't fit and for a label without a caption.
    """
    if images.dim() != 2 or texts.dim() != 2 or images.shape[1] != texts.shape[1] or labels.shape != images.shape[:1]:
        raise ValueError(
            f"image_text: vectors are (N, D) and (M, D), labels (N,), not {tuple(images.shape)}, {tuple(texts.shape)} "
            f"and {tuple(labels.shape)}"
        )
    if not len(images) or labels.min() < 0 or labels.max() >= len(texts):
        raise ValueError(f"image_text: each of one image or more has a label from 0 to {len(texts) - 1}, its caption's")
    cosines, ranks = [], []
    for part, own in zip(images.split(ROWS), labels.split(ROWS), strict=True):
        near = part @ texts.T  # (rows, M)
        right = near.gather(1, own[:, None])  # (rows, 1)
        cosines.append(right.flatten())
        ranks.append((near > right).sum(1))
    rank = torch.cat(ranks)
    recalls = ((rank < k).double().mean().item() for k in (1, 5, 10))
    return ImageTextScore(torch.cat(cosines).double().mean().item(), *recalls)

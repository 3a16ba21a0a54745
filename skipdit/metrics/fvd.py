"""FVD, the Fréchet distance of two sets of videos in the logits of I3D: 0 for equal sets."""

from torch import Tensor

from skipdit.metrics.fid import Gaussian, fid


def fvd(candidate: Tensor | Gaussian, reference: Tensor | Gaussian) -> float:
    """Of logits (N, 400) of `networks.i3d.watch` (arXiv 1812.01717, eq. 2); 2048 videos of 16 frames are usual.

    It depends on the number of videos, their length and their frame rate: compare equals alone.
    """
    return fid(candidate, reference)

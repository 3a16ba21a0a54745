"""KVD, the kernel distance of two sets of videos in the logits of I3D: 0 on average for samples of one distribution."""

from torch import Tensor

from skipdit.metrics.kid import Kid, kid


def kvd(candidate: Tensor, reference: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0) -> Kid:
    """Of logits (N, 400) of `networks.i3d.watch` (arXiv 1812.01717, section 3): unbiased, so for few videos, too."""
    return kid(candidate, reference, subsets, size, seed)

"""sFID: the Fréchet distance on spatial features, which notices where in the picture things are."""

from torch import Tensor

from skipdit.metrics.fid import Gaussian, fid


def sfid(candidate: Tensor | Gaussian, reference: Tensor | Gaussian) -> float:
    """FID of the spatial features (N, 2023) of `networks.inception.look` (arXiv 2103.03841, section 3).

    The first 7 channels of mixed_6/conv at 17 x 17, as in OpenAI's evaluator of guided diffusion.
    """
    return fid(candidate, reference)

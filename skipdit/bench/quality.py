"""How near pictures are to the uncached ones: every figure that these pictures allow, picture by picture."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skipdit.evaluate.scores import OF_PAIRS
from skipdit.metrics.ssim import WINDOW
from skipdit.networks.fetch import Unavailable, weights
from skipdit.plan.study import MOST

LPIPS_SIDE = 31  # the smallest that AlexNet takes


def judges(model: Any) -> tuple[str, ...]:
    """The figures for a model's pictures: PSNR; SSIM and LPIPS where they are large enough and no latents, LPIPS where
    its weights have been fetched."""
    side, pixels = model.config.input_size, model.config.in_channels == 3
    names = ["psnr"]
    if pixels and side >= WINDOW:
        names.append("ssim")
    if pixels and side >= LPIPS_SIDE and has_lpips():
        names.append("lpips")
    return tuple(names)


def has_lpips() -> bool:
    """Whether LPIPS' weights are there."""
    try:
        return bool(weights("alexnet"))
    except Unavailable:
        return False


def judged(names: Sequence[str], images: Tensor, reference: Tensor) -> dict[str, list[float]]:
    """{figure: a value a picture}, of videos (N, F, C, H, W) the mean over their frames; PSNR is cut off at 100 dB, as
    JSON knows no infinity."""
    if images.ndim == 5:
        frames = judged(names, images.flatten(0, 1), reference.flatten(0, 1))
        return {name: torch.tensor(v).view(len(images), -1).mean(1).tolist() for name, v in frames.items()}
    found = {name: OF_PAIRS[name](images, reference).tolist() for name in names}
    return {**found, "psnr": [min(MOST, value) for value in found["psnr"]]}

"""VGG16's convolutions and its LPIPS head: features at the end of each of five stages."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from skipdit.networks.fetch import weights
from skipdit.networks.unpickle import kernel, read_arrays

STAGES = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))  # channels
Pool = Callable[[Tensor], Tensor]


def max_pool(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H // 2, W // 2)."""
    return nn.functional.max_pool2d(x, 2)


class VGG16(nn.Module):
    """The thirteen convolutions of torchvision's VGG16 (arXiv 1409.1556), and a weight for each channel of a stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(wide)) for wide in STAGES
        )
        self.heads = nn.ParameterList([nn.Parameter(torch.empty(wide[-1])) for wide in STAGES])

    def forward(self, x: Tensor, pool: Pool = max_pool) -> list[Tensor]:
        """Normalised images (N, 3, H, W), from 16 x 16 on -> the five maps (N, C_l, H_l, W_l)."""
        maps: list[Tensor] = []
        for stage in self.stages:
            x = pool(x) if maps else x
            for conv in stage:  # type: ignore[attr-defined]
                x = nn.functional.relu(conv(x))
            maps.append(x)
        return maps


@cache
def vgg16(device: str = "cpu") -> VGG16:
    """The network with its weights, frozen. Raises Unavailable where they aren't there."""
    arrays = read_arrays(weights("vgg16"))
    net = VGG16()
    state = {f"heads.{i}": arrays[f"NetLinLayer_{i}/Conv_0/kernel"].flatten() for i in range(len(STAGES))}
    names = [f"stages.{stage}.{place}" for stage, wide in enumerate(STAGES) for place in range(len(wide) - 1)]
    for number, name in enumerate(names):
        state[f"{name}.weight"] = kernel(arrays[f"VGG16_0/Conv_{number}/kernel"])
        state[f"{name}.bias"] = arrays[f"VGG16_0/Conv_{number}/bias"]
    net.load_state_dict(state)
    return net.requires_grad_(False).eval().to(device)

"""AlexNet's convolutions and its LPIPS head: features after each ReLU."""

from functools import cache

import torch
from torch import Tensor, nn

from skipdit.networks.fetch import weights
from skipdit.networks.unpickle import kernel, read_arrays


class AlexNet(nn.Module):
    """The five convolutions of torchvision's AlexNet (arXiv 1404.5997), and a weight for each channel they put out."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(3, 64, 11, stride=4, padding=2),
                nn.Conv2d(64, 192, 5, padding=2),
                nn.Conv2d(192, 384, 3, padding=1),
                nn.Conv2d(384, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
            ]
        )
        self.heads = nn.ParameterList([nn.Parameter(torch.empty(c)) for c in (64, 192, 384, 256, 256)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W), from 31 x 31 on -> the five maps (N, C_l, H_l, W_l)."""
        maps = []
        for place, conv in enumerate(self.convs):
            x = nn.functional.relu(conv(x))
            maps.append(x)
            if place < 2:
                x = nn.functional.max_pool2d(x, 3, stride=2)
        return maps


@cache
def alexnet(device: str = "cpu") -> AlexNet:
    """The network with its weights, frozen. Raises Unavailable where they aren't there."""
    arrays = read_arrays(weights("alexnet"))
    net = AlexNet()
    state = {}
    for place in range(len(net.convs)):
        state[f"convs.{place}.weight"] = kernel(arrays[f"AlexNet_0/Conv_{place}/kernel"])
        state[f"convs.{place}.bias"] = arrays[f"AlexNet_0/Conv_{place}/bias"]
        state[f"heads.{place}"] = arrays[f"NetLinLayer_{place}/Conv_0/kernel"].flatten()
    net.load_state_dict(state)
    return net.requires_grad_(False).eval().to(device)

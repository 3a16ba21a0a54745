"""EfficientNet-Lite0, a small ImageNet classifier: 1,280 pooled features, and logits of 1,000 classes."""

import re
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipdit.networks.fetch import weights
from skipdit.networks.resize import eight_bits

SIDE = 224
AT_ONCE = 4  # images on a CPU, whose cache holds no more: half the time of 64
# (blocks, window, stride of the first, expansion, channels out), from efficientnet_lite_builder.py
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class Conv(nn.Conv2d):
    """Without bias, padded as in TensorFlow: what is odd goes to the end."""

    def __init__(self, i: int, o: int, window: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(i, o, window, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for side in (x.shape[-1], x.shape[-2]):
            total = max((-(-side // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - side, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(x, pads))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """Widen, look around channel by channel, narrow; add the input where its shape is kept (arXiv 1801.04381)."""

    def __init__(self, i: int, o: int, window: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = i * expansion
        self.kept = stride == 1 and i == o
        if expansion > 1:
            self.expand_conv, self.bn0 = Conv(i, wide, 1), _norm(wide)
        self.widens = expansion > 1
        self.depthwise_conv, self.bn1 = Conv(wide, wide, window, stride, groups=wide), _norm(wide)
        self.project_conv, self.bn2 = Conv(wide, o, 1), _norm(o)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self.bn0(self.expand_conv(x))) if self.widens else x
        y = self.bn2(self.project_conv(functional.relu6(self.bn1(self.depthwise_conv(y)))))
        return x + y if self.kept else y


class EfficientNet(nn.Module):
    """Images x (N, 3, 224, 224), (uint8 - 127) / 128, -> features (N, 1280) (arXiv 1905.11946, without gates).

    `fc` makes logits (N, 1000) of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn0 = Conv(3, 32, 3, 2), _norm(32)
        self.blocks, i = nn.ModuleList(), 32
        for count, window, stride, expansion, o in STAGES:
            for number in range(count):
                self.blocks.append(Block(i, o, window, 1 if number else stride, expansion))
                i = o
        self.conv_head, self.bn1, self.fc = Conv(i, 1280, 1), _norm(1280), nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self.bn0(self.conv_stem(x)))  # (N, 32, 112, 112)
        for block in self.blocks:
            x = block(x)
        return functional.relu6(self.bn1(self.conv_head(x))).mean((2, 3))  # (N, 1280, 7, 7) -> (N, 1280)


@cache
def efficientnet(device: str = "cpu") -> EfficientNet:
    """The network with its weights, frozen. Raises Unavailable where they aren't there."""
    state = torch.load(weights("efficientnet"), map_location="cpu", weights_only=True)
    net = EfficientNet()
    net.load_state_dict({re.sub(r"(^|\.)_", r"\1", name): tensor for name, tensor in state.items()})
    return net.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def classify(images: Tensor, batch_size: int = 64, on_batch: Callable[[int], None] = lambda done: None) -> Tensor:
    """Images (N, 1 or 3, H, W), uint8 or in [-1, 1], of any size -> logits (N, 1000) on the CPU."""
    return logits(features(images, batch_size, on_batch))


@torch.no_grad()
def logits(found: Tensor) -> Tensor:
    """Features (N, 1280) -> logits (N, 1000)."""
    return efficientnet(str(found.device)).fc(found)


@torch.no_grad()
def features(images: Tensor, batch_size: int = 64, on_batch: Callable[[int], None] = lambda done: None) -> Tensor:
    """Images (N, 1 or 3, H, W), uint8 or in [-1, 1], of any size -> pooled features (N, 1280) on the CPU."""
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"efficientnet: images are (N, 1 or 3, H, W), not {tuple(images.shape)}: decode latents first")
    net = efficientnet(str(images.device))
    parts: list[Tensor] = []
    for batch in images.split(batch_size):
        x = (eight_bits(batch) - 127) / 128
        x = functional.interpolate(x, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        small = x.contiguous(memory_format=torch.channels_last).split(AT_ONCE if x.device.type == "cpu" else batch_size)
        parts.append(torch.cat([net(few) for few in small]).cpu())
        on_batch(sum(map(len, parts)))
    return torch.cat(parts)

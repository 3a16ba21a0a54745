"""Inception-v3 as it was in 2015, the network behind FID: 2048 pooled features, and a spatial map for sFID.

Not torchvision's: other weights, pooling that leaves the border out, and a max pool in the last block. Names are those
of the TensorFlow graph, classify_image_graph_def.pb of 2015-12-05.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipdit.networks.fetch import weights
from skipdit.networks.resize import eight_bits, resized
from skipdit.networks.unpickle import read_script

SIDE = 299
Pool = Callable[[Tensor], Tensor]
Conv = tuple[int, int | tuple[int, int]] | tuple[int, int, int]  # channels out, window, stride


class Seen(NamedTuple):
    """What the network sees in N images."""

    pool: Tensor  # (N, 2048)
    spatial: Tensor  # (N, 2023), 7 channels of 17 x 17: the first of mixed_6/conv, as in OpenAI's evaluator


class Unit(nn.Module):
    """A convolution, batch norm without a scale, and ReLU; padded to keep the size unless it strides."""

    def __init__(self, i: int, o: int, window: int | tuple[int, int], stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        high, wide = (window, window) if isinstance(window, int) else window
        self.stride, self.padding = stride, (high // 2, wide // 2) if padded and stride == 1 else (0, 0)
        self.weight = nn.Parameter(torch.empty(o, i, high, wide))
        self.beta, self.mean, self.var = (nn.Parameter(torch.empty(o)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.conv2d(x, self.weight, stride=self.stride, padding=self.padding)
        return functional.relu(functional.batch_norm(x, self.mean, self.var, None, self.beta, eps=1e-3))


class Tower(nn.Sequential):
    """Units one after the other, named conv, conv_1, ...; after a 3 x 3 mean where it starts with a pool."""

    def __init__(self, i: int, *convs: Conv, pooled: bool = False) -> None:
        super().__init__()
        if pooled:
            self.add_module("pool", nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False))
        for place, (o, *rest) in enumerate(convs):
            self.add_module("conv" + (f"_{place}" if place else ""), Unit(i, o, *rest))
            i = o


class Mixed(nn.Module):
    """Towers beside each other; what `pooled` adds is a strided max pool of the input."""

    def __init__(self, *towers: tuple[str, nn.Module], pooled: bool = False) -> None:
        super().__init__()
        for name, tower in towers:
            self.add_module(name, tower)
        self.names, self.pooled = [name for name, _ in towers], pooled

    def forward(self, x: Tensor) -> Tensor:
        parts = [getattr(self, name)(x) for name in self.names]
        return torch.cat([*parts, functional.max_pool2d(x, 3, stride=2)] if self.pooled else parts, 1)


class Forked(nn.Module):
    """The two last blocks, whose towers end in two windows beside each other: (N, i, 8, 8) -> (N, 2048, 8, 8)."""

    def __init__(self, i: int, pool: Pool) -> None:
        super().__init__()
        self.pool = pool
        self.conv = Unit(i, 320, 1)
        self.tower_conv = Unit(i, 384, 1)
        self.tower_mixed_conv, self.tower_mixed_conv_1 = Unit(384, 384, (1, 3)), Unit(384, 384, (3, 1))
        self.tower_1_conv, self.tower_1_conv_1 = Unit(i, 448, 1), Unit(448, 384, 3)
        self.tower_1_mixed_conv, self.tower_1_mixed_conv_1 = Unit(384, 384, (1, 3)), Unit(384, 384, (3, 1))
        self.tower_2_conv = Unit(i, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.tower_conv(x), self.tower_1_conv_1(self.tower_1_conv(x))
        forks = [self.tower_mixed_conv(a), self.tower_mixed_conv_1(a)]
        forks += [self.tower_1_mixed_conv(b), self.tower_1_mixed_conv_1(b)]
        return torch.cat([self.conv(x), *forks, self.tower_2_conv(self.pool(x))], 1)


def _early(i: int, o: int) -> Mixed:
    """Blocks on 35 x 35."""
    return Mixed(
        ("conv", Unit(i, 64, 1)),
        ("tower", Tower(i, (48, 1), (64, 5))),
        ("tower_1", Tower(i, (64, 1), (96, 3), (96, 3))),
        ("tower_2", Tower(i, (o, 1), pooled=True)),
    )


def _middle(c: int) -> Mixed:
    """Blocks on 17 x 17, their windows split into a row and a column."""
    return Mixed(
        ("conv", Unit(768, 192, 1)),
        ("tower", Tower(768, (c, 1), (c, (1, 7)), (192, (7, 1)))),
        ("tower_1", Tower(768, (c, 1), (c, (7, 1)), (c, (1, 7)), (c, (7, 1)), (192, (1, 7)))),
        ("tower_2", Tower(768, (192, 1), pooled=True)),
    )


class Inception(nn.Module):
    """Images x (N, 3, 299, 299), (uint8 - 128) / 128, -> what it sees in them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.conv_1 = Unit(3, 32, 3, stride=2), Unit(32, 32, 3, padded=False)
        self.conv_2, self.conv_3 = Unit(32, 64, 3), Unit(64, 80, 1)
        self.conv_4 = Unit(80, 192, 3, padded=False)
        self.mixed, self.mixed_1, self.mixed_2 = _early(192, 32), _early(256, 64), _early(288, 64)
        self.mixed_3 = Mixed(
            ("conv", Unit(288, 384, 3, 2)), ("tower", Tower(288, (64, 1), (96, 3), (96, 3, 2))), pooled=True
        )
        self.mixed_4, self.mixed_5, self.mixed_6, self.mixed_7 = (_middle(c) for c in (128, 160, 160, 192))
        self.mixed_8 = Mixed(
            ("tower", Tower(768, (192, 1), (320, 3, 2))),
            ("tower_1", Tower(768, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2))),
            pooled=True,
        )
        self.mixed_9 = Forked(1280, lambda x: functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
        self.mixed_10 = Forked(2048, lambda x: functional.max_pool2d(x, 3, 1, 1))  # a slip of 2015 that all FIDs share

    def forward(self, x: Tensor) -> Seen:
        x = self.conv_2(self.conv_1(self.conv(x)))  # (N, 64, 147, 147)
        x = self.conv_4(self.conv_3(functional.max_pool2d(x, 3, stride=2)))  # (N, 192, 71, 71)
        x = self.mixed_2(self.mixed_1(self.mixed(functional.max_pool2d(x, 3, stride=2))))  # (N, 288, 35, 35)
        x = self.mixed_5(self.mixed_4(self.mixed_3(x)))  # (N, 768, 17, 17)
        spatial = self.mixed_6.get_submodule("conv")(x)[:, :7].flatten(1)  # (N, 2023)
        x = self.mixed_7(self.mixed_6(x))
        x = self.mixed_10(self.mixed_9(self.mixed_8(x)))  # (N, 2048, 8, 8)
        return Seen(x.mean((2, 3)), spatial)


@cache
def inception(device: str = "cpu") -> Inception:
    """The network with its weights, frozen. Raises Unavailable where they aren't there."""
    net = Inception()
    found = read_script(weights("inception"))
    net.load_state_dict({name.removeprefix("net.layers."): tensor for name, tensor in found.items()})
    return net.requires_grad_(False).eval().to(device)


@torch.no_grad()
def look(images: Tensor, batch_size: int = 32, on_batch: Callable[[int], None] = lambda done: None) -> Seen:
    """Images (N, 1 or 3, H, W), uint8 or in [-1, 1], of any size -> what Inception sees in them, on the CPU.

    Images in [-1, 1] are rounded to 8 bits first, as saving them would, so that a folder and a tensor agree.
    """
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"inception: images are (N, 1 or 3, H, W), not {tuple(images.shape)}: decode latents first")
    net = inception(str(images.device))
    seen = []
    for batch in images.split(batch_size):
        x = prepared(batch).contiguous(memory_format=torch.channels_last)  # pools are faster so
        seen.append(Seen(*(part.cpu() for part in net(x))))
        on_batch(sum(len(part.pool) for part in seen))
    return Seen(*(torch.cat(parts) for parts in zip(*seen, strict=True)))


def prepared(images: Tensor) -> Tensor:
    """Images of any size -> what the network takes, (N, 3, 299, 299): (x - 128) / 128, resized as TensorFlow 1 did."""
    return resized((eight_bits(images) - 128) / 128, SIDE)

"""I3D, inflated Inception-v1, trained on Kinetics-400 (RGB): 400 logits of actions, the features behind FVD."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from skipdit.networks.fetch import weights
from skipdit.networks.resize import resized
from skipdit.networks.unpickle import kernel, read_arrays

SIDE, SHORTEST = 224, 9  # the last pool needs two maps, and time is halved three times
Three = tuple[int, int, int]


class Watched(NamedTuple):
    """What the network sees in N videos."""

    logits: Tensor  # (N, 400), of the classes of Kinetics-400 in alphabetical order
    pool: Tensor  # (N, 1024)


def same(x: Tensor, window: Three, stride: Three, value: float = 0.0) -> Tensor:
    """TensorFlow's SAME padding of (N, C, T, H, W): what is odd goes to the end."""
    pads: list[int] = []
    for side, wide, step in zip(x.shape[:1:-1], window[::-1], stride[::-1], strict=True):  # W, H, T
        total = max((-(-side // step) - 1) * step + wide - side, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads, value=value)


def pooled(x: Tensor, window: Three, stride: Three) -> Tensor:
    """The largest under the window; padding never wins."""
    return functional.max_pool3d(same(x, window, stride, -torch.inf), window, stride)


class Unit(nn.Module):
    """A convolution, batch norm without a scale, and ReLU."""

    def __init__(self, i: int, o: int, window: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.window, self.stride = (window,) * 3, (stride,) * 3
        self.weight = nn.Parameter(torch.empty(o, i, *self.window))
        self.bias, self.mean, self.var = (nn.Parameter(torch.empty(o)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.conv3d(same(x, self.window, self.stride), self.weight, stride=self.stride)
        return functional.relu(functional.batch_norm(x, self.mean, self.var, None, self.bias, eps=1e-3))


class Mixed(nn.Module):
    """Four branches beside each other, (N, i, T, H, W) -> (N, sum of the branches, T, H, W)."""

    def __init__(self, i: int, one: int, mid: int, three: int, low: int, other: int, pool: int) -> None:
        super().__init__()
        self.Branch_0 = nn.ModuleDict({"Conv3d_0a_1x1": Unit(i, one)})
        self.Branch_1 = nn.ModuleDict({"Conv3d_0a_1x1": Unit(i, mid), "Conv3d_0b_3x3": Unit(mid, three, 3)})
        self.Branch_2 = nn.ModuleDict({"Conv3d_0a_1x1": Unit(i, low), "Conv3d_0b_3x3": Unit(low, other, 3)})
        self.Branch_3 = nn.ModuleDict({"Conv3d_0b_1x1": Unit(i, pool)})

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for branch in (self.Branch_0, self.Branch_1, self.Branch_2, self.Branch_3):
            y = pooled(x, (3, 3, 3), (1, 1, 1)) if branch is self.Branch_3 else x
            for unit in branch.values():
                y = unit(y)
            parts.append(y)
        return torch.cat(parts, 1)


class I3D(nn.Module):
    """Videos x (N, 3, T, 224, 224) in [-1, 1], T at least 9 -> what it sees in them (arXiv 1705.07750, figure 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.Conv3d_2b_1x1, self.Conv3d_2c_3x3 = Unit(64, 64), Unit(64, 192, 3)
        self.Mixed_3b = Mixed(192, 64, 96, 128, 16, 32, 32)
        self.Mixed_3c = Mixed(256, 128, 128, 192, 32, 96, 64)
        self.Mixed_4b = Mixed(480, 192, 96, 208, 16, 48, 64)
        self.Mixed_4c = Mixed(512, 160, 112, 224, 24, 64, 64)
        self.Mixed_4d = Mixed(512, 128, 128, 256, 24, 64, 64)
        self.Mixed_4e = Mixed(512, 112, 144, 288, 32, 64, 64)
        self.Mixed_4f = Mixed(528, 256, 160, 320, 32, 128, 128)
        self.Mixed_5b = Mixed(832, 256, 160, 320, 32, 128, 128)
        self.Mixed_5c = Mixed(832, 384, 192, 384, 48, 128, 128)
        self.Logits = nn.Conv3d(1024, 400, 1)

    def forward(self, x: Tensor) -> Watched:
        x = pooled(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))  # (N, 64, T/2, 56, 56)
        x = pooled(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))  # (N, 192, T/2, 28, 28)
        x = pooled(self.Mixed_3c(self.Mixed_3b(x)), (3, 3, 3), (2, 2, 2))  # (N, 480, T/4, 14, 14)
        for block in (self.Mixed_4b, self.Mixed_4c, self.Mixed_4d, self.Mixed_4e, self.Mixed_4f):
            x = block(x)
        x = self.Mixed_5c(self.Mixed_5b(pooled(x, (2, 2, 2), (2, 2, 2))))  # (N, 1024, T/8, 7, 7)
        x = functional.avg_pool3d(x, (2, 7, 7), stride=1)  # (N, 1024, T/8 - 1, 1, 1)
        return Watched(self.Logits(x).mean((2, 3, 4)), x.mean((2, 3, 4)))


@cache
def i3d(device: str = "cpu") -> I3D:
    """The network with its weights, frozen. Raises Unavailable where they aren't there."""
    state = {}
    for name, array in read_arrays(weights("i3d")).items():
        _, *path, part, leaf = name.split("/")  # params/Mixed_3b/Branch_0/Conv3d_0a_1x1/BatchNorm_0/bias
        path = path[:1] if path[0] == "Logits" else path
        conv = part == "Conv_0" and leaf == "kernel"
        state[".".join([*path, "weight" if conv else leaf])] = kernel(array) if conv else array.flatten()
    net = I3D()
    net.load_state_dict(state)
    return net.requires_grad_(False).eval().to(device)


@torch.no_grad()
def watch(videos: Tensor, batch_size: int = 8, on_batch: Callable[[int], None] = lambda done: None) -> Watched:
    """Videos (N, T, 3, H, W), uint8 or in [-1, 1], of any size and at least 9 frames -> what I3D sees, on the CPU.

    Frames are resized to 224 x 224 as TensorFlow 1 did, without a crop: the convention of FVD.
    """
    if videos.dim() != 5 or videos.shape[2] != 3 or videos.shape[1] < SHORTEST:
        raise ValueError(f"i3d: videos are (N, T, 3, H, W) with T from {SHORTEST} on, not {tuple(videos.shape)}")
    net = i3d(str(videos.device))
    seen: list[Watched] = []
    for batch in videos.split(batch_size):
        x = batch.float() / 127.5 - 1 if batch.dtype == torch.uint8 else batch.float()
        x = resized(x.flatten(0, 1), SIDE).unflatten(0, batch.shape[:2])  # (B, T, 3, 224, 224)
        x = x.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)  # pools are faster so
        seen.append(Watched(*(part.cpu() for part in net(x))))
        on_batch(sum(len(part.logits) for part in seen))
    return Watched(*(torch.cat(parts) for parts in zip(*seen, strict=True)))

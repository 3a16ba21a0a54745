"""Warping error of each video: how much pixels change along the motion; 0 where things only move."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

LEVELS, ROUNDS, WINDOW = 4, 6, 9  # halvings of the picture, steps at each, pixels that move together


def warping_error(videos: Tensor, reference: Tensor | None = None) -> Tensor:
    """(N, T, C, H, W) in [-1, 1] -> (N,): mean squared error of the next frame, brought back along the flow.

        E = mean over t and visible p of |x_t(p) - x_(t+1)(p + f_t(p))|^2   (arXiv 1808.00449, eq. 9 and 10)

    The flow is that of `reference`, the video itself where none is given; places where the flow forth and the flow back
    disagree are hidden by something and don't count. It is found by `flow`, plain Lucas-Kanade: values compare within
    this library alone. Raises ValueError for unequal shapes or one frame.
    """
    reference = videos if reference is None else reference
    if videos.dim() != 5 or videos.shape[1] < 2 or videos.shape != reference.shape:
        raise ValueError(
            f"warping_error: videos and their reference are (N, T, C, H, W) of at least two frames, not "
            f"{tuple(videos.shape)} and {tuple(reference.shape)}"
        )
    errors = [_error(video.float(), other.float()) for video, other in zip(videos, reference, strict=True)]
    return torch.stack(errors)


def _error(video: Tensor, reference: Tensor) -> Tensor:
    grey = reference.mean(1)  # (T, H, W)
    forth, back = flow(grey[:-1], grey[1:]), flow(grey[1:], grey[:-1])  # (T - 1, 2, H, W)
    again = warped(back, forth)
    limit = 0.01 * (forth.square().sum(1) + again.square().sum(1)) + 0.5
    visible = (forth + again).square().sum(1) < limit  # (T - 1, H, W)
    error = (video[:-1] - warped(video[1:], forth)).square().mean(1)  # (T - 1, H, W)
    return (error * visible).sum() / visible.sum().clamp(min=1)


def flow(first: Tensor, second: Tensor) -> Tensor:
    """Where each pixel goes, (N, H, W) twice -> (N, 2, H, W) in pixels (x, y): first(p) = second(p + flow(p)).

    Lucas and Kanade (1981) in a pyramid (Bouguet 2001): at each level, from coarse to fine, a few steps of
    (sum g g^T) d = sum g (first - second), g the gradient, the sums over a window.
    """
    levels = [(first[:, None], second[:, None])]  # (N, 1, H, W)
    while len(levels) < LEVELS and min(levels[-1][0].shape[-2:]) >= 32:
        levels.append(tuple(functional.avg_pool2d(x, 2) for x in levels[-1]))  # type: ignore[arg-type]
    found = first.new_zeros(len(first), 2, *levels[-1][0].shape[-2:])
    for a, b in reversed(levels):
        grown = a.shape[-1] / found.shape[-1]
        found = functional.interpolate(found, size=a.shape[-2:], mode="bilinear", align_corners=False) * grown
        for _ in range(ROUNDS):
            found = _smooth(found + _step(a, warped(b, found)))
    return found


def _smooth(x: Tensor) -> Tensor:
    """The mean of 5 x 5: neighbours move alike, and a place without texture learns from them."""
    return functional.avg_pool2d(functional.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)


def _step(a: Tensor, b: Tensor) -> Tensor:
    """(N, 2, H, W), at most a pixel."""
    padded = functional.pad((a + b) / 2, (1, 1, 1, 1), mode="replicate")
    gx = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    gy = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    xx, xy, yy, xd, yd = _summed([gx * gx, gx * gy, gy * gy, gx * (a - b), gy * (a - b)])
    xx, yy = xx + 1e-3, yy + 1e-3  # flat places stay where they are
    inverse = 1 / (xx * yy - xy * xy)
    return torch.cat([yy * xd - xy * yd, xx * yd - xy * xd], 1).mul(inverse).clamp(-1, 1)


def _summed(maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Each (N, 1, H, W), summed over the window."""
    sums = functional.avg_pool2d(torch.cat(list(maps), 1), WINDOW, 1, WINDOW // 2, count_include_pad=False)
    return (sums * WINDOW**2).split(1, 1)


def warped(images: Tensor, by: Tensor) -> Tensor:
    """images(p + by(p)), between pixels bilinear: (N, C, H, W) and (N, 2, H, W) -> (N, C, H, W)."""
    high, wide = images.shape[-2:]
    rows = torch.arange(high, device=images.device).view(-1, 1)
    columns = torch.arange(wide, device=images.device)
    x, y = (columns + by[:, 0] + 0.5) / wide * 2 - 1, (rows + by[:, 1] + 0.5) / high * 2 - 1  # (N, H, W)
    grid = torch.stack([x, y], -1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

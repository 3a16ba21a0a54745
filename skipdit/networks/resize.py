"""What networks are given: images of 8 bits, resized as TensorFlow 1 did, which published FIDs were measured with."""

import torch
from torch import Tensor
from torch.nn import functional


def resized(images: Tensor, side: int) -> Tensor:
    """(N, C, H, W) -> (N, C, side, side): the value at place i * H / side of the old image.

    torch takes it at (i + 1/2) * H / side - 1/2, half a pixel off, which moves every distance. Neither smooths first.
    """
    count, channels, high, wide = images.shape
    shift = [1 / old - 1 / side for old in (wide, high)]  # half a step, in the grid's units of half an image
    theta = torch.tensor([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]], device=images.device)
    grid = functional.affine_grid(theta.expand(count, 2, 3), [count, channels, side, side], align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def eight_bits(images: Tensor) -> Tensor:
    """uint8 as it is; [-1, 1] -> 0 ... 255, (..., 1 or 3, H, W) -> (..., 3, H, W) float32."""
    if images.dtype != torch.uint8:
        images = ((images.float().clamp(-1, 1) + 1) * 127.5).round()
    return images.float().expand(*images.shape[:-3], 3, -1, -1)

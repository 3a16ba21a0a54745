"""A labelled set of images in memory, and its folder on disk."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from skipdit.data.built import Rows, numbered, read_built, write_built

HELD_OUT = 0.05  # share of (concept, style) pairs that no training run sees


def is_held_out(label: str, style: str) -> bool:
    """A fixed 5 % of (concept, style) pairs, chosen by a hash of their names: the same for everybody, for ever."""
    digest = hashlib.sha256(f"{label}|{style}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT


@dataclass(frozen=True)
class ImageSet:
    """Images x (N, 3, H, W) uint8, classes y (N,), styles (N,) or None, and what the numbers mean."""

    x: Tensor
    y: Tensor
    style: Tensor | None
    class_names: tuple[str, ...]
    style_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    def split(self) -> tuple[Self, Self]:
        """(training, held-out) images. Without styles every image is for training."""
        if self.style is None:
            return self, self.rows(torch.zeros(len(self), dtype=torch.bool))
        held = torch.tensor(
            [is_held_out(self.class_names[y], self.style_names[s]) for y, s in zip(self.y, self.style, strict=True)]
        )
        return self.rows(~held), self.rows(held)

    def rows(self, keep: Tensor) -> Self:
        """The part that `keep`, row numbers or a mask (N,), says."""
        style = None if self.style is None else self.style[keep]
        return replace(self, x=self.x[keep], y=self.y[keep], style=style)

    def only(self, labels: Sequence[str]) -> Self:
        """The images of these classes, numbered anew. Raises ValueError for an unknown one."""
        unknown = sorted(set(labels) - set(self.class_names))
        if unknown:
            raise ValueError(f"the data have no class {unknown[0]!r} ({len(unknown)} of {len(labels)} are unknown)")
        names = tuple(name for name in self.class_names if name in set(labels))
        number = torch.full((len(self.class_names),), -1)
        number[[self.class_names.index(name) for name in names]] = torch.arange(len(names))
        kept = self.rows(number[self.y] >= 0)
        return replace(kept, y=number[kept.y], class_names=names)

    def resized(self, size: int) -> Self:
        """The set at another side length, averaged over whole cells. Raises ValueError where the cells don't fit."""
        side = self.x.shape[-1]
        if size == side:
            return self
        if side % size:
            raise ValueError(f"the data are {side} x {side} pixels: size={size} must divide that")
        cells = side // size
        x = self.x.unflatten(-1, (size, cells)).unflatten(-3, (size, cells))  # (N, ..., s, c, s, c)
        x = x.mean((-3, -1), dtype=torch.float32).round().to(torch.uint8)  # (N, ..., s, s)
        return replace(self, x=x)


def to_model(x: Tensor) -> Tensor:
    """uint8 images -> float32 in [-1, 1]."""
    return x.float() / 127.5 - 1


def write_images(folder: Path, x: np.ndarray, rows: Rows) -> None:
    """Write x (N, H, W, 3) uint8 and one row an image, with "label" and "style", as `images.npz` and `rows.json`."""
    write_built(folder, "images", x, rows)


def read_images(folder: Path) -> ImageSet:
    """Read what `write_images` wrote. Raises ValueError for a damaged or mismatched pair of files."""
    x, rows = read_built(folder, "images", 4, ("label", "style"))
    classes, y = numbered([row["label"] for row in rows])
    styles, style = numbered([row["style"] for row in rows])
    images = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()  # (N, 3, H, W)
    return ImageSet(images, y, style, classes, styles)

"""A labelled set of video clips in memory, and its folder on disk."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from skipdit.data.built import Rows, numbered, read_built, write_built
from skipdit.data.images import ImageSet, is_held_out


@dataclass(frozen=True)
class ClipSet(ImageSet):
    """Clips x (N, F, 3, H, W) uint8, classes y (N,), and which of them (N,) are held out from training.

    A clip is held out by what its row says, or by a hash of its class and file: the same for everybody, for ever.
    """

    held: Tensor | None = None

    @property
    def frames(self) -> int:
        return self.x.shape[1]

    def split(self) -> tuple[Self, Self]:
        """(training, held-out) clips."""
        held = torch.zeros(len(self), dtype=torch.bool) if self.held is None else self.held
        return self.rows(~held), self.rows(held)

    def rows(self, keep: Tensor) -> Self:
        return replace(super().rows(keep), held=None if self.held is None else self.held[keep])

    def thinned(self, frames: int) -> Self:
        """Every clip at `frames` frames, evenly spaced. Raises ValueError where they don't divide its own."""
        if self.frames % frames:
            raise ValueError(f"the clips have {self.frames} frames: frames={frames} must divide that")
        return replace(self, x=self.x[:, :: self.frames // frames])


def write_clips(folder: Path, x: np.ndarray, rows: Rows) -> None:
    """Write x (N, F, H, W, 3) uint8 and one row a clip as `clips.npz` and `rows.json`.

    A row has "label" and "file", and may say "held_out".
    """
    write_built(folder, "clips", x, rows)


def read_clips(folder: Path) -> ClipSet:
    """Read what `write_clips` wrote. Raises ValueError for a damaged or mismatched pair of files."""
    x, rows = read_built(folder, "clips", 5, ("label", "file"))
    classes, y = numbered([row["label"] for row in rows])
    held = [bool(row.get("held_out", is_held_out(row["label"], row["file"]))) for row in rows]
    clips = torch.from_numpy(x).permute(0, 1, 4, 2, 3).contiguous()  # (N, F, 3, H, W)
    return ClipSet(clips, y, None, classes, held=torch.tensor(held))

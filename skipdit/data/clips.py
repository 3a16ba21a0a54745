"""A labelled set of video clips in memory, and its folder on disk."""

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from skipdit.aside import written_aside
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

    def stills(self) -> ImageSet:
        """Every frame as an image with its clip's class."""
        y = self.y.repeat_interleave(self.frames)  # (N F,)
        return ImageSet(self.x.flatten(0, 1), y, None, self.class_names)


def write_clips(folder: Path, x: np.ndarray, rows: Sequence[dict[str, Any]]) -> None:
    """Write x (N, F, H, W, 3) uint8 and one row a clip as `clips.npz` and `rows.json`, each aside and then renamed.

    A row has "label" and "file", and may say "held_out".
    """
    with written_aside(folder / "clips.npz") as aside:
        np.savez_compressed(aside, x=x)
    with written_aside(folder / "rows.json") as aside:
        aside.write_text(json.dumps(list(rows), ensure_ascii=False), encoding="utf-8")


def read_clips(folder: Path) -> ClipSet:
    """Read what `write_clips` wrote. Raises ValueError for a damaged or mismatched pair of files."""
    try:
        with np.load(folder / "clips.npz", allow_pickle=False) as arrays:
            x = arrays["x"]
        rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
        labels = [row["label"] for row in rows]
        held = [bool(row.get("held_out", is_held_out(row["label"], row["file"]))) for row in rows]
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder}: clips.npz or rows.json is damaged ({error}): build the data again") from error
    if len(rows) != len(x) or x.dtype != np.uint8 or x.ndim != 5 or x.shape[-1] != 3:
        raise ValueError(f"{folder}: {x.dtype} clips {x.shape} but {len(rows)} rows: build the data again")
    classes = {name: i for i, name in enumerate(sorted(set(labels)))}
    return ClipSet(
        torch.from_numpy(x).permute(0, 1, 4, 2, 3).contiguous(),  # (N, F, 3, H, W)
        torch.tensor([classes[label] for label in labels]),  # (N,)
        None,
        tuple(classes),
        held=torch.tensor(held),  # (N,)
    )

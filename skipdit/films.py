"""Pictures of clips: film strips, and moving grids as WebP, GIF, MP4 or WebM."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skipdit import pictures
from skipdit.aside import written_aside
from skipdit.pyav import pyav

LOOP, STREAM = (".webp", ".gif"), (".mp4", ".webm")  # what Pillow writes, what PyAV writes
CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9"}
QUALITY = {".mp4": {"crf": "16", "preset": "slow"}, ".webm": {"crf": "16", "b": "0"}}
WRITES = "writes MP4 and WebM"


def strip(clips: Any, scale: int = 1) -> Image.Image:
    """Clips (N, F, C, H, W) in [-1, 1], one a row, their frames from left to right."""
    clips = np.asarray(clips)
    return pictures.grid(clips.reshape(-1, *clips.shape[2:]), clips.shape[1], scale)  # (N F, C, H, W)


def frames(clips: Any, columns: int | None = None, scale: int = 1) -> list[Image.Image]:
    """The frames of a moving grid: clips (N, F, C, H, W) in [-1, 1] side by side, as `pictures.grid` lays them out."""
    clips = np.asarray(clips)
    return [pictures.grid(clips[:, frame], columns, scale) for frame in range(clips.shape[1])]


def check(path: Path) -> None:
    """Raises ValueError for a suffix that is no moving picture's, ModuleNotFoundError where PyAV is missing for it."""
    suffix = path.suffix.lower()
    if suffix in STREAM:
        pyav(WRITES)
    elif suffix not in LOOP:
        raise ValueError(f"{path}: a clip is written as {', '.join((*LOOP, *STREAM))}: name one of these")


def save(moving: list[Image.Image], path: Path, fps: float = 8) -> Path:
    """Write frames aside, then rename them: .webp and .gif loop for ever, .mp4 and .webm are written by PyAV.

    Raises what `check` raises.
    """
    check(path)
    with written_aside(path) as aside:
        if path.suffix.lower() in LOOP:
            _save_loop(moving, aside, path.suffix.lower(), fps)
        else:
            _save_stream(moving, aside, path.suffix.lower(), fps)
    return path


def _save_loop(moving: list[Image.Image], path: Path, suffix: str, fps: float) -> None:
    lossless = {"lossless": True} if suffix == ".webp" else {}
    first, *rest = moving
    first.save(
        path, format=suffix[1:].upper(), save_all=True, append_images=rest, duration=1000 / fps, loop=0, **lossless
    )


def _save_stream(moving: list[Image.Image], path: Path, suffix: str, fps: float) -> None:
    from fractions import Fraction

    av = pyav(WRITES)
    width, height = (side + side % 2 for side in moving[0].size)  # 4:2:0 video has even sides
    with av.open(str(path), "w", format=suffix[1:]) as file:
        stream = file.add_stream(CODECS[suffix], rate=Fraction(fps).limit_denominator(1001), options=QUALITY[suffix])
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in moving:
            page = Image.new("RGB", (width, height), pictures.PAPER)
            page.paste(picture)
            file.mux(stream.encode(av.VideoFrame.from_image(page)))
        file.mux(stream.encode())

"""Videos in class folders, FOLDER/<class>/<video>.mp4: cut into clips of equal length."""

import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageSequence

from skipdit.data.clips import ClipSet
from skipdit.data.folder import squared
from skipdit.data.images import is_held_out
from skipdit.pyav import pyav

LOOPS, STREAMS = (".webp", ".gif"), (".mp4", ".webm", ".mkv", ".mov", ".avi")  # what Pillow reads, what PyAV reads
BROKEN = (OSError, SyntaxError, ValueError, IndexError, Image.DecompressionBombError)


def read_video_folders(folder: Path, size: int, frames: int, interval: int = 1) -> ClipSet:
    """Every video below every sub-folder, cut into clips (F, 3, size, size) that don't overlap.

    frames      of a clip; what is left at a video's end is dropped, and a video with fewer is left out, with a warning
    interval    every so many frames one is taken

    The shorter side is reduced to `size` and the centre cut out, transparent parts become white. All clips of a file
    are held out, or none is. Raises ValueError for a folder without videos, or none long enough, and for a file that is
    no whole video, ModuleNotFoundError where PyAV is needed and missing.
    """
    inside = {d.name: _videos(d) for d in sorted(folder.iterdir()) if d.is_dir() and not d.name.startswith(".")}
    classes = tuple(name for name, paths in inside.items() if paths)
    if not classes:
        raise ValueError(f"{folder} holds no clips: neither clips.npz, nor videos as {folder}/<class>/<video>.mp4")
    clips, labels, held, short = [], [], [], []
    for label, name in enumerate(classes):
        for path in inside[name]:
            found = list(windows(path, size, frames, interval))
            clips += found
            labels += [label] * len(found)
            held += [is_held_out(name, path.name)] * len(found)
            short += [] if found else [path]
    if short:
        _say_short(short, folder, (frames - 1) * interval + 1, none_left=not clips)
    x = torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3).contiguous()  # (N, F, 3, size, size)
    return ClipSet(x, torch.tensor(labels), None, classes, held=torch.tensor(held))


def windows(path: Path, size: int, frames: int, interval: int = 1) -> Iterator[np.ndarray]:
    """The clips of a video, each (F, size, size, 3) uint8. Raises ValueError for a file that is none."""
    taken = islice(_frames(path), 0, None, interval)
    while len(clip := [squared(frame, size) for frame in islice(taken, frames)]) == frames:
        yield np.stack(clip)


def _frames(path: Path) -> Iterator[Image.Image]:
    """Its frames, one after the other."""
    read, empty = _loop if path.suffix.lower() in LOOPS else _stream, True
    try:
        for frame in read(path):
            empty = False
            yield frame
        if empty:
            raise ValueError("it has no frame")
    except BROKEN as error:
        raise ValueError(f"{path} is not a readable video ({error}): remove or replace it") from error


def _loop(path: Path) -> Iterator[Image.Image]:
    with Image.open(path) as moving:
        for frame in ImageSequence.Iterator(moving):
            frame.load()  # here, so that what is cut off is noticed here
            yield frame


def _stream(path: Path) -> Iterator[Image.Image]:
    av = pyav(f"reads {', '.join(STREAMS)}")
    try:
        with av.open(str(path)) as file:
            if not file.streams.video:
                raise ValueError("it has no video stream")
            for frame in file.decode(video=0):
                yield frame.to_image()
    except av.FFmpegError as error:  # some are neither OSError nor ValueError
        raise ValueError(str(error)) from error


def _videos(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in (*LOOPS, *STREAMS) and p.is_file())


def _say_short(short: list[Path], folder: Path, least: int, none_left: bool) -> None:
    """Raises ValueError where no video is long enough."""
    names = f"{short[0]} and {len(short) - 1} more" if len(short) > 1 else f"{short[0]}"
    if none_left:
        raise ValueError(
            f"no video in {folder} has {least} frames (not {names}): ask for fewer frames, or a smaller interval"
        )
    warnings.warn(f"{names} left out: fewer than {least} frames", stacklevel=3)

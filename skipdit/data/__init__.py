"""Data sets: one a file, and `open_images` or `open_clips` for whatever lies in a folder."""

from pathlib import Path

from skipdit.data.clips import ClipSet, read_clips, write_clips
from skipdit.data.folder import read_class_folders
from skipdit.data.images import HELD_OUT, ImageSet, is_held_out, read_images, to_model, write_images
from skipdit.data.videos import read_video_folders

__all__ = [
    "HELD_OUT",
    "ClipSet",
    "ImageSet",
    "is_held_out",
    "open_clips",
    "open_images",
    "read_clips",
    "read_images",
    "to_model",
    "write_clips",
    "write_images",
]


def open_images(folder: str | Path, size: int) -> ImageSet:
    """The labelled images in a folder: a built set (images.npz and rows.json) or class folders, at side length `size`.

    Raises FileNotFoundError for a missing folder and ValueError for one that holds neither.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no data folder {folder}: build one with `skipdit data emoji {folder}`")
    if (folder / "images.npz").exists():
        return read_images(folder).resized(size)
    return read_class_folders(folder, size)


def open_clips(folder: str | Path, size: int, frames: int, interval: int = 1) -> ClipSet:
    """The labelled clips in a folder, `frames` frames each, at side length `size`.

    A built set (clips.npz and rows.json) is thinned evenly. Of videos in class folders every `interval`-th frame is
    taken. Raises FileNotFoundError for a missing folder and ValueError for one that holds none, or numbers below 1.
    """
    folder = Path(folder)
    if frames < 1 or interval < 1:
        raise ValueError(f"frames={frames}, interval={interval}: take at least 1 of each")
    if not folder.is_dir():
        raise FileNotFoundError(f"no data folder {folder}: build one with `skipdit data animation {folder}`")
    if not (folder / "clips.npz").exists():
        return read_video_folders(folder, size, frames, interval)
    if interval != 1:
        raise ValueError(f"{folder} is a built set, thinned evenly to {frames} frames: leave interval={interval} out")
    return read_clips(folder).thinned(frames).resized(size)

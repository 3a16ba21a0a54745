"""Data sets: one a file, and `open_images` for whatever lies in a folder."""

from pathlib import Path

from skipdit.data.folder import read_class_folders
from skipdit.data.images import HELD_OUT, ImageSet, is_held_out, read_images, to_model, write_images

__all__ = ["HELD_OUT", "ImageSet", "is_held_out", "open_images", "read_images", "to_model", "write_images"]


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

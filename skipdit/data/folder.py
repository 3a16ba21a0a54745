"""Images in class folders, as torchvision and timm lay them out: FOLDER/class name/picture.png."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from skipdit.data.images import ImageSet

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}


def read_class_folders(folder: Path, size: int) -> ImageSet:
    """Every picture below every sub-folder, its shorter side reduced to `size` and the centre cut out.

    Raises ValueError for a folder without class folders and for a file that is no picture.
    """
    inside = {d.name: _pictures(d) for d in sorted(folder.iterdir()) if d.is_dir() and not d.name.startswith(".")}
    classes = tuple(name for name, paths in inside.items() if paths)
    if not classes:
        raise ValueError(f"{folder} holds no pictures in class folders: expected {folder}/<class>/<picture>.png")
    x = np.stack([square(path, size) for name in classes for path in inside[name]])  # (N, size, size, 3)
    y = torch.tensor([label for label, name in enumerate(classes) for _ in inside[name]])  # (N,)
    return ImageSet(torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(), y, None, classes)  # (N, 3, size, size)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def square(path: Path, size: int) -> np.ndarray:
    """(size, size, 3) uint8 of a picture's file. Raises ValueError for one that is none."""
    try:
        with Image.open(path) as picture:
            return squared(picture, size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable picture ({error}): remove or replace it") from error


def squared(picture: Image.Image, size: int) -> np.ndarray:
    """(size, size, 3) uint8: the shorter side reduced, the centre kept, transparent parts white."""
    rgba = picture.convert("RGBA")
    scale = size / min(rgba.size)
    width, height = (max(size, round(side * scale)) for side in rgba.size)
    rgba = rgba.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - size) // 2, (height - size) // 2
    rgba = rgba.crop((left, top, left + size, top + size))
    page = Image.new("RGBA", rgba.size, "white")
    page.alpha_composite(rgba)
    return np.array(page.convert("RGB"))

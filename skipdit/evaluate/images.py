"""The images or clips in a folder, whatever lies there: shards of ours, a built data set, files; a few at a time."""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from skipdit.data import open_clips, read_clips
from skipdit.data.folder import SUFFIXES, square
from skipdit.data.images import ImageSet, read_images

SHARDS = "images-?????.npz"


@dataclass(frozen=True)
class Images:
    """A set of images, or of clips.

    names      one each, or None where they have none: pairs are found by name, or else by order
    batches    (most at a time) -> uint8 tensors (B, 3, H, W), each of one size; of clips (B, F, 3, H, W)
    labelled   the data set with its labels and styles, where it is one
    labels     the name of each image's label, or None where they are unknown
    frames     of each clip; None for images
    side       pixels, of what a model drew; None for others
    """

    folder: Path
    count: int
    names: list[str] | None
    batches: Callable[[int], Iterator[Tensor]]
    labelled: ImageSet | None = None
    labels: list[str] | None = None
    frames: int | None = None
    side: int | None = None

    def known_to(self, model: Any) -> "Images":
        """The images whose labels a model knows; all of them where they have none. Raises ValueError for no such."""
        if self.labelled is None:
            return self
        known = set(self.labelled.class_names) & set(model.config.class_names or ())
        if not known:
            raise ValueError(f"the model knows no label of {self.folder}: give what it was trained for, or pictures")
        return of_data(self.folder, self.labelled.only(sorted(known)))

    def first(self, count: int) -> "Images":
        """The first `count` images alone. Raises ValueError where there are fewer."""
        if count > self.count:
            raise ValueError(f"{self.folder} holds {self.count} images, not {count}")
        return replace(
            self,
            count=count,
            names=self.names and self.names[:count],
            labels=self.labels and self.labels[:count],
            batches=lambda most: _until(self.batches(most), count),
        )


def open_images(folder: Path, size: int | None = None, frames: int | None = None, interval: int = 1) -> Images:
    """The images in a folder and below, as they are, or `size` pixels a side: reduced, the centre kept.

    frames, interval    clips of so many frames, of videos in class folders or of a built set, which may hold more

    Raises FileNotFoundError for a missing folder, ValueError for one without images, and for shards of other clips.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: name a folder of images, or a model")
    shards = sorted(folder.glob(SHARDS))
    if (folder / "clips.npz").is_file() or (frames is not None and not shards):
        return _clips(folder, size, frames, interval)
    if (folder / "images.npz").is_file():
        data = read_images(folder)
        return of_data(folder, data if size is None else data.resized(size))
    if shards:
        return _of_shards(folder, shards, size, frames)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise ValueError(f"{folder} holds no images: neither pictures, nor images.npz, nor {SHARDS}")
    names = [str(path.relative_to(folder).with_suffix("")) for path in paths]
    return Images(folder, len(paths), names, lambda most: _pictures(paths, most, size))


def of_data(folder: Path, data: ImageSet) -> Images:
    labels = [data.class_names[label] for label in data.y.tolist()]
    frames = data.x.shape[1] if data.x.ndim == 5 else None
    return Images(folder, len(data), None, lambda most: iter(data.x.split(most)), data, labels, frames)


def _clips(folder: Path, size: int | None, frames: int | None, interval: int) -> Images:
    """Of a built set, as it is unless said, or of videos in class folders. Raises ValueError for what is left open."""
    if (folder / "clips.npz").is_file() and interval == 1:
        known = read_clips(folder)
        return of_data(folder, known.thinned(frames or known.frames).resized(size or known.x.shape[-1]))
    if size is None or frames is None:
        raise ValueError(f"{folder}: say the frames of a clip and the size that they are reduced to, such as 8 and 64")
    return of_data(folder, open_clips(folder, size, frames, interval))


def _of_shards(folder: Path, shards: list[Path], size: int | None, frames: int | None) -> Images:
    shapes = [read_shard(path).shape for path in shards]
    whole = [shape[0] == shapes[0][0] for shape in shapes[:-1]]
    if [int(path.stem[-5:]) for path in shards] != list(range(len(shards))) or not all(whole):
        raise ValueError(f"{folder} lacks shards between others: the command that drew it draws them, without --part")
    own = shapes[0][1] if len(shapes[0]) == 5 else None
    if frames not in (None, own):
        raise ValueError(
            f"{folder} holds {f'clips of {own} frames' if own else 'images'}, not clips of {frames} frames"
        )
    count = sum(shape[0] for shape in shapes)
    labels, side = _labels(shards), shapes[0][-1]
    return Images(folder, count, None, lambda most: _shards(shards, most, size), None, labels, own, side)


def _until(batches: Iterator[Tensor], count: int) -> Iterator[Tensor]:
    for batch in batches:
        if count <= 0:
            return
        yield batch[:count]
        count -= len(batch)


def read_shard(path: Path) -> Tensor:
    """Images (B, 3, H, W) or clips (B, F, 3, H, W), uint8. Raises ValueError for a damaged file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x = arrays["x"]
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it; the command that drew it draws it again") from error
    return torch.from_numpy(x)


def _labels(paths: list[Path]) -> list[str] | None:
    """The names of the labels in all shards; None where one was drawn without, or before they were kept."""
    found: list[str] = []
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            if "label" not in arrays.files:
                return None
            found += arrays["label"].tolist()
    return found


def _shards(paths: list[Path], most: int, size: int | None) -> Iterator[Tensor]:
    for path in paths:
        x = read_shard(path)
        if size not in (None, x.shape[-1]):
            raise ValueError(f"{path} holds images of {x.shape[-1]} pixels, not {size}: what was drawn isn't reduced")
        yield from x.split(most)


def _pictures(paths: list[Path], most: int, size: int | None) -> Iterator[Tensor]:
    """Pictures of one size that follow each other are a batch."""
    held: list[Tensor] = []
    for picture in (_picture(path, size) for path in paths):
        if held and (len(held) == most or held[0].shape != picture.shape):
            yield torch.stack(held)
            held = []
        held.append(picture)
    yield torch.stack(held)


def _picture(path: Path, size: int | None) -> Tensor:
    """(3, H, W) uint8, on white where it is transparent."""
    if size is not None:
        return torch.from_numpy(square(path, size)).permute(2, 0, 1)
    try:
        with Image.open(path) as picture:
            rgba = picture.convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable picture ({error}): remove or replace it") from error
    page = Image.new("RGBA", rgba.size, "white")
    page.alpha_composite(rgba)
    return torch.from_numpy(np.array(page.convert("RGB"))).permute(2, 0, 1)


def pairs(candidate: Images, reference: Images, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of both sets side by side. Raises ValueError for sets that don't pair up."""
    if candidate.count != reference.count or candidate.names != reference.names:
        raise ValueError(
            f"{candidate.folder} and {reference.folder} don't pair up: {candidate.count} and {reference.count} images"
            f"{_first_difference(candidate.names, reference.names)}"
        )
    check_labels(candidate.folder, candidate.labels, reference)
    left, right = (_singly(images) for images in (candidate, reference))
    for a, b in zip(left, right, strict=True):
        if a.shape != b.shape:
            raise ValueError(f"pairs are of one size, not {tuple(a.shape[1:])} and {tuple(b.shape[1:])}: name a size")
    left, right = (_singly(images) for images in (candidate, reference))
    while batch := list(islice(zip(left, right, strict=True), most)):
        if len({a.shape for a, _ in batch}) > 1:
            yield from ((a[None], b[None]) for a, b in batch)
        else:
            yield torch.stack([a for a, _ in batch]), torch.stack([b for _, b in batch])


def check_labels(folder: Path, labels: list[str] | None, reference: Images) -> None:
    """Raises ValueError where the images in a folder, drawn or to be drawn, have other labels than those to pair."""
    for k, (one, other) in enumerate(zip(labels or (), reference.labels or (), strict=False)):
        if one != other:
            raise ValueError(
                f"{folder} and {reference.folder} don't pair up: image {k} is of {one!r} in one and of {other!r} in "
                "the other: draw both against the same reference, with the same seed"
            )


def _singly(images: Images) -> Iterator[Tensor]:
    return (image for batch in images.batches(256) for image in batch)


def _first_difference(one: list[str] | None, other: list[str] | None) -> str:
    if one is None or other is None:
        return ", by order" if one is other else ", and only one set has names"
    alone = sorted(set(one) ^ set(other))
    return f"; {alone[0]} is in one alone" if alone else ""

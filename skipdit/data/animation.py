"""Animated emoji: 732 captioned clips of 16 frames, 64 x 64, built from freely licensed packages."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from skipdit.data.archives import Missing, Unavailable, fetch, members
from skipdit.data.clips import write_clips
from skipdit.data.emoji import Concepts, code_point, copy_licenses, read_concepts, tile

PACKAGES = tuple(f"@lobehub/fluent-emoji-anim-{part}@1.0.0" for part in (1, 2, 3, 4))  # 165 to 197 MB each
SHORTEST = 16  # frames: what has fewer is a still, or nearly one


class Built(NamedTuple):
    """What `build_animation` made: clips, and a sentence for each thing that could not be had."""

    clips: int
    missing: list[str]


def build_animation(
    out: Path,
    size: int = 64,
    frames: int = 16,
    downloads: Path | None = None,
    progress: Callable[[str], None] = print,
) -> Built:
    """Write the set to `out` as `skipdit.data.clips` reads it, with its licences.

    Frame i of a clip is frame round(i (n - 1) / `frames`) of its n: an evenly thinned loop. npm packages, 730 MB in
    all, are kept in `downloads` (`out`/downloads unless given) and not fetched again. What can't be had is said by name
    and left out. Raises RuntimeError where nothing is left.
    """
    downloads = downloads or out / "downloads"
    missing = Missing(progress)
    concepts = read_concepts(downloads, missing.note)
    found: list[tuple[dict[str, Any], np.ndarray]] = []
    for package in PACKAGES:
        progress(f"{package} ...")
        try:
            clips = list(read_clips_of(fetch(package, downloads), concepts, size, frames))
        except Unavailable as error:  # it names the package or its archive
            missing.note(str(error))
            continue
        except OSError as error:  # of the disk, or of a picture
            missing.note(f"{package}: {error}")
            continue
        found += clips
        progress(f"{package}: {len(clips)} clips")
    if not found:
        raise RuntimeError("no animated emoji could be had:\n  " + "\n  ".join(missing or ["none matched a label"]))
    found.sort(key=lambda pair: pair[0]["file"])
    write_clips(out, np.stack([clip for _, clip in found]), [row for row, _ in found])
    copy_licenses(out / "LICENSES")
    return Built(len(found), missing)


def read_clips_of(
    archive: Path, concepts: Concepts, size: int, frames: int
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """(row, clip (F, size, size, 3) uint8) of every animated emoji of a package. Raises Unavailable."""
    for name, content in members(archive, r"\.webp$"):
        concept = concepts.get(code_point(name.rpartition(".")[0]))
        if concept is None:  # a skin tone, or no emoji
            continue
        with Image.open(io.BytesIO(content)) as moving:
            count = getattr(moving, "n_frames", 1)
            if count < SHORTEST:
                continue
            about = {key: concept[key] for key in ("label", "group", "subgroup")}
            clip = np.stack([_frame(moving, round(i * (count - 1) / frames), size) for i in range(frames)])
        yield {**about, "frames": count, "file": name}, clip


def _frame(moving: Image.Image, number: int, size: int) -> np.ndarray:
    """(size, size, 3) uint8, on white."""
    moving.seek(number)
    return tile(moving, size)

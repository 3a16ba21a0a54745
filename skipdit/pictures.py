"""Pictures of pictures: grids, and labelled contact sheets with maps of what differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from skipdit.aside import written_aside

PAPER, INK, FAINT, RULE = (255, 255, 255), (24, 24, 32), (116, 118, 130), (226, 227, 232)
MARGIN, GAP, LINE = 24, 6, 19  # pixels round a sheet, between pictures, and from one line of text to the next
RAMP = 160  # width of the legend's colours

# Equal steps look equally large: the matplotlib map "magma" at nine places, from light (no difference) to dark.
MAGMA = np.array(
    [
        [255, 255, 255],
        [254, 205, 144],
        [253, 154, 106],
        [241, 96, 93],
        [205, 64, 113],
        [158, 47, 127],
        [114, 31, 129],
        [59, 15, 112],
        [0, 0, 4],
    ],
    dtype=np.float64,
)


@dataclass(frozen=True)
class Row:
    """One line of a contact sheet: a label, smaller lines below it, and pictures (N, C, H, W) in [-1, 1].

    reference    pictures to compare with: a map of the differences is drawn below each one
    """

    label: str
    images: Any
    notes: Sequence[str] = ()
    reference: Any = None


def to_pil(images: Any) -> list[Image.Image]:
    """Images (N, 1 or 3, H, W) in [-1, 1] -> PIL images. Raises ValueError for latents and other shapes."""
    return [Image.fromarray(picture) for picture in _bytes(images)]


def grid(images: Any, columns: int | None = None, scale: int = 1, gap: int = GAP) -> Image.Image:
    """All images in rows, each `scale` times as large; nearly square unless `columns` says how wide."""
    tiles = [_enlarged(tile, scale) for tile in to_pil(images)]
    columns = min(len(tiles), columns or int(np.ceil(len(tiles) ** 0.5)))
    rows, (width, height) = -(-len(tiles) // columns), tiles[0].size
    page = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), PAPER)
    for place, tile in enumerate(tiles):
        page.paste(tile, (gap + place % columns * (width + gap), gap + place // columns * (height + gap)))
    return page


def difference(candidate: Any, reference: Any, amplify: float) -> list[Image.Image]:
    """|candidate - reference|, mean over the channels, times `amplify`: white is none, black is 1 / amplify of the
    whole range or more. Raises ValueError for unequal shapes."""
    a, b = np.asarray(candidate, np.float64), np.asarray(reference, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"difference: {a.shape} against {b.shape}: the shapes must be equal")
    strength = np.abs(a - b).mean(1) / 2 * amplify  # (N, H, W), 1 is the whole range
    return [Image.fromarray(_coloured(each)) for each in strength]


def contact_sheet(
    rows: Sequence[Row],
    columns: Sequence[str] = (),
    title: str = "",
    subtitle: str = "",
    footer: str = "",
    scale: int = 3,
    amplify: float = 4,
) -> Image.Image:
    """Labelled rows of pictures, maps of the differences below those that have a reference, and a legend."""
    count, side = len(rows[0].images), rows[0].images.shape[-1] * scale
    cell = side + GAP
    left = MARGIN + max(_width(text, size) for row in rows for text, size in _lines(row)) + 28
    heights = [max(cell * (1 + (row.reference is not None)), 12 + LINE * (1 + len(row.notes))) + 12 for row in rows]
    heading = [wrap(name, side, 12) for name in columns]
    top = MARGIN + 30 * bool(title) + 24 * bool(subtitle) + 16 * max((len(h) for h in heading), default=0) + 10
    width = max(left + count * cell, *(_width(text, 14) + 2 * MARGIN for text in (subtitle, footer)))
    compared = any(row.reference is not None for row in rows)
    if compared:
        width = max(width, left + RAMP + 14 + _width(_meaning(amplify), 13))
    height = top + sum(heights) + MARGIN + (36 if compared else 0) + (22 if footer else 0)
    page = Image.new("RGB", (width + MARGIN, height), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN - 6), title, INK, _font(22))
    pen.text((MARGIN, MARGIN + 26), subtitle, FAINT, _font(14))
    _draw_heading(pen, heading, (left + side // 2, top - 8), cell)
    y = top
    for row, high in zip(rows, heights, strict=True):
        pen.line([(MARGIN, y), (left + count * cell - GAP, y)], RULE)
        _draw_row(page, row, (left, y + 9), cell, scale, amplify)
        y += high
    if compared:
        _legend(page, (left, y + 8), amplify)
    pen.text((MARGIN, page.height - MARGIN - 8), footer, FAINT, _font(14))
    return page


def check(path: Path) -> None:
    """Raises ValueError for a suffix that is no picture's; without one a PNG is written."""
    known = Image.registered_extensions()
    if path.suffix and known.get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(f"{path}: a picture isn't written as {path.suffix}: name a .png, .webp or .jpg")


def save(image: Image.Image, path: Path) -> Path:
    """Write a picture aside, then rename it: a reader never sees half of one. Raises what `check` raises."""
    check(path)
    with written_aside(path) as aside:
        image.save(aside, format=None if path.suffix else "PNG")
    return path


def wrap(text: str, width: int, size: int, most: int = 3) -> list[str]:
    """Text in lines no wider than `width` pixels, cut off after `most`."""
    lines: list[str] = []
    for word in text.split():
        if lines and _width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} ..."]
    return lines


# ---- the parts of a sheet


def _draw_heading(pen: ImageDraw.ImageDraw, heading: Sequence[list[str]], at: tuple[int, int], cell: int) -> None:
    """The names of the columns, ending on one line."""
    for place, lines in enumerate(heading):
        for up, line in enumerate(reversed(lines)):
            pen.text((at[0] + place * cell, at[1] - 16 * up), line, FAINT, _font(12), anchor="ms")


def _draw_row(page: Image.Image, row: Row, at: tuple[int, int], cell: int, scale: int, amplify: float) -> None:
    left, top = at
    pen, y = ImageDraw.Draw(page), top
    for text, size in _lines(row):
        pen.text((MARGIN, y), text, INK if size > 13 else FAINT, _font(size))
        y += LINE if size <= 13 else LINE + 4
    for place, tile in enumerate(to_pil(row.images)):
        page.paste(_enlarged(tile, scale), (left + place * cell, top))
    if row.reference is None:
        return
    for place, tile in enumerate(difference(row.images, row.reference, amplify)):
        big = tile.resize((tile.width * scale, tile.height * scale), Image.Resampling.NEAREST)
        page.paste(big, (left + place * cell, top + cell))


def _legend(page: Image.Image, at: tuple[int, int], amplify: float) -> None:
    """The colours of the maps, with what they mean."""
    left, top = at
    ramp = np.repeat(np.linspace(0, 1, RAMP)[None], 12, 0)
    page.paste(Image.fromarray(_coloured(ramp)), (left, top))
    pen = ImageDraw.Draw(page)
    pen.rectangle([(left - 1, top - 1), (left + RAMP, top + 12)], outline=RULE)
    pen.text((left + RAMP + 14, top - 2), _meaning(amplify), FAINT, _font(13))


def _meaning(amplify: float) -> str:
    return f"difference, mean of the channels, amplified {amplify:g}x: black is {1 / amplify:.0%} of the range or more"


def _lines(row: Row) -> list[tuple[str, int]]:
    return [(row.label, 16), *((note, 13) for note in row.notes)]


def _enlarged(tile: Image.Image, scale: int) -> Image.Image:
    return tile if scale == 1 else tile.resize((tile.width * scale, tile.height * scale), Image.Resampling.LANCZOS)


def _bytes(images: Any) -> np.ndarray:
    """(N, H, W, 3) uint8."""
    values = np.asarray(images, np.float64)
    if values.ndim != 4 or values.shape[1] not in (1, 3):
        raise ValueError(f"pictures need shape (N, 3, H, W), but these are {values.shape}: decode latents first")
    rgb = np.broadcast_to(values, (len(values), 3, *values.shape[2:])).transpose(0, 2, 3, 1)
    return ((rgb.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)


def _coloured(strength: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1] -> (H, W, 3) uint8."""
    place = strength.clip(0, 1) * (len(MAGMA) - 1)
    low = place.astype(int).clip(max=len(MAGMA) - 2)
    mixed = MAGMA[low] + (place - low)[..., None] * (MAGMA[low + 1] - MAGMA[low])
    return mixed.round().astype(np.uint8)


def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)


def _width(text: str, size: int) -> int:
    return int(_font(size).getlength(text)) + 1

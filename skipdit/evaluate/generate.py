"""Draw N images in shards, so that an interrupted run goes on where it stopped, and several share the work."""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skipdit.aside import written_aside
from skipdit.attach import attach
from skipdit.catalog import parse
from skipdit.data.images import ImageSet
from skipdit.evaluate.images import SHARDS, read_shard
from skipdit.networks.resize import eight_bits
from skipdit.plan.fingerprint import fingerprint
from skipdit.plan.plan import files_print
from skipdit.sample import sample

SHARD = 256  # images a file
RUN = "run.json"


@dataclass(frozen=True)
class Drawing:
    """How images are drawn: with `count`, all that decides what they are."""

    policy: str = ""  # as it is spelled
    steps: int = 50
    guidance: float = 2.0
    seed: int = 0
    sampler: str | None = None
    passes: str = ""  # what a step asks of the model, as it is spelled
    batch: int = 64  # a gate's verdict is one for the batch


def generate(
    model: Any,
    out: Path,
    count: int,
    drawing: Drawing,
    like: ImageSet | None = None,
    part: tuple[int, int] = (0, 1),
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """The shards of `count` images in `out`; those that are there already are kept, the others are drawn.

    like    a data set whose labels and styles are drawn, each image's in turn; else they are drawn evenly at random
    part    (i, n): draw only every n-th shard, from the i-th on; others may draw theirs at the same time

    Image k depends on the seed and k alone, not on the shards, the part or the count; under a gate, whose verdict is
    one for the batch, on the images beside it, too. Raises ValueError where `out` holds images drawn otherwise.
    """
    conditions = _conditions(model, count, drawing.seed, like)
    said = _said(model, drawing, like)
    _claim(out, said)
    paths = [out / f"images-{number:05}.npz" for number in range(-(-count // SHARD))]
    todo = [range(start, min(start + SHARD, count)) for start in range(0, count, SHARD)]
    done = 0
    for number, (path, rows) in enumerate(zip(paths, todo, strict=True)):
        if path.exists() and len(read_shard(path)) >= len(rows):
            done += len(rows)
        elif number % part[1] == part[0]:
            images = _drawn(model, [conditions[k] for k in rows], rows, drawing)
            _claim(out, said)  # nobody has begun another way meanwhile
            arrays: dict[str, Any] = {"x": images.numpy(), **_names(model, [conditions[k][0] for k in rows])}
            with written_aside(path) as aside:
                np.savez_compressed(aside, **arrays)
            done += len(rows)
        on_image(done, count)
    return paths


def labels_drawn(model: Any, count: int, drawing: Drawing, like: ImageSet | None = None) -> list[str] | None:
    """The name of each image's label, as `generate` draws them; None for a model whose labels have none."""
    conditions = _conditions(model, count, drawing.seed, like)
    names = _names(model, [label for label, _ in conditions])
    return names["label"].tolist() if names else None


def drawing_of(folder: Path) -> Drawing:
    """How the images in a folder were drawn; with no steps where they weren't drawn here."""
    try:
        said = json.loads((folder / RUN).read_text(encoding="utf-8"))
        return Drawing(**{field.name: said[field.name] for field in fields(Drawing)})
    except (OSError, KeyError, TypeError, ValueError):  # none, or somebody else's
        return Drawing(steps=0)


def _drawn(model: Any, conditions: list[tuple[int, int | None]], rows: range, drawing: Drawing) -> Tensor:
    """(B, 3, H, W) uint8, of a Latte (B, F, 3, H, W)."""
    labels = [label for label, _ in conditions]
    styles = [style for _, style in conditions if style is not None] or None
    said: dict[str, Any] = dict(
        steps=drawing.steps, guidance=drawing.guidance, sampler=drawing.sampler, passes=drawing.passes or None
    )
    said |= dict(seed=[drawing.seed * 2**32 + k for k in rows], batch_size=drawing.batch)
    if drawing.policy:
        with attach(model, parse(drawing.policy)):
            images = sample(model, labels, styles, **said)
    else:
        images = sample(model, labels, styles, **said)
    return eight_bits(images).to(torch.uint8).cpu()


def _names(model: Any, labels: list[int]) -> dict[str, np.ndarray]:
    """{"label": the name of each image's label}, nothing for a model whose labels have none."""
    known = model.config.class_names
    return {"label": np.array([known[label] for label in labels])} if known else {}


def _conditions(model: Any, count: int, seed: int, like: ImageSet | None) -> list[tuple[int, int | None]]:
    """(label, style) of each image; a longer list starts like a shorter one."""
    draw = random.Random(seed)
    config = model.config
    if like is None:
        styled = bool(config.get("num_styles"))
        return [
            (draw.randrange(config.num_classes), draw.randrange(config.num_styles) if styled else None)
            for _ in range(count)
        ]
    numbers = [_numbers(like.class_names, config.class_names, "label")]
    if like.style is not None and config.get("num_styles"):
        numbers.append(_numbers(like.style_names, config.style_names, "style"))
    rows = list(range(len(like)))
    draw.shuffle(rows)
    taken = [rows[k % len(rows)] for k in range(count)]
    y = [numbers[0][int(like.y[row])] for row in taken]
    if len(numbers) == 1:
        return [(label, None) for label in y]
    assert like.style is not None
    return list(zip(y, [numbers[1][int(like.style[row])] for row in taken], strict=True))


def _numbers(names: tuple[str, ...], known: Any, what: str) -> list[int]:
    """The model's number of each name. Raises ValueError for a name it doesn't know."""
    number = {name: i for i, name in enumerate(known or ())}
    strange = [name for name in names if name not in number]
    if strange:
        raise ValueError(
            f"the model doesn't know the reference's {what} {strange[0]!r} ({len(strange)} of {len(names)} unknown):"
            " give a reference that it was trained for, or a statistics file"
        )
    return [number[name] for name in names]


def _said(model: Any, drawing: Drawing, like: ImageSet | None) -> dict[str, Any]:
    """All that decides what the images are."""
    files = files_print(drawing.policy)
    said = {"model": fingerprint(model), **asdict(drawing), "shard": SHARD, "like": _labels(like)}
    return said | ({"files": files} if files else {})


def _claim(out: Path, said: dict[str, Any]) -> None:
    """Write down how the images in `out` are drawn. Raises ValueError where that was another way."""
    path = out / RUN
    if path.is_file():
        before = _before(path)
        other = [f"{key}={before.get(key)!r}, not {value!r}" for key, value in said.items() if before.get(key) != value]
        if not other:
            return
        if any(out.glob(SHARDS)):
            raise ValueError(
                f"{out} holds images drawn otherwise ({'; '.join(other)}): delete it or name another --out"
            )
    elif any(not each.name.startswith((".", "run.")) for each in out.glob("*")):  # run.*: another part's, half written
        raise ValueError(f"{out} holds files but no {RUN}, so they weren't drawn here: name another --out")
    with written_aside(path) as aside:
        aside.write_text(json.dumps(said, indent=1))


def _before(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete its folder, or name another --out") from error


def _labels(like: ImageSet | None) -> str:
    """A hash of the labels and styles of a data set, "" for none."""
    if like is None:
        return ""
    styles = [] if like.style is None else like.style.tolist()
    said = json.dumps([like.class_names, like.style_names, like.y.tolist(), styles])
    return hashlib.sha256(said.encode()).hexdigest()[:16]

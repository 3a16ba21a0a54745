"""Start a model from another's weights: equal names are copied, rows of label tables go by label."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from skipdit.catalog import near

CLASSES, STYLES = "y_embedder.embedding_table.weight", "style_embedder.embedding_table.weight"
TABLES = {CLASSES: "class_names", STYLES: "style_names"}


@torch.no_grad()
def start_from(model: Any, other: Any, style: str | None = None, blocks: Sequence[int] | None = None) -> list[str]:
    """Fill `model` with the weights of `other`; the names of the parameters that `other` lacks, which stay fresh.

    A skip branch that is new stays as it was made, and so do the temporal blocks of a Latte that starts from a DiT:
    their gates are zero, each frame goes through the spatial blocks as an image, and block i's branch becomes pair i's.
    Of a label table each row goes to the same label; the last row, for dropped labels, stays the last.

    style     the one to go on with, where `other` knows styles and `model` doesn't: every class takes it on
    blocks    those of `other` to take, in order; all of them when left out. A branch goes with the block it joins

    Raises ValueError where a shape differs, `other` doesn't know a label, or its blocks are not as many as the model's.
    """
    theirs, fresh = _in_style(other, style, keeps=STYLES in model.state_dict()), []
    places = _places(model, other, blocks)
    theirs = {name: weight for key, weight in theirs.items() if (name := _placed(key, places))}
    for name, mine in model.state_dict().items():
        if name not in theirs:
            fresh.append(name)
        elif name in TABLES:
            mine.copy_(_rows(TABLES[name], theirs[name], model.config, other.config))
        elif mine.shape != theirs[name].shape:
            raise ValueError(f"{name} is {tuple(mine.shape)} here, {tuple(theirs[name].shape)} there: equal sizes only")
        else:
            mine.copy_(theirs[name])
    return fresh


def _in_style(other: Any, style: str | None, keeps: bool) -> dict[str, Tensor]:
    """The weights of `other`; where its styles aren't kept, with one of them added to every class."""
    theirs = other.state_dict()
    known = list(other.config.get("style_names") or ())
    if keeps or STYLES not in theirs:
        if style is not None:
            raise ValueError(f"style={style!r} to go on with, but both models know styles or none does: leave it out")
        return theirs
    if style not in known:
        raise ValueError(f"the model to start from draws in styles, this one doesn't: {_choice(style, known)}")
    return {**theirs, CLASSES: theirs[CLASSES] + theirs[STYLES][known.index(style)]}  # (N + 1, D)


def _places(model: Any, other: Any, blocks: Sequence[int] | None) -> dict[tuple[str, int], int]:
    """(list of blocks or branches, number there) -> number in the model: branches count by their target's place, which
    is another where each block becomes a round of blocks."""
    blocks = range(len(other.blocks)) if blocks is None else blocks
    if len(blocks) != len(model.blocks) or not set(blocks) <= set(range(len(other.blocks))):
        raise ValueError(
            f"blocks={list(blocks)} of the {len(other.blocks)} to start from don't make {len(model.blocks)}"
        )
    places = {("blocks", theirs): ours for ours, theirs in enumerate(blocks)}
    here, there = model.backbone.unit, other.backbone.unit
    return places | {("skip_branches", theirs * there): ours * here for ours, theirs in enumerate(blocks)}


def _placed(name: str, places: Mapping[tuple[str, int], int]) -> str | None:
    """A weight's name in the model; None for one of a block that isn't taken."""
    found = re.match(r"(blocks|skip_branches)\.(\d+)", name)
    if found is None:
        return name
    place = places.get((found[1], int(found[2])))
    return None if place is None else f"{found[1]}.{place}{name[found.end() :]}"


def _choice(style: str | None, known: list[str]) -> str:
    if style is None:
        return f"name the one to go on with, style=: {', '.join(known)}"
    return f"style={style!r} is unknown{near(style, known)}"


def _rows(names: str, table: Tensor, config: Any, other: Any) -> Tensor:
    """The rows of `table` (N, D) in the order of this model's labels."""
    ours, theirs = config[names], other[names]
    if ours == theirs:
        return table
    unknown = [name for name in ours or () if name not in (theirs or ())]
    if unknown or not ours:
        raise ValueError(f"{names}: the model to start from does not know {', '.join(unknown[:5]) or 'label names'}")
    place = {name: i for i, name in enumerate(theirs)}
    rows = [place[name] for name in ours]
    return table[rows + list(range(len(theirs), len(table)))]

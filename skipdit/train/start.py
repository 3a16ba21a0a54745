"""Start a model from another's weights: equal names are copied, rows of label tables go by label."""

import re
from typing import Any

import torch
from torch import Tensor

from skipdit.catalog import near

CLASSES, STYLES = "y_embedder.embedding_table.weight", "style_embedder.embedding_table.weight"
TABLES = {CLASSES: "class_names", STYLES: "style_names"}


@torch.no_grad()
def start_from(model: Any, other: Any, style: str | None = None) -> list[str]:
    """Fill `model` with the weights of `other`; the names of the parameters that `other` lacks, which stay fresh.

    A skip branch that is new stays as it was made, and so do the temporal blocks of a Latte that starts from a DiT:
    their gates are zero, each frame goes through the spatial blocks as an image, and block i's branch becomes pair i's.
    Of a label table each row goes to the same label; the last row, for dropped labels, stays the last.

    style    the one to go on with, where `other` knows styles and `model` doesn't: every class takes it on

    Raises ValueError where a shape differs or `other` doesn't know a label.
    """
    theirs, fresh = _in_style(other, style, keeps=STYLES in model.state_dict()), []
    rounds = model.backbone.unit // other.backbone.unit  # 2 where spatial blocks become pairs
    theirs = {_placed(name, rounds): weight for name, weight in theirs.items()}
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


def _placed(name: str, rounds: int) -> str:
    """A weight's name where each block has become a round of blocks: branches are named after their target's place."""
    return re.sub(r"^skip_branches\.(\d+)", lambda at: f"skip_branches.{int(at[1]) * rounds}", name)


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

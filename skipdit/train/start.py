"""Start a model from another's weights: equal names are copied, rows of label tables go by label."""

from typing import Any

import torch
from torch import Tensor

TABLES = {"y_embedder.embedding_table.weight": "class_names", "style_embedder.embedding_table.weight": "style_names"}


@torch.no_grad()
def start_from(model: Any, other: Any) -> list[str]:
    """Fill `model` with the weights of `other`; the names of the parameters that `other` lacks, which stay fresh.

    A skip branch that is new stays as it was made. Of a label table each row goes to the same label; the last row, for
    dropped labels, stays the last. Raises ValueError where a shape differs or `other` doesn't know a label.
    """
    theirs, fresh = other.state_dict(), []
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

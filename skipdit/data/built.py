"""A built set on disk: one array of pictures or clips, and a JSON row for each of them."""

import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skipdit.aside import written_aside

Rows = Sequence[dict[str, Any]]


def write_built(folder: Path, what: str, x: np.ndarray, rows: Rows) -> None:
    """Write x as `WHAT.npz` and the rows as `rows.json`, each aside and then renamed."""
    with written_aside(folder / f"{what}.npz") as aside:
        np.savez_compressed(aside, x=x)
    with written_aside(folder / "rows.json") as aside:
        aside.write_text(json.dumps(list(rows), ensure_ascii=False), encoding="utf-8")


def read_built(folder: Path, what: str, axes: int, keys: Sequence[str]) -> tuple[np.ndarray, Rows]:
    """What `write_built` wrote: x uint8 of so many axes, the last of them RGB, and rows that have these keys.

    Raises ValueError for a damaged or mismatched pair of files.
    """
    try:
        with np.load(folder / f"{what}.npz", allow_pickle=False) as arrays:
            x = arrays["x"]
        rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
        for row in rows:
            _ = [row[key] for key in keys]
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder}: {what}.npz or rows.json is damaged ({error}): build the data again") from error
    if len(rows) != len(x) or x.dtype != np.uint8 or x.ndim != axes or x.shape[-1] != 3:
        raise ValueError(f"{folder}: {x.dtype} {what} {x.shape} but {len(rows)} rows: build the data again")
    return x, rows


def numbered(names: Sequence[str]) -> tuple[tuple[str, ...], Tensor]:
    """The distinct names in order, and the number of each one (N,)."""
    distinct = tuple(sorted(set(names)))
    number = {name: i for i, name in enumerate(distinct)}
    return distinct, torch.tensor([number[name] for name in names])

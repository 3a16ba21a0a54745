"""Read pickles of numpy arrays without running what is in them: three names are known, all others are refused."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# All that a pickle of plain arrays needs; numpy 2 calls `core` `_core`.
KNOWN = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
}


class Arrays(pickle.Unpickler):
    """Dicts, numbers, text and arrays; nothing can be called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which arrays don't need")
        return KNOWN[module, name]


def read_arrays(path: Path) -> dict[str, Tensor]:
    """{path in the tree of dicts, "a/b/kernel": tensor}. Raises ValueError for a pickle of anything else."""
    try:
        with path.open("rb") as file:
            tree = Arrays(file).load()
        return dict(_leaves(tree))
    except (pickle.UnpicklingError, EOFError, AttributeError, TypeError, IndexError) as error:
        raise ValueError(f"{path} is no pickle of arrays: {error}") from error


def _leaves(tree: Mapping[str, Any], above: str = "") -> list[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{above}{name}/")
        else:
            found.append((above + name, torch.from_numpy(np.ascontiguousarray(value))))
    return found


def kernel(weight: Tensor) -> Tensor:
    """A convolution's kernel from (*window, in, out) to (out, in, *window)."""
    axes = weight.dim()
    return weight.permute(axes - 1, axes - 2, *range(axes - 2)).contiguous()

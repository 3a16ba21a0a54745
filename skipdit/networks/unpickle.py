"""Read weights out of pickles without running what is in them: a few names are known, all others are refused."""

import pickle
import zipfile
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
# What a TorchScript archive says besides its own classes and its tensors.
STUBBED = {("torch", "FloatStorage"), ("torch.jit._pickle", "build_intlist"), ("collections", "OrderedDict")}


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


# ---- TorchScript archives


class Stub:
    """Stands in for a class whose code is not wanted: it keeps what the pickle says of it."""

    def __init__(self, *said: Any) -> None:
        self.said = said

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class Script(pickle.Unpickler):
    """The tree of modules in a TorchScript archive, its tensors rebuilt, its code left alone."""

    def __init__(self, archive: zipfile.ZipFile, top: str) -> None:
        super().__init__(archive.open(f"{top}/data.pkl"))
        self.read = lambda key: archive.read(f"{top}/data/{key}")

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return self.rebuilt
        if module.startswith("__torch__.") or (module, name) in STUBBED:
            return type(name, (Stub,), {})
        raise pickle.UnpicklingError(f"it wants {module}.{name}, which a network's weights don't need")

    def persistent_load(self, said: Any) -> Tensor:
        kind, dtype, key, _, _ = said
        if kind != "storage" or dtype.__name__ != "FloatStorage":
            raise pickle.UnpicklingError(f"it holds a {kind} of {dtype.__name__}, not of float32")
        return torch.frombuffer(bytearray(self.read(key)), dtype=torch.float32)

    @staticmethod
    def rebuilt(storage: Tensor, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Tensor:
        return storage.as_strided(shape, strides, offset).clone()


def read_script(path: Path) -> dict[str, Tensor]:
    """{"net.layers.conv.weight": tensor} of a TorchScript archive; none of its code runs. Raises ValueError."""
    try:
        with zipfile.ZipFile(path) as archive:
            top = archive.namelist()[0].partition("/")[0]
            return dict(_tensors(Script(archive, top).load()))
    except (pickle.UnpicklingError, zipfile.BadZipFile, KeyError, EOFError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no TorchScript archive of float32 weights: {error}") from error


def _tensors(node: Stub, above: str = "") -> list[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []
    for name, value in vars(node).items():
        if isinstance(value, Tensor):
            found.append((above + name, value))
        elif isinstance(value, Stub):
            found += _tensors(value, f"{above}{name}.")
    return found

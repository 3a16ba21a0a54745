"""Published weights: reads files of DiT, Latte and Skip-DiT (class to image, class to video), and converts them."""

import argparse
import math
import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skipdit.backbones.dit import SIZES, DiT, Named
from skipdit.backbones.latte import Latte

# What tells the sizes of a model, and how many dimensions each of these tensors has.
TELLING = {
    "x_embedder.proj.weight": 4,  # (D, C, p, p)
    "pos_embed": 3,  # (1, T, D)
    "blocks.0.mlp.fc1.weight": 2,  # (hidden, D)
    "final_layer.linear.weight": 2,  # (p*p*C, or twice that with a learned sigma, D)
}
LABELS = ("y_embedder.embedding_table.weight", 2)  # (classes, and 1 more for the null class, D); not in most Lattes
FRAMES = ("temp_embed", 3)  # (1, F, D); in Lattes alone
# A file doesn't say how many heads it was trained with, but the paper's sizes differ in width.
HEADS = {size.keywords["hidden_size"]: size.keywords["num_heads"] for size in SIZES.values()}


def read_released(file: str | Path) -> Named:
    """The DiT or Latte in a file published with DiT, Latte or Skip-DiT, in evaluation mode and in the file's dtype.

    The sizes are read off the weights' shapes. Of a training checkpoint the averaged weights (`ema`) are taken. No code
    in a file is ever run. Nothing in a file says what the model predicts: `prediction` is "epsilon", as in the papers.
    Raises ValueError for a file that can't be read as such weights, FileNotFoundError where there is none.
    """
    return _read(Path(file), None)


def convert(file: str | Path, out: str | Path, dtype: torch.dtype | None = torch.float16) -> Named:
    """Write a published file as a Hugging Face folder, for `skipdit.from_pretrained(out)`, and return the model.

    dtype    the weights' dtype in the folder; None keeps the file's

    The folder appears when it is whole. Raises FileExistsError where `out` holds something already.
    """
    vacant(out)
    model = _read(Path(file), dtype)
    save_whole(model, out)
    return model


def vacant(out: str | Path) -> None:
    """Raises FileExistsError where `out` holds something already."""
    if Path(out).exists() and not (Path(out).is_dir() and not any(Path(out).iterdir())):
        raise FileExistsError(f"{out} exists already and is left as it is: name a new folder, or remove it first")


def save_whole(model: Any, out: str | Path) -> None:
    """Save a model as a folder that appears when it is whole."""
    place = Path(out).resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as aside:
        model.save_pretrained(Path(aside) / "model")
        if place.exists():
            place.rmdir()
        os.replace(Path(aside) / "model", place)


def _read(file: Path, dtype: torch.dtype | None) -> Named:
    weights, classes = _weights(_load(file))
    kind, name_of = (Latte, _latte_name) if FRAMES[0] in weights else (DiT, _dit_name)
    config = _config(file, weights, classes)
    with torch.device("meta"):  # no memory, no random numbers: every weight comes from the file
        model = kind(**config)
    theirs = {name: name_of(name, config["depth"]) for name in model.state_dict()}
    expected = {theirs[name]: weight.shape for name, weight in model.state_dict().items()}
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    misshapen = [n for n in expected if n in weights and weights[n].shape != expected[n]]
    if missing or unexpected or misshapen:
        raise _stranger(file, missing, unexpected, [f"{n} {tuple(weights[n].shape)}" for n in misshapen])
    # A copy of each weight, since the file's own memory is mapped and ends with the file.
    state = {name: weights[theirs[name]].detach().to(dtype=dtype, copy=True) for name in theirs}
    model.load_state_dict(state, assign=True)
    return model.eval()


def _load(file: Path) -> Any:
    """What is stored in a file. Only tensors, plain containers and the authors' training arguments are let in."""
    if file.is_dir():
        raise ValueError(
            f"{file} is a folder: skipdit.from_pretrained reads those, this reads a file of published weights"
        )
    file.open("rb").close()  # refuses a file that is missing or not ours to read, by its own error
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as cause:
        raise ValueError(
            f"{file} can't be read as weights: it is cut off, or no torch or safetensors file, or it holds more than "
            "weights, which might be code and was not run. Download it again, or save its state dict alone"
        ) from cause


def _weights(stored: Any) -> tuple[dict[str, Tensor], int]:
    """The model's weights under their plain names, and the number of classes that the training arguments tell."""
    stored = stored if isinstance(stored, dict) else {}
    classes = getattr(stored.get("args"), "num_classes", 1000)  # 1000 is what both authors' train.py take by default
    for name in ("ema", "model"):
        if isinstance(stored.get(name), dict):
            stored = stored[name]
            break
    plain = {re.sub(r"^((module|_orig_mod)\.)+", "", str(name)): weight for name, weight in stored.items()}
    return {name: w for name, w in plain.items() if isinstance(w, Tensor) and w.is_floating_point()}, classes


def _config(file: Path, weights: dict[str, Tensor], classes: int) -> dict[str, Any]:
    """The sizes of a DiT, from the shapes of its weights."""
    video = FRAMES[0] in weights
    telling = TELLING | dict([FRAMES] * video + [LABELS] * (not video or LABELS[0] in weights))
    silent = [n for n, dims in telling.items() if n not in weights or weights[n].ndim != dims or not weights[n].numel()]
    if silent:
        raise _stranger(file, silent, [name for name in weights if name not in telling], [])
    patches, positions, hidden, final = (weights[name].shape for name in TELLING)
    width, channels, patch, _ = patches
    if width not in HEADS:
        raise ValueError(
            f"{file} holds a model of width {width}, and its weights don't tell the number of heads: widths "
            f"{sorted(HEADS)} are known. Build the model with hidden_size={width} and load the state dict"
        )
    rows = len(weights[LABELS[0]]) if LABELS[0] in telling else 0
    nulled = rows not in (0, classes)  # has the table an extra last row for dropped labels?
    return {
        "input_size": patch * math.isqrt(positions[1]),
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": width,
        "depth": len({name.split(".")[1] for name in weights if name.startswith("blocks.")}),
        "num_heads": HEADS[width],
        "mlp_ratio": hidden[0] / width,
        "class_dropout_prob": 0.1 if nulled else 0.0,
        "num_classes": rows - nulled,
        "learn_sigma": final[0] == 2 * patch * patch * channels,
        "skips": "replace" if any(name.startswith("skip_") for name in weights) else None,
        **({"num_frames": weights[FRAMES[0]].shape[1]} if video else {}),
    }


def _dit_name(name: str, depth: int) -> str:
    """The name of one of our DiT's weights in a released file.

    The authors' `DiT_skip.forward` joins before block `index` with `skip_linears[index - depth // 2]` and the same
    of `skip_norms` (Skip-DiT, class-to-image/models.py); ours are keyed by the block that the branch enters.
    """
    if not name.startswith("skip_branches."):
        return name
    _, target, part, leaf = name.split(".")
    return _branch_name(int(target) - depth // 2, part, leaf)


def _latte_name(name: str, depth: int) -> str:
    """The name of one of our Latte's weights: there all blocks are in one list, spatial and temporal in turns.

    The authors' `Latte_skip.forward` joins before spatial block `i` with `skip_linears[(i - 14) // 2]`, for depth 28
    (Skip-DiT, class-to-video/models/latte.py); ours are keyed by the same number.
    """
    kind, _, rest = name.partition(".")
    if kind in ("blocks", "temporal_blocks"):
        pair, _, leaf = rest.partition(".")
        return f"blocks.{2 * int(pair) + (kind == 'temporal_blocks')}.{leaf}"
    if kind != "skip_branches":
        return name
    target, part, leaf = rest.split(".")
    pairs = depth // 2
    return _branch_name(int(target) // 2 - (pairs - pairs // 2), part, leaf)


def _branch_name(i: int, part: str, leaf: str) -> str:
    return f"skip_norms.{i}.{leaf}" if part == "norm" else f"skip_linears.{i}.linear.{leaf}"


def _stranger(file: Path, missing: list[str], unexpected: list[str], misshapen: list[str]) -> ValueError:
    """The refusal of another model's weights, with a few names of each kind that doesn't fit."""
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    lists = [f"{kind}: {', '.join(n[:3])}{' ...' * (len(n) > 3)} ({len(n)})" for kind, n in kinds.items() if n]
    return ValueError(
        f"{file} doesn't hold the weights of a class-conditional DiT, Latte or Skip-DiT; {'; '.join(lists)}. Use a "
        "file of facebookresearch/DiT, Latte or Skip-DiT; skipdit.from_pretrained reads our own folders"
    )

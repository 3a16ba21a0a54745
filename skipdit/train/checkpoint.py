"""Checkpoints: weights in safetensors, optimizer state beside them, written aside and renamed."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

PREFIX = "checkpoint-"


class Resumed(NamedTuple):
    """Where a run goes on."""

    folder: Path
    step: int


def latest(run: Path) -> Resumed | None:
    """The newest whole checkpoint of a run. One that was cut off in writing still has its partial name and is passed over."""
    found = [p for p in run.glob(PREFIX + "*") if p.name.removeprefix(PREFIX).isdigit()]
    if not found:
        return None
    newest = max(found, key=lambda p: int(p.name.removeprefix(PREFIX)))
    return Resumed(newest, int(newest.name.removeprefix(PREFIX)))


def save(run: Path, step: int, model: Any, ema: Any, optimizer: torch.optim.Optimizer, about: dict) -> Path:
    """Write `checkpoint-STEP` with the folders model/ and ema/, optimizer.pt and state.json."""
    final, aside = run / f"{PREFIX}{step:07d}", run / f"{PREFIX}{step:07d}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    model.save_pretrained(aside / "model")
    ema.save_pretrained(aside / "ema")
    torch.save(optimizer.state_dict(), aside / "optimizer.pt")
    (aside / "state.json").write_text(json.dumps({"step": step, **about}, indent=1))
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    return final


def load_weights(module: nn.Module, folder: Path) -> None:
    """Fill a module in place from a checkpoint's model/ or ema/ folder."""
    from safetensors.torch import load_file

    (file,) = folder.glob("*.safetensors")
    module.load_state_dict(load_file(file))


def load_optimizer(optimizer: torch.optim.Optimizer, folder: Path) -> None:
    optimizer.load_state_dict(torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True))


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints."""
    found = sorted(p for p in run.glob(PREFIX + "*") if p.name.removeprefix(PREFIX).isdigit())
    for old in found[:-keep]:
        shutil.rmtree(old)

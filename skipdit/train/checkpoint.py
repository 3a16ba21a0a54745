"""Checkpoints: weights in safetensors, optimizer state beside them, written aside and renamed."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from torch import nn

from skipdit.train.recipe import Recipe

PREFIX = "checkpoint-"
DAMAGE = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, EOFError, OSError, UnpicklingError)
MAY_CHANGE = {"steps", "decay"}  # of a recipe, when a run goes on: how long it lasts and how it ends


class Resumed(NamedTuple):
    """Where a run goes on."""

    folder: Path
    step: int


def latest(run: Path) -> Resumed | None:
    """The newest whole checkpoint of a run; one cut off in writing keeps its partial name and is passed over."""
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


def stored(folder: Path) -> dict[str, Any]:
    """What a checkpoint was made with: "step", "recipe", "images", "processes", "stages" and the model's "config".

    What its recipe doesn't say yet, since it is older, is as it was then: the default. Raises ValueError for a damaged
    one.
    """
    with _undamaged(folder):
        config = json.loads((folder / "model" / "config.json").read_text())
        state = {"stages": None, **json.loads((folder / "state.json").read_text())}
        return {**state, "recipe": asdict(Recipe()) | state["recipe"], "config": public(config)}


def public(config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's config without what diffusers adds to it."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def refuse_another(folder: Path, about: Mapping[str, Any], model: Any) -> None:
    """Raises ValueError, naming what differs, where a checkpoint was made with another recipe, model or data set."""
    was, config = stored(folder), json.loads(json.dumps(public(model.config)))  # lists, as JSON has no tuples
    pairs = [(name, was["recipe"].get(name), now) for name, now in about["recipe"].items() if name not in MAY_CHANGE]
    pairs += [(name, was["config"].get(name), now) for name, now in config.items()]
    pairs += [(name, was[name], about[name]) for name in ("images", "processes")]
    differ = [f"{name} was {_brief(a)} and is {_brief(b)}" for name, a, b in pairs if a != b]
    if differ:
        raise ValueError(f"{folder} can't be gone on with: {'; '.join(differ)}: say the same, or begin another run")


def _brief(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, (list, tuple)) else repr(value)


def load_weights(module: nn.Module, folder: Path) -> None:
    """Fill a module in place from a checkpoint's model/ or ema/ folder. Raises ValueError for a damaged one."""
    from safetensors.torch import load_file

    with _undamaged(folder.parent):
        (file,) = folder.glob("*.safetensors")
        module.load_state_dict(load_file(file))


def load_optimizer(optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Raises ValueError for a damaged one."""
    with _undamaged(folder):
        optimizer.load_state_dict(torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True))


@contextmanager
def _undamaged(folder: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except PermissionError:
        raise
    except (*DAMAGE, SafetensorError) as error:
        reason = f"{type(error).__name__}: " + str(error).split(". ")[0].split("\n")[0]
        raise ValueError(
            f"{folder} is damaged ({reason}): delete it, and --resume goes on from the one before"
        ) from error


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints."""
    found = sorted(p for p in run.glob(PREFIX + "*") if p.name.removeprefix(PREFIX).isdigit())
    for old in found[:-keep]:
        shutil.rmtree(old)

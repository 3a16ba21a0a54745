"""What a training run is told: the command line, together with the run to go on with or the model to start from."""

import shlex
from dataclasses import asdict, fields
from enum import StrEnum
from typing import Any

import typer

from skipdit.cli.options import flag, typed
from skipdit.train.recipe import Recipe

FRAMES = 8  # of a clip, unless said
CONFIG = {  # option: its name in the model's config, where that is another
    "image_size": "input_size",
    "patch_size": "",
    "hidden_size": "",
    "depth": "",
    "num_heads": "",
    "skips": "",
    "pairs": "skip_pairs",
    "prediction": "",
    "learn_sigma": "",
    "frames": "num_frames",
    "temporal": "",
}


class Skips(StrEnum):
    REPLACE = "replace"
    JOIN = "join"
    NONE = "none"


class Temporal(StrEnum):
    ATTENTION = "attention"
    SHIFT = "shift"
    NONE = "none"


class Prediction(StrEnum):
    V = "v_prediction"
    EPSILON = "epsilon"
    FLOW = "flow"


class Said:
    """What the command line said: what was typed, and what that means together with a run or a model to start from."""

    def __init__(self, ctx: typer.Context):
        self.values = dict(ctx.params)
        self.typed = set(typed(ctx))
        self.flags = {name: flag(ctx, name) for name in self.values}

    def settled(self) -> dict[str, Any]:
        """Every option's value: as typed, else as the resumed run or the model to start from has it, or the default."""
        from skipdit.train import checkpoint

        if self.values["init"] is None and (lone := self.typed & {"init_style", "init_blocks"}):
            raise ValueError(f"{self.flags[min(lone)]} says how to start from a model: name it with --init")
        before = checkpoint.latest(self.values["run"]) if self.values["resume"] else None
        known: dict[str, Any] = {}
        if before:
            stored = checkpoint.stored(before.folder)
            known = {**_options(stored["config"]), **stored["recipe"], "init": None}
        elif self.values["init"]:
            from skipdit.backbones.dit import described

            known = _options(described(self.values["init"])[1])
        settings = {**self.values, **{k: v for k, v in known.items() if k in self.values and k not in self.typed}}
        if settings["frames"] is None and (settings["data"] / "clips.npz").exists():
            settings["frames"] = FRAMES
        if settings["frames"] is None and (lone := self.typed & {"temporal", "interval"}):
            raise ValueError(f"{self.flags[min(lone)]} is for clips: say their --frames, or leave it out")
        if self.values["init"] and "depth" not in self.typed:
            settings["depth"] = len(numbered(settings["init_blocks"]) or range(settings["depth"]))
            if "frames" not in known and settings["frames"] and settings["temporal"] == Temporal.ATTENTION:
                settings["depth"] *= 2  # each block of the DiT to start from becomes a pair
        return settings

    def again(self) -> str:
        """The command that goes on."""
        words = ["skipdit", "train"]
        for name, value in self.values.items():
            if name not in self.typed or name in ("resume", "init", "init_style", "init_blocks", "dry_run"):
                continue
            said = self.flags[name]
            words += (
                [said] if value is True else [said.replace("--", "--no-")] if value is False else [said, str(value)]
            )
        return shlex.join([*words, "--resume"])


def _options(config: dict[str, Any]) -> dict[str, Any]:
    """A model's config as options."""
    found = {option: config[name or option] for option, name in CONFIG.items() if (name or option) in config}
    pairs = ",".join(f"{source}:{target}" for source, target in found.get("pairs") or ())
    return {**found, "skips": found["skips"] or "none", "pairs": pairs or None}


def made(settings: dict[str, Any]) -> tuple[Any, Any]:
    """The images or clips to train on and those held out, and the model."""
    import torch

    from skipdit.cli.ours import ours
    from skipdit.train.start import start_from

    data = _data(settings)
    if settings["labels"]:
        data = data.only(list(filter(None, settings["labels"].read_text(encoding="utf-8").splitlines())))
    torch.manual_seed(settings["seed"])
    model = _model(settings, data)
    if settings["init"]:
        start_from(model, ours(settings["init"]), settings["init_style"], numbered(settings["init_blocks"]))
    return data.split(), model


def _data(settings: dict[str, Any]) -> Any:
    from skipdit.data import open_clips, open_images

    if settings["frames"] is not None:
        return open_clips(settings["data"], settings["image_size"], settings["frames"], settings["interval"])
    return open_images(settings["data"], settings["image_size"])


def _model(settings: dict[str, Any], data: Any) -> Any:
    """A DiT for images, a Latte for clips, of the classes and styles of the data."""
    from skipdit.backbones.dit import DiT
    from skipdit.backbones.latte import Latte

    config = {name or option: settings[option] for option, name in CONFIG.items()}
    config |= dict(in_channels=3, num_classes=len(data.class_names), class_names=list(data.class_names))
    config |= dict(
        skips=None if settings["skips"] == "none" else str(settings["skips"]),
        skip_pairs=paired(settings["pairs"]),
        prediction=str(settings["prediction"]),
        temporal=str(settings["temporal"]),
    )
    if settings["frames"] is not None:
        return Latte(**config)
    del config["num_frames"], config["temporal"]
    return DiT(**config, num_styles=len(data.style_names), style_names=list(data.style_names) or None)


def recipe_of(settings: dict[str, Any]) -> Recipe:
    return Recipe(**{field.name: settings[field.name] for field in fields(Recipe)})


def resolved(settings: dict[str, Any], images: Any, model: Any) -> dict[str, Any]:
    """All that a run would be told, and what it would find."""
    from skipdit.train.checkpoint import public

    config = {name: value for name, value in public(model.config).items() if not name.endswith("_names")}
    return {
        "recipe": asdict(recipe_of(settings)),
        "model": {**config, "parameters": sum(p.numel() for p in model.parameters())},
        "data": {
            "folder": str(settings["data"]),
            "samples": len(images),
            "classes": len(images.class_names),
            "styles": list(images.style_names),
        },
        **{
            name: settings[name]
            for name in ("init", "init_style", "init_blocks", "resume", "max_minutes", "save_every", "keep", "threads")
        },
        "out": str(settings["run"]),
    }


def numbered(said: str | None) -> list[int] | None:
    """ "0,1,7" -> numbers. Raises ValueError for what isn't spelled so."""
    if not said:
        return None
    if not all(number.strip().isdigit() for number in said.split(",")):
        raise ValueError(f"blocks {said!r}: spell them as numbers, as in 0,1,7")
    return [int(number) for number in said.split(",")]


def paired(said: str | None) -> list[tuple[int, int]] | None:
    """ "0:27,1:26" -> pairs (source, target). Raises ValueError for what isn't spelled so."""
    if not said:
        return None
    halves = [pair.split(":") for pair in said.split(",")]
    if not all(len(pair) == 2 and all(number.strip().isdigit() for number in pair) for pair in halves):
        raise ValueError(f"pairs {said!r}: spell them source:target, as in 0:27,1:26")
    return [(int(source), int(target)) for source, target in halves]

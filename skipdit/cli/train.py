"""skipdit train: train a DiT on pictures or a Latte on clips, with or without skip branches."""

import inspect
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from skipdit.cli.data import EMOJI
from skipdit.cli.options import Threads
from skipdit.cli.terminal import err, examples, out, print_json
from skipdit.cli.watch import Shown, Stop, asked_to_stop, draw_samples
from skipdit.train.recipe import Recipe

PANEL: dict[str, Any] = {"rich_help_panel": "Model"}
FRAMES = 8  # of a clip, unless said
SIZES = {"image_size": "input_size", "patch_size": "", "hidden_size": "", "depth": "", "num_heads": ""}
CONFIG = {
    **SIZES,
    "skips": "",
    "pairs": "skip_pairs",
    "prediction": "",
    "learn_sigma": "",
    "frames": "num_frames",
    "temporal": "",
}  # option -> its name in the model's config


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


def add_to(app: typer.Typer) -> None:
    app.command(
        "train",
        epilog=examples(
            "skipdit train --out runs/skip --max-minutes 90",
            "skipdit train --out runs/skip --resume",
            "skipdit train --out runs/plain --skips none",
            "skipdit train --out runs/latte --data data/animation --init emoji-skip --init-style fluent3d --images 4",
            "skipdit train --out runs/converted --init emoji-plain --skips join --two-stage --steps 5000",
            "skipdit train --out runs/branches --init emoji-plain --skips join --freeze backbone --steps 2000",
            "torchrun --nproc-per-node 2 -m skipdit.cli train --data photos --out runs/photos --image-size 64",
        ),
    )(with_recipe(train))


def with_recipe(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one option for each field of the recipe, with its default and its caption."""
    hints = get_type_hints(Recipe, include_extras=True)
    signature = inspect.signature(command)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    added = []
    for field in fields(Recipe):
        kind: Any
        kind, caption = hints[field.name].__origin__, hints[field.name].__metadata__[0]
        option: Any = Annotated[
            kind, typer.Option(help=caption[0].upper() + caption[1:] + ".", rich_help_panel="Recipe")
        ]
        added.append(
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=option)
        )
    command.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    command.__annotations__ |= {p.name: p.annotation for p in added}
    return command


def _size(caption: str, low: int | None = 1) -> Any:
    return typer.Option(help=caption, min=low, **PANEL)


def train(
    ctx: typer.Context,
    run: Annotated[Path, typer.Option("--out", "-o", help="The run's folder: checkpoints, metrics, samples.")],
    data: Annotated[Path, typer.Option(help="A built set, or FOLDER/<class>/ with pictures, or clips.")] = EMOJI,
    labels: Annotated[Path | None, typer.Option(help="Train on these classes alone: a text file, one a line.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
    init: Annotated[
        str | None, typer.Option(help="Start from the weights of a shipped model, a folder or owner/name.")
    ] = None,
    init_style: Annotated[
        str | None, typer.Option(help="Of a model to start from that knows styles: the one to go on with.")
    ] = None,
    init_blocks: Annotated[
        str | None,
        typer.Option(help="Of a model to start from: its blocks to take, such as 0,1,2,5,6,7.", show_default="all"),
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop, with a checkpoint, after so long.")] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500,
    keep: Annotated[int, typer.Option(min=1, help="Checkpoints to keep.")] = 2,
    threads: Threads = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the whole configuration as JSON and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line.")] = False,
    image_size: Annotated[int, _size("Side of the pictures, in pixels.")] = 32,
    patch_size: Annotated[int, _size("Side of the squares that become tokens.")] = 4,
    hidden_size: Annotated[int, _size("Channels of the main stream.")] = 192,
    depth: Annotated[int, _size("Blocks, of a Latte spatial and temporal ones in all.")] = 8,
    num_heads: Annotated[int, _size("Attention heads.")] = 4,
    skips: Annotated[Skips, typer.Option(help="How long skip branches join.", **PANEL)] = Skips.REPLACE,
    pairs: Annotated[
        str | None,
        typer.Option(help="Of blocks, source:target.", show_default="mirrored: 0:7,1:6 ...", **PANEL),
    ] = None,
    prediction: Annotated[Prediction, typer.Option(help="What the network predicts.", **PANEL)] = Prediction.V,
    learn_sigma: Annotated[bool, typer.Option(help="Learn the variance too.", **PANEL)] = False,
    frames: Annotated[
        int | None,
        typer.Option(help="Train a Latte on clips of so many frames.", min=1, show_default="8 for clips", **PANEL),
    ] = None,
    interval: Annotated[int, typer.Option(help="Of videos in class folders: every so many frames one.", min=1)] = 1,
    temporal: Annotated[
        Temporal, typer.Option(help="How the frames of a clip see each other.", **PANEL)
    ] = Temporal.ATTENTION,
    **recipe: Any,
) -> None:
    """Train a DiT. The defaults are those of the shipped Skip-DiT; Ctrl-C saves, and --resume goes on bit for bit.

    On clips, a Latte is trained; with --init its spatial blocks may start as
    those of a DiT. What is left out is taken from the run with --resume, and
    from the model with --init. Samples of the averaged model are drawn at each
    checkpoint. Works under torchrun and accelerate launch.
    """
    said = Said(ctx)
    settings = said.settled()
    if threads:
        import torch

        torch.set_num_threads(threads)
    (images, held), model = _made(settings)
    if dry_run:
        return print_json(_resolved(settings, images, model))
    _run(said, settings, images, held, model)


class Said:
    """What the command line said: what was typed, and what that means together with a run or a model to start from."""

    def __init__(self, ctx: typer.Context):
        self.values = dict(ctx.params)
        self.typed = {
            name for name in ctx.params if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"
        }

    def settled(self) -> dict[str, Any]:
        """Every option's value: as typed, else as the resumed run or the model to start from has it, or the default."""
        from skipdit.train import checkpoint

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
            flag = "--" + {"run": "out", "as_json": "json"}.get(name, name).replace("_", "-")
            words += (
                [flag] if value is True else [flag.replace("--", "--no-")] if value is False else [flag, str(value)]
            )
        return shlex.join([*words, "--resume"])


def _options(config: dict[str, Any]) -> dict[str, Any]:
    """A model's config as options."""
    found = {option: config[name or option] for option, name in CONFIG.items() if (name or option) in config}
    pairs = ",".join(f"{source}:{target}" for source, target in found.get("pairs") or ())
    return {**found, "skips": found["skips"] or "none", "pairs": pairs or None}


def _made(settings: dict[str, Any]) -> tuple[Any, Any]:
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


def _recipe(settings: dict[str, Any]) -> Recipe:
    return Recipe(**{field.name: settings[field.name] for field in fields(Recipe)})


def _resolved(settings: dict[str, Any], images: Any, model: Any) -> dict[str, Any]:
    """All that a run would be told, and what it would find."""
    from skipdit.train.checkpoint import public

    config = {name: value for name, value in public(model.config).items() if not name.endswith("_names")}
    return {
        "recipe": asdict(_recipe(settings)),
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


# ---- the run --------------------------------------------------------------------------------------------------------


def _run(said: Said, settings: dict[str, Any], images: Any, held: Any, model: Any) -> None:
    """Train, show it, and end as it ended: done, stopped, or interrupted."""
    from skipdit.train.loop import launched
    from skipdit.train.loop import train as loop

    recipe, run = _recipe(settings), settings["run"]
    accelerator = launched(recipe)
    quiet, start = settings["as_json"] or not accelerator.is_main_process, time.monotonic()
    what = "images" if settings["frames"] is None else "clips"
    note = _slow(recipe.precision, accelerator.device.type)
    with Shown(recipe.steps, quiet, what, note) as shown, asked_to_stop() as stop:

        def on_save(step: int, ema: Any) -> None:
            picture = draw_samples(run, step, ema)
            shown.say(f"step {step}  loss {shown.loss:.4f}  {shown.rate:.0f} {shown.what}/s  saved, drawn: {picture}")

        options = {name: settings[name] for name in ("resume", "max_minutes", "save_every", "keep")}
        options |= {"accelerator": accelerator, "on_step": shown, "on_save": on_save, "stop": stop, "held": held}
        try:
            step = loop(model, images, recipe, run, **options)
        except KeyboardInterrupt:
            words = f"interrupted; go on from the newest checkpoint: {said.again()}"
            err(quiet).print(words, soft_wrap=True, markup=False)
            raise typer.Exit(130) from None
    if not accelerator.is_main_process:
        raise typer.Exit(128 + stop.heard if stop.heard else 0)
    if settings["as_json"]:
        seconds = round(time.monotonic() - start, 1)
        figures = {"loss": shown.loss, "samples_per_s": shown.rate} if shown.seen else {}
        print_json({"out": str(run), "step": step, "of": recipe.steps, "seconds": seconds, **figures})
    _end(said, run, step, recipe.steps, stop, quiet)


def _slow(precision: str, device: str) -> str:
    """Many processors have no bfloat16 arithmetic: torch then emulates it, tens of times slower than float32."""
    if precision != "bf16" or device != "cpu":
        return ""
    import torch

    def seconds(dtype: torch.dtype) -> float:
        x = torch.zeros(256, 256, dtype=dtype)
        start = time.perf_counter()
        _ = x @ x
        return time.perf_counter() - start

    fast, slow = (min(seconds(dtype) for _ in range(3)) for dtype in (torch.float32, torch.bfloat16))
    if slow <= 3 * fast:
        return ""
    return f"this processor multiplies bfloat16 {slow / fast:.0f} times slower than float32: take --precision no"


def _end(said: Said, run: Path, step: int, steps: int, stop: Stop, quiet: bool) -> None:
    """How the run ended, and what can be done now."""
    if step >= steps:
        last = run / f"checkpoint-{step:07d}" / "ema"
        out(quiet).print(f"done: skipdit sample {last} --list-labels", soft_wrap=True, markup=False)
    elif not stop.heard:
        out(quiet).print(f"time is up at step {step}; go on: {said.again()}", soft_wrap=True, markup=False)
    else:
        err().print(f"stopped at step {step}, saved; go on: {said.again()}", soft_wrap=True, markup=False)
        raise typer.Exit(128 + stop.heard)

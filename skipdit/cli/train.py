"""skipdit train: train a DiT on pictures or a Latte on clips, with or without skip branches."""

import inspect
import shlex
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from skipdit.cli.data import EMOJI
from skipdit.cli.options import Threads
from skipdit.cli.settings import Prediction, Said, Skips, Temporal, made, recipe_of, resolved
from skipdit.cli.terminal import err, examples, out, print_json
from skipdit.cli.watch import Shown, Stop, asked_to_stop, draw_samples
from skipdit.train.recipe import Recipe

PANEL: dict[str, Any] = {"rich_help_panel": "Model"}


def add_to(app: typer.Typer) -> None:
    app.command(
        "train",
        epilog=examples(
            "skipdit train --out runs/skip --max-minutes 90",
            "skipdit train --out runs/skip --resume",
            "skipdit train --out runs/plain --skips none",
            "skipdit train --out runs/latte --data data/animation --frames 8 --images 4",
            "skipdit train --out runs/converted --labels known.txt --init emoji-plain --skips join --two-stage",
            "skipdit train --out runs/branches --labels known.txt --init emoji-plain --skips join --freeze backbone",
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
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out; without one, begin.")
    ] = False,
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
    max_minutes: Annotated[
        float | None, typer.Option(min=0.001, help="Stop, with a checkpoint, after so long.")
    ] = None,
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
    (images, held), model = made(settings)
    if dry_run:
        return print_json(resolved(settings, images, model))
    _run(said, settings, images, held, model)


# ---- the run --------------------------------------------------------------------------------------------------------


def _run(said: Said, settings: dict[str, Any], images: Any, held: Any, model: Any) -> None:
    """Train, show it, and end as it ended: done, stopped, or interrupted."""
    from skipdit.train.checkpoint import latest
    from skipdit.train.loop import launched
    from skipdit.train.loop import train as loop

    recipe, run = recipe_of(settings), settings["run"]
    accelerator = launched(recipe)
    quiet, start = settings["as_json"] or not accelerator.is_main_process, time.monotonic()
    what = "images" if settings["frames"] is None else "clips"
    note = _slow(recipe.precision, accelerator.device.type)
    if settings["resume"] and not latest(run):
        err(quiet).print(f"{run} holds no checkpoint yet: a new run begins there", soft_wrap=True, markup=False)
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
        hint = f"done: skipdit sample {shlex.quote(str(last))} --list-labels"
        out(quiet).print(hint, soft_wrap=True, markup=False)
    elif not stop.heard:
        out(quiet).print(f"time is up at step {step}; go on: {said.again()}", soft_wrap=True, markup=False)
    else:
        err().print(f"stopped at step {step}, saved; go on: {said.again()}", soft_wrap=True, markup=False)
        raise typer.Exit(128 + stop.heard)

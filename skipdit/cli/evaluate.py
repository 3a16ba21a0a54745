"""skipdit eval: score a folder of images or clips, or a model, against a reference."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from skipdit.cli.options import Device, Guidance, Sampler, Threads, device_of, flag, typed
from skipdit.cli.scored import (
    ALONE,
    CLIPS,
    LABELLED,
    MEANING,
    PAIRS,
    SETS,
    check,
    check_counts,
    fitting,
    named,
    scores,
)
from skipdit.cli.terminal import err, examples, out, print_json, progress


def add_to(app: typer.Typer) -> None:
    app.command(
        "eval",
        epilog=examples(
            "skipdit eval data/emoji --size 32 --save out/emoji32.safetensors",
            "skipdit eval emoji-skip data/emoji --count 1000 --out out/full",
            'skipdit eval emoji-skip data/emoji --count 1000 --policy "skip_cache(every=2)" --out out/cached',
            "skipdit eval out/cached out/full --metrics psnr,ssim,lpips",
            "skipdit eval emoji-skip data/emoji --count 1000 --out out/full --metrics concept_accuracy,image_text",
            "skipdit eval emoji-skip out/emoji32.safetensors --count 1000 --out out/random",
            "skipdit eval emoji-video-skip data/animation --count 105 --out out/clips",
            "skipdit eval out/clips videos --frames 8 --size 32 --metrics fvd,flicker",
        ),
    )(evaluate)


DRAWS = ("count", "folder", "part", "policy", "passes", "steps", "guidance", "sampler", "seed", "batch")


def evaluate(
    ctx: typer.Context,
    images: Annotated[
        str, typer.Argument(help="A folder of images or clips; or a model: shipped, a folder, owner/name.")
    ],
    reference: Annotated[
        Path | None, typer.Argument(help="Another folder, or a statistics file; left out to --save alone.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help=f"Of sets: {', '.join(SETS + ALONE)}; of images with labels: {', '.join(LABELLED)}; "
            f"of sets of clips: {', '.join(CLIPS)}; of pairs, two folders: {', '.join(PAIRS)}.",
            show_default="all of sets",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=8, help="Reduce pictures to this side.", show_default="the model's, or as they are"),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=2, help="The folders hold videos: cut them to so many frames.", show_default="the model's"),
    ] = None,
    interval: Annotated[int, typer.Option(help="Of videos in class folders: every so many frames one.", min=1)] = 1,
    save: Annotated[Path | None, typer.Option(help="Write the statistics of IMAGES here (.safetensors).")] = None,
    count: Annotated[int, typer.Option(min=2, help="Images that a model draws.")] = 1000,
    folder: Annotated[Path, typer.Option("--out", "-o", help="Where a model's images go, in shards.")] = Path(
        "out/eval"
    ),
    part: Annotated[
        str | None, typer.Option(help="Draw only part I/N, such as 0/4, and stop; others draw theirs.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help='Such as "skip_cache(every=2)"; see skipdit methods.')] = None,
    passes: Annotated[
        str | None, typer.Option(help='What a step asks of the model: "reuse(every=2)"; see skipdit methods.')
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 50,
    guidance: Guidance = 2.0,
    sampler: Sampler = None,
    seed: Annotated[int, typer.Option(min=0, help="Of labels and noise.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Images drawn at once.")] = 64,
    device: Device = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as one JSON line.")] = False,
) -> None:
    """Score a folder of images, or a model that draws them first, against a reference.

    A model draws the reference's labels and styles where that is a data set, any at random otherwise. Its images
    are kept in shards of 256: the same command goes on after the last whole one. The networks come with skipdit
    weights fetch. A video model's clips are scored by FVD and its kin.
    """
    wanted = named(metrics)
    if reference is None and save is None:
        raise ValueError("eval: name a REFERENCE, a folder or a statistics file, or --save FILE to write one")
    import torch

    from skipdit.aside import writable
    from skipdit.evaluate.generate import Drawing, drawing_of, generate, labels_drawn
    from skipdit.evaluate.images import open_images

    writable(save)
    if threads:
        torch.set_num_threads(threads)
    device = device_of(device)
    drawing = Drawing(policy or "", steps, guidance, seed, sampler, passes or "", batch)
    form = Form(size, frames, interval)
    model = _model(images, [flag(ctx, name) for name in typed(ctx) if name in DRAWS], device)
    if model is not None:
        form = _form_of(images, model.config, form)
    judged: Any = None if model else _opened(Path(images), form)
    if judged is not None and form.size is None:
        form = form._replace(size=judged.side)  # what a model drew, against pictures of that size
    known: Any = _opened(reference, form)
    taken = fitting(wanted, reference, save, judged.frames if judged else form.frames, known)
    check_counts(taken, judged, known)
    with progress(quiet=as_json) as bar:
        if model is not None:
            known = known and known.known_to(model)
            like, which, task = known and known.labelled, _part(part), bar.add_task("drawing", total=count)
            if not part:
                check(taken, save, folder, labels_drawn(model, count, drawing, like), known, count)
            shards = len(
                generate(model, folder, count, drawing, like, which, lambda done, of: bar.update(task, completed=done))
            )
            if part:
                done = "is drawn" if which[0] < shards else f"is empty: {count} images are in parts 0 to {shards - 1}"
                words = f"[bold]{folder}[/]: part {part} {done}; without --part the images are scored"
                return err().print(words, soft_wrap=True)
            judged = open_images(folder).first(count)
        figures, words = scores(judged, known or reference, taken, save, device, bar)
    _print(figures, words, save, judged.folder, drawing_of(judged.folder), device, as_json)


class Form(NamedTuple):
    """How images or clips are read."""

    size: int | None
    frames: int | None
    interval: int


def _model(images: str, drawing: list[str], device: str) -> Any:
    """The model that was named, None for a folder of images. Raises ValueError for what neither can do."""
    from skipdit.backbones.dit import shipped
    from skipdit.cli.ours import ours

    path = Path(images)
    if images not in shipped() and path.is_dir() and not (path / "config.json").is_file():
        if drawing:
            raise ValueError(f"{drawing[0]} is for a model that draws, and {images} is a folder: leave it out")
        return None
    model = ours(images).to(device)
    if model.config.in_channels != 3:
        raise ValueError(f"{images} draws latents: decode them into a folder of pictures, and name that")
    return model


def _form_of(images: str, config: Any, said: Form) -> Form:
    """What a model draws, which is how its reference is read. Raises ValueError where something else was said."""
    side, length = config.input_size, config.get("num_frames")
    if said.size not in (None, side):
        raise ValueError(f"{images} draws {side} x {side} pixels, so --size {said.size} can't be had: leave it out")
    if said.frames not in (None, length):
        drawn = f"clips of {length} frames" if length else "pictures"
        raise ValueError(f"{images} draws {drawn}, so --frames {said.frames} can't be had: leave it out")
    return Form(side, length, said.interval)


def _opened(folder: Path | None, form: Form) -> Any:
    """The images in it; None for what is no folder."""
    from skipdit.evaluate.images import open_images

    return open_images(folder, *form) if folder and folder.is_dir() else None


def _part(said: str | None) -> tuple[int, int]:
    """ "1/4" -> (1, 4). Raises ValueError."""
    number, _, of = (said or "0/1").partition("/")
    if not (number.isdigit() and of.isdigit() and int(number) < int(of)):
        raise ValueError(f"--part {said} is none: give I/N with I from 0 to N - 1, such as 0/4")
    return int(number), int(of)


def _print(
    figures: dict[str, Any], words: str, save: Path | None, folder: Path, drawing: Any, device: str, as_json: bool
) -> None:
    from rich.table import Table

    from skipdit.results import Provenance, Record

    record = Record(
        f"eval {folder}", drawing.policy, {**figures, "reference": words, "passes": drawing.passes},
        Provenance.here("float32", drawing.batch, drawing.steps, drawing.seed, device),
    )  # fmt: skip
    if as_json:
        import json

        return print_json(json.loads(record.to_json()))
    console = out()
    what = f"{figures['images']} " + (f"clips of {figures['frames']} frames" if "frames" in figures else "images")
    what += f", against {words}" if words else ""
    what += f"; their statistics are in [bold]{save}[/]" if save else ""
    console.print(f"[bold]{folder}[/]: {what}", soft_wrap=True)
    table = Table(box=None, show_header=False)
    for figure, value in figures.items():
        if figure in MEANING:
            table.add_row(figure, "∞" if value is None else f"{value:.4g}", f"[dim]{MEANING[figure]}[/]")
    console.print(table)
    if "fid" in figures and figures["images"] < 10_000:
        console.print("[dim]FID, precision and recall depend on the count: compare equal counts alone[/]")

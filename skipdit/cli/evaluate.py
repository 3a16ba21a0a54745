"""skipdit eval: score a folder of images or clips, or a model, against a reference."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from skipdit.cli.options import Device, Guidance, Sampler, Threads
from skipdit.cli.scored import ALONE, CLIPS, LABELLED, MEANING, PAIRS, SETS, fitting, named, scores
from skipdit.cli.terminal import err, examples, out, print_json, progress


def add_to(app: typer.Typer) -> None:
    app.command(
        "eval",
        epilog=examples(
            "skipdit eval data/emoji --size 32 --save out/emoji32.safetensors",
            "skipdit eval emoji-skip out/emoji32.safetensors --count 1000 --out out/full",
            'skipdit eval emoji-skip data/emoji --count 1000 --policy "skip_cache(every=2)" --out out/cached',
            "skipdit eval out/cached out/full --metrics psnr,ssim,lpips",
            "skipdit eval emoji-skip data/emoji --count 1000 --metrics concept_accuracy,image_text --out out/full",
            "skipdit eval emoji-video-skip data/animation --count 105 --out out/clips",
            "skipdit eval out/clips videos --frames 8 --size 32 --metrics fvd,flicker",
        ),
    )(evaluate)


def evaluate(
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

    A model draws the reference's labels and styles where that is a data set, all of them evenly otherwise. Its images
    are kept in shards: the same command goes on where it was interrupted. The networks come with skipdit weights fetch.
    A video model's clips are scored by FVD and its kin.
    """
    wanted = named(metrics)
    if reference is None and save is None:
        raise ValueError("eval: name a REFERENCE, a folder or a statistics file, or --save FILE to write one")
    import torch

    from skipdit.evaluate.generate import Drawing, drawing_of

    if threads:
        torch.set_num_threads(threads)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    drawing = Drawing(policy or "", steps, guidance, seed, sampler, passes or "", batch)
    form = (size, frames, interval)
    with progress(quiet=as_json) as bar:
        fits = partial(fitting, wanted, reference, save)
        drawn, known = _drawn(images, reference, folder, count, part, form, drawing, device, bar, fits)
        if drawn is None:
            err().print(
                f"[bold]{folder}[/]: part {part} is drawn; without --part the images are scored", soft_wrap=True
            )
            return
        figures, words = scores(drawn, known or reference, fits(drawn.frames, known), save, device, bar)
    _print(figures, words, drawn.folder, drawing_of(drawn.folder), device, as_json)


def _drawn(
    images: str,
    reference: Path | None,
    folder: Path,
    count: int,
    part: str | None,
    form: tuple[int | None, int | None, int],
    drawing: Any,
    device: str,
    bar: Any,
    fits: Callable[[int | None, Any], object],
) -> tuple[Any, Any]:
    """(the images, the reference if it is a folder): opened, or drawn by a model; None after one part of several.

    `fits` is asked before anything is drawn: frames of a clip or None, the reference.
    """
    from skipdit.backbones.dit import shipped
    from skipdit.cli.ours import ours
    from skipdit.evaluate.generate import generate
    from skipdit.evaluate.images import open_images

    path = Path(images)
    if images not in shipped() and path.is_dir() and not (path / "config.json").is_file():
        if drawing.policy or drawing.passes:
            raise ValueError(
                f"--policy and --passes are for a model that draws, and {images} is a folder: leave them out"
            )
        return open_images(path, *form), _opened(reference, *form)
    model = ours(images).to(device)
    if model.config.in_channels != 3:
        raise ValueError(f"{images} draws latents: decode them into a folder of pictures, and name that")
    size, frames, interval = form
    side, length = model.config.input_size, model.config.get("num_frames")
    if size not in (None, side):
        raise ValueError(f"{images} draws {side} x {side} pixels, so --size {size} can't be had: leave it out")
    if frames not in (None, length):
        drawn = f"clips of {length} frames" if length else "pictures"
        raise ValueError(f"{images} draws {drawn}, so --frames {frames} can't be had: leave it out")
    known = _opened(reference, side, length, interval)
    fits(length, known)
    known = known and known.known_to(model)
    like, which = known and known.labelled, _part(part)
    task = bar.add_task("drawing", total=count)
    generate(model, folder, count, drawing, like, which, lambda done, total: bar.update(task, completed=done))
    return (None if part else open_images(folder).first(count)), known


def _opened(reference: Path | None, size: int | None, frames: int | None, interval: int) -> Any:
    from skipdit.evaluate.images import open_images

    return open_images(reference, size, frames, interval) if reference and reference.is_dir() else None


def _part(said: str | None) -> tuple[int, int]:
    """ "1/4" -> (1, 4). Raises ValueError."""
    number, _, of = (said or "0/1").partition("/")
    if not (number.isdigit() and of.isdigit() and int(number) < int(of)):
        raise ValueError(f"--part {said} is none: give I/N with I from 0 to N - 1, such as 0/4")
    return int(number), int(of)


def _print(figures: dict[str, Any], words: str, folder: Path, drawing: Any, device: str, as_json: bool) -> None:
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
    console.print(f"[bold]{folder}[/]: {what}, against {words}", soft_wrap=True)
    table = Table(box=None, show_header=False)
    for figure, value in figures.items():
        if figure in MEANING:
            table.add_row(figure, "∞" if value is None else f"{value:.4g}", f"[dim]{MEANING[figure]}[/]")
    console.print(table)
    if "fid" in figures and figures["images"] < 10_000:
        console.print("[dim]FID, precision and recall depend on the count: compare equal counts alone[/]")

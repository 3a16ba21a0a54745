"""skipdit eval: score a folder of images or clips, or a model, against a reference."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from skipdit.cli.options import Device, Guidance, Sampler, Threads
from skipdit.cli.terminal import err, examples, out, print_json, progress

SETS = ("fid", "sfid", "kid", "precision_recall", "density_coverage")
CLIPS = ("fvd", "kvd", "frame_fid", "flicker")
ALONE = ("inception_score",)
LABELLED = ("concept_accuracy", "image_text")
PAIRS = ("psnr", "ssim", "lpips", "dists")
MEANING = {  # figure: what is good
    "fid": "lower is nearer, 0 for equal sets",
    "sfid": "lower is nearer, of where things are",
    "kid": "0 on average for samples of one distribution",
    "kid_std": "deviation of kid over its subsets",
    "precision": "share of these that look like the reference",
    "recall": "share of the reference that could be among these",
    "density": "near 1 or more where these lie among the reference",
    "coverage": "share of the reference that has one of these nearby",
    "is_efficientnet_lite0": "Inception Score by EfficientNet-Lite0; higher is surer and more varied",
    "is_std": "deviation of it over ten splits",
    "concept_top1": "share whose nearest real picture, to EfficientNet-Lite0, has the label that was drawn",
    "concept_top5": "share with that label among the five nearest",
    "concept_real_top1": "the same of the real pictures, each against the others",
    "concept_real_top5": "",
    "concepts": "labels to choose from: chance is one in so many",
    "image_text": "mean cosine of an image and its label, by our own heads; higher is nearer",
    "text_r1": "share whose own label is the nearest text",
    "text_r5": "share with it among the five nearest",
    "text_r10": "... among the ten nearest",
    "image_text_real": "image_text of the real pictures",
    "text_real_r1": "text_r1 of the real pictures",
    "captions": "labels to choose from: chance is one in so many",
    "fvd": "Fréchet distance in I3D's logits; lower is nearer, for equal counts and lengths alone",
    "kvd": "0 on average for samples of one distribution, of few clips, too",
    "kvd_std": "deviation of kvd over its subsets",
    "frame_fid": "fid of all frames",
    "flicker": "mean change from frame to frame in 8-bit steps, motion included",
    "flicker_real": "that of the reference",
    "psnr": "dB, of pairs",
    "ssim": "1 for equal pairs",
    "lpips": "0 for equal pairs",
    "dists": "0 for equal pairs",
}


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
    wanted = _wanted(metrics, reference, save)
    import torch

    from skipdit.evaluate.generate import Drawing, drawing_of

    if threads:
        torch.set_num_threads(threads)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    drawing = Drawing(policy or "", steps, guidance, seed, sampler, passes or "", batch)
    form = (size, frames, interval)
    with progress(quiet=as_json) as bar:
        drawn, known = _drawn(images, reference, folder, count, part, form, drawing, device, bar)
        if drawn is None:
            err().print(
                f"[bold]{folder}[/]: part {part} is drawn; without --part the images are scored", soft_wrap=True
            )
            return
        if drawn.frames is None:
            figures, words = _scores(drawn, known or reference, wanted or list(SETS), save, device, bar)
        else:
            figures, words = _scores_of_clips(drawn, known, wanted, save, device, bar)
    _print(figures, words, drawn.folder, drawing_of(drawn.folder), device, as_json)


def _wanted(metrics: str | None, reference: Path | None, save: Path | None) -> list[str]:
    """The metrics that were named; none where that is left to what is judged."""
    names = [name.strip() for name in (metrics or "").split(",") if name.strip()]
    for name in names:
        if name not in (*SETS, *ALONE, *LABELLED, *CLIPS, *PAIRS):
            known = f"of sets there are {', '.join(SETS + ALONE)}; of labels {', '.join(LABELLED)}; of clips "
            known += f"{', '.join(CLIPS)}; of pairs {', '.join(PAIRS)}"
            raise ValueError(f"no metric {name!r}: {known}")
    if reference is None and save is None:
        raise ValueError("eval: name a REFERENCE, a folder or a statistics file, or --save FILE to write one")
    return names


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
) -> tuple[Any, Any]:
    """(the images, the reference if it is a folder): opened, or drawn by a model; None after one part of several."""
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


def _teller(bar: Any, what: str, total: int) -> Any:
    task = bar.add_task(what, total=total)
    return lambda done, total: bar.update(task, completed=done, total=total)


def _scores(
    candidate: Any,
    reference: Any,
    wanted: list[str],
    save: Path | None,
    device: str,
    bar: Any,
) -> tuple[dict[str, Any], str]:
    """(figures, the reference in words); the reference is a set of images, the path of statistics, or None."""
    from skipdit.evaluate.scores import scores_of_pairs, scores_of_sets, summarised
    from skipdit.metrics.statistics import load_statistics, save_statistics

    teller = partial(_teller, bar)
    if strange := [name for name in wanted if name in CLIPS]:
        raise ValueError(f"{strange[0]} is of clips, and {candidate.folder} holds images; --frames N reads videos")
    wanted = wanted if reference else []
    figures: dict[str, Any] = {"images": candidate.count}
    of_sets, of_pairs = ([name for name in wanted if name in known] for known in (SETS, PAIRS))
    known = None if reference is None or isinstance(reference, Path) else reference
    if of_pairs:
        if known is None:
            raise ValueError(f"{', '.join(of_pairs)} compare pairs: the reference must be a folder, not {reference}")
        figures |= scores_of_pairs(candidate, known, of_pairs, device, teller("pairs", candidate.count))
    if {*ALONE, *LABELLED} & set(wanted):
        figures |= _classified(candidate, known, wanted, device, teller)
    if of_sets or save:
        stats = load_statistics(reference) if of_sets and known is None else None
        found = summarised(candidate, device, teller("looking", candidate.count))
        if save:
            save_statistics(found, save)
        if of_sets:
            against = summarised(known, device, teller("reference", known.count)) if known else stats
            assert against is not None
            figures["reference_images"] = against.count
            figures |= scores_of_sets(found, against, of_sets)
            return figures, f"{known.folder if known else reference} ({against.source})"
    return figures, str(known.folder if known else reference or save)


def _scores_of_clips(
    candidate: Any, reference: Any, wanted: list[str], save: Path | None, device: str, bar: Any
) -> tuple[dict[str, Any], str]:
    """(figures, the reference in words) of clips; the reference must be a folder of clips, too."""
    import torch

    from skipdit.evaluate.scores import scores_of_pairs
    from skipdit.evaluate.videos import scores_of_videos

    if save or reference is None or reference.frames is None:
        raise ValueError(
            f"{candidate.folder} holds clips: REFERENCE must be a folder of clips, and --save is of images"
        )
    wanted = wanted or list(CLIPS)
    if strange := [name for name in wanted if name not in (*CLIPS, *PAIRS)]:
        raise ValueError(f"{strange[0]} is of images, not of clips: there are {', '.join(CLIPS + PAIRS)}")
    of_sets, of_pairs = ([name for name in wanted if name in known] for known in (CLIPS, PAIRS))
    figures: dict[str, Any] = {"images": candidate.count, "frames": candidate.frames}
    if of_pairs:
        figures |= scores_of_pairs(candidate, reference, of_pairs, device, _teller(bar, "pairs", candidate.count))
    if of_sets:
        clips, real = (torch.cat(list(each.batches(64))).to(device) for each in (candidate, reference))
        figures["reference_images"] = len(real)
        watching = _teller(bar, "watching", len(clips) + len(real))
        figures |= scores_of_videos(clips, real, of_sets, watching)
    return figures, str(reference.folder)


def _classified(candidate: Any, reference: Any, wanted: list[str], device: str, teller: Any) -> dict[str, float]:
    """What is said of EfficientNet-Lite0's features; the reference is a set of images or None."""
    from skipdit.evaluate.scores import labels_of, pooled, score_alone, scores_of_captions, scores_of_concepts

    labelled: Any = reference if reference is not None and reference.labels is not None else None
    if "concept_accuracy" in wanted:
        if reference is None:
            raise ValueError("concept_accuracy compares labels: the reference must be a folder that skipdit data built")
        labels_of(reference)
    if set(LABELLED) & set(wanted):
        labels_of(candidate)  # now, not after an hour
    found = pooled(candidate, device, teller("classifying", candidate.count))
    figures = score_alone(found) if "inception_score" in wanted else {}
    known: Any = None
    if labelled is not None and set(LABELLED) & set(wanted):
        known = pooled(labelled, device, teller("classifying the reference", labelled.count))
    if "concept_accuracy" in wanted:
        figures |= scores_of_concepts(candidate, found, labelled, known)
    if "image_text" in wanted:
        figures |= scores_of_captions(candidate, found, labelled, known, device)
    return figures


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

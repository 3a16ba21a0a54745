"""skipdit sample: draw pictures or clips with a model, with or without a policy."""

import shlex
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from skipdit.cli.options import Device, Guidance, Sampler, Threads, device_of
from skipdit.cli.ours import ours
from skipdit.cli.terminal import examples, out, print_json, progress


def add_to(app: typer.Typer) -> None:
    app.command(
        "sample",
        epilog=examples(
            'skipdit sample emoji-skip "red apple" rocket --style noto',
            'skipdit sample emoji-skip tulip --count 4 --policy "skip_cache(every=3, hi=950)" -o out/tulips.png',
            'skipdit sample emoji-skip rocket --passes "reuse(every=2)"',
            "skipdit sample runs/skip/checkpoint-0009000/ema rocket --steps 20 --sampler dpm++",
            'skipdit sample runs/latte/checkpoint-0004000/ema rocket --video out/rocket.mp4 --policy "pab()"',
            "skipdit sample emoji-skip --list-labels apple",
        ),
    )(sample)


def sample(
    model: Annotated[str, typer.Argument(help="A shipped name, a folder, or owner/name of the Hugging Face hub.")],
    labels: Annotated[
        list[str] | None, typer.Argument(help="What to draw: names or numbers.", show_default=False)
    ] = None,
    style: Annotated[
        list[str] | None,
        typer.Option(help="Each label is drawn in each; may be repeated.", show_default="all that it knows"),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Pictures of each label and style.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 50,
    guidance: Guidance = 2.0,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    policy: Annotated[str | None, typer.Option(help='Such as "skip_cache(every=2)"; see skipdit methods.')] = None,
    passes: Annotated[
        str | None, typer.Option(help='What a step asks of the model: "reuse(every=2)"; see skipdit methods.')
    ] = None,
    sampler: Sampler = None,
    two_pass: Annotated[bool, typer.Option("--two-pass", help="The branches of guidance one after the other.")] = False,
    picture: Annotated[
        Path, typer.Option("--out", "-o", help="The PNG to write: pictures, or film strips; or the clip, as --video.")
    ] = Path("out/sample.png"),
    video: Annotated[
        Path | None,
        typer.Option(help="Of a video model: the .webp, .gif, .mp4 or .webm to write.", show_default="--out as .webp"),
    ] = None,
    fps: Annotated[float, typer.Option(min=0.1, help="Of a video model: frames a second.")] = 8,
    scale: Annotated[
        int | None, typer.Option(min=1, max=64, help="Enlarge each picture.", show_default="to about 128")
    ] = None,
    device: Device = None,
    threads: Threads = None,
    list_labels: Annotated[
        bool, typer.Option("--list-labels", help="List what MODEL knows; LABELS narrow it down.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON line.")] = False,
) -> None:
    """Draw pictures into one PNG, a row for each label, and say what a policy spared.

    A video model (Latte) draws clips: a moving picture of all of them, and
    their frames as film strips.
    """
    if list_labels:
        return _list(model, labels or [], as_json)
    if not labels:
        raise ValueError(
            f"sample: name what to draw; skipdit sample {shlex.quote(model)} --list-labels tells what it knows"
        )
    from skipdit import films, pictures
    from skipdit.backbones.dit import described
    from skipdit.branches import Tally

    picture, video = _outputs(picture, video, model, clips="num_frames" in described(model)[1])
    tally = Tally()
    said: dict[str, Any] = dict(steps=steps, guidance=guidance, seed=seed, sampler=sampler, two_pass=two_pass)
    said |= dict(passes=passes, tally=tally)
    images, columns, figures, report = _draw(model, labels, style, count, policy, device, threads, said, quiet=as_json)
    scale = scale or max(1, 128 // images.shape[-1])
    if video:
        figures["video"] = str(films.save(films.frames(images, columns, scale), video, fps))
    pictures.save(films.strip(images, scale) if video else pictures.grid(images, columns, scale), picture)
    if as_json:
        counted = {"passes": passes or "", "tally": tally.as_dict(), "report": report.as_dict() if report else None}
        return print_json({"out": str(picture), **figures, **counted})
    console = out()
    what = f"{figures['images']} {'clips' if video else 'pictures'} in {figures['seconds']:.1f} s"
    console.print(f"[bold]{f'{video}, {picture}' if video else picture}[/]: {what}", soft_wrap=True)
    if passes:
        console.print(f"{passes}: {tally}", soft_wrap=True, markup=False)
    if report:
        console.print(f"{figures['policy']}: {report}", soft_wrap=True, markup=False)


def _outputs(picture: Path, video: Path | None, model: str, clips: bool) -> tuple[Path, Path | None]:
    """(where pictures or film strips go, where clips do); a clip's suffix on --out of a video model is meant so.
    Raises ValueError, OSError for what can't be written: now, not after the drawing."""
    from skipdit import films, pictures
    from skipdit.aside import writable

    if video and not clips:
        raise ValueError(f"--video {video}: {model} draws pictures, not clips; leave it out")
    if clips and video is None:
        moving = picture.suffix.lower() in (*films.LOOP, *films.STREAM)
        video, picture = (picture, picture.with_suffix(".png")) if moving else (picture.with_suffix(".webp"), picture)
    if video:
        films.check(video)
    pictures.check(picture)
    if video == picture:
        raise ValueError(f"--out and --video are both {picture}: film strips and clips are two files")
    writable(picture, video)
    return picture, video


def _draw(
    name: str,
    labels: list[str],
    styles: list[str] | None,
    count: int,
    spelling: str | None,
    device: str | None,
    threads: int | None,
    said: dict[str, Any],
    quiet: bool,
) -> tuple[Any, int | None, dict[str, Any], Any]:
    """(images, columns of their grid, figures, report of the policy): each label in each style, `count` times."""
    import torch

    from skipdit import attach, parse
    from skipdit.sample import sample as draw

    policy = parse(spelling) if spelling else None
    if threads:
        torch.set_num_threads(threads)
    model = ours(name).to(device_of(device))
    if model.config.in_channels != 3:
        raise ValueError(
            f"{name} draws latents ({model.config.in_channels} channels): decode what skipdit.sample returns"
        )
    each = [style for style in styles or model.config.get("style_names") or [None] for _ in range(count)]
    what = [label for label in labels for _ in each]
    start = time.perf_counter()
    with progress(quiet=quiet) as bar, attach(model, policy) if policy else nullcontext() as run:
        task = bar.add_task("sampling", total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        images = draw(model, what, None if each[0] is None else each * len(labels), **said, on_step=tell).cpu()
    figures = {"images": len(images), "seconds": time.perf_counter() - start, "policy": str(policy or "")}
    columns = len(each) if len(labels) > 1 or len(each) < 4 else None
    return images, columns, figures, run.report() if run else None


def _list(model: str, queries: list[str], as_json: bool) -> None:
    """The labels with one of the queries in them, and the styles. Raises ValueError where nothing has."""
    from skipdit.backbones.dit import described
    from skipdit.catalog import near

    _, config = described(model)
    known, styles = config.get("class_names") or [], config.get("style_names") or []
    if not known:
        raise ValueError(f"this model has no label names: give numbers from 0 to {config['num_classes'] - 1}")
    found = [name for name in known if not queries or any(query.casefold() in name.casefold() for query in queries)]
    if not found:
        raise ValueError(f"no label has {' or '.join(map(repr, queries))} in it{near(queries[0].casefold(), known)}")
    if as_json:
        return print_json({"labels": found, "styles": styles})
    console = out()
    console.print(", ".join(found), markup=False)
    console.print(f"\n[dim]{len(found)} of {len(known)} labels; styles: {', '.join(styles) or 'none'}[/]")

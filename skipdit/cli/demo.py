"""skipdit demo: draw with the shipped models, uncached and cached, and compare."""

from pathlib import Path
from typing import Annotated, Any

import typer

from skipdit.cli.terminal import examples, out, print_json, progress


def add_to(app: typer.Typer) -> None:
    app.command(
        "demo",
        epilog=examples(
            "skipdit demo", "skipdit demo -o out --label rocket --label tulip --style noto", "skipdit demo --video"
        ),
    )(demo)


def demo(
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures and the figures.")] = Path("out"),
    video: Annotated[
        bool, typer.Option("--video", help="Clips: a Latte, its twin with skips, and Skip-Cache.")
    ] = False,
    label: Annotated[list[str] | None, typer.Option(help="What to draw; may be repeated.")] = None,
    style: Annotated[list[str] | None, typer.Option(help="Styles, which take turns; may be repeated.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Denoising steps (DDIM).", show_default="50, of clips 30")
    ] = None,
    guidance: Annotated[float, typer.Option(help="Scale of classifier-free guidance.")] = 2.0,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds that are timed; one more warms up.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch.", show_default="all processors")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON line.")] = False,
) -> None:
    """Draw with the shipped models, uncached and cached: the same seeds, timed, compared, side by side.

    The plain DiT, the Skip-DiT, Skip-Cache at N = 2, 3 and 5, and for each of these the Skip-DiT with as many steps as
    fit into the same time. Takes a few minutes on two cores. With --video, Lattes draw clips, N = 2, 3 and 4.
    """
    from dataclasses import replace

    from skipdit.aside import writable
    from skipdit.demo import IMAGES, VIDEO
    from skipdit.demo import demo as compare

    writable(folder / "demo.json")
    twins = VIDEO if video else IMAGES
    twins = replace(twins, labels=label or twins.labels, styles=style or twins.styles)

    with progress(quiet=as_json) as bar:
        task = bar.add_task("loading", total=None)
        result = compare(
            folder,
            twins,
            steps=steps,
            guidance=guidance,
            seed=seed,
            repeats=repeats,
            threads=threads,
            on_progress=lambda done, total, name: bar.update(task, completed=done, total=total, description=name),
        )
    if as_json:
        return print_json(result)
    _show(result, twins.kind)
    written = [f"[bold]{path}[/]" for path in sorted(folder.glob(f"{twins.file}.[pwj]*"))]
    out().print("\n" + "\n".join(written), soft_wrap=True)


def _show(result: dict[str, Any], kind: str) -> None:
    """The table: a row for each model and policy."""
    from rich.table import Table

    where = result["records"][0]["provenance"]
    console = out()
    console.print(
        f"{where['machine']}, {where['threads']} of {where['cores']} processors, torch {where['torch']}, "
        f"{where['dtype']}, {where['batch']} pictures at once, guidance {result['settings']['guidance']:g}\n"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("")
    heads = (
        "computed",
        "stood\nin",
        "seconds",
        f"x {kind}",
        f"x Skip-\n{kind}",
        f"ideal\nx {kind}",
        f"ideal x\nSkip-{kind}",
        "of\nideal",
        "dB",
    )
    for column in heads:
        table.add_column(column, justify="right")
    for record in result["records"]:
        table.add_row(*_cells(record["name"], record["figures"]), style="bold" if record["policy"] else "")
    console.print(table)
    console.print(
        "\n[dim]x: times as fast, median of the rounds. ideal: what FLOPs alone promise. of ideal: measured over "
        f"promised, against the Skip-{kind}. dB: PSNR to the Skip-{kind} with all steps, mean of the pictures. (N = "
        "...): as many steps as fit into that row's time.[/]"
    )


def _cells(name: str, f: dict[str, Any]) -> list[str]:
    return [
        name,
        str(f["computed"]),
        str(f["stood_in"] or ""),
        f"{f['seconds']:.2f}",
        f"{f['over_plain']:.2f}",
        f"{f['over_skip']:.2f}",
        f"{f['ideal_over_plain']:.2f}",
        f"{f['ideal_over_skip']:.2f}",
        "" if f["of_ideal"] is None else f"{f['of_ideal']:.0%}",
        "" if f["psnr"] is None else f"{f['psnr']:.1f}",
    ]

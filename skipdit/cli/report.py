"""skipdit report: tables, plots and one page of records that were measured before."""

from pathlib import Path
from typing import Annotated

import typer

from skipdit.cli.terminal import examples, out, print_json


def add_to(app: typer.Typer) -> None:
    app.command(
        "report",
        epilog=examples(
            "skipdit report out/bench.jsonl",
            "skipdit report out/bench.jsonl out/probe.jsonl out/demo.json --out out/report",
        ),
    )(report)


def report(
    records: Annotated[list[Path], typer.Argument(help=".jsonl of records; .json that demo or --json wrote.")],
    folder: Annotated[Path, typer.Option("--out", "-o", help="Where the report goes.")] = Path("out/report"),
    title: Annotated[str, typer.Option(help="Above the page.")] = "Measured with skipdit",
    as_json: Annotated[bool, typer.Option("--json", help="Print the files' names as one JSON line.")] = False,
) -> None:
    """Make Markdown tables, plots and one self-contained HTML page of records.

    The plots show what the records tell: speed-up against PSNR, which steps a policy computes, similarity from step
    to step. The page holds them and, of a bench, the pictures side by side. Nothing is measured anew.
    """
    from skipdit.report.write import report as make

    written = make(records, folder, title)
    if as_json:
        return print_json({"out": [str(path) for path in written]})
    for path in written:
        out().print(f"[bold]{path}[/]", soft_wrap=True)

"""python -m skipdit.bench: run benchmarks, print tables for people, and one JSON document as the last line."""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.status import Status

from skipdit.bench.options import DTYPES, Options, Skipped
from skipdit.bench.table import show
from skipdit.results import Record, append

BENCHES = ("speed", "bookkeeping", "held", "compile", "training", "gpu")
ALONE = ("peers",)  # not part of "all": it needs the peers, and takes its time


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments name."""
    said = _parser().parse_args(argv)
    if said.threads:
        torch.set_num_threads(said.threads)
    tables = Console(quiet=said.json, width=None if sys.stdout.isatty() else 120)
    records: list[Record] = []
    skipped: dict[str, str] = {}
    for name in BENCHES if said.bench == "all" else (said.bench,):
        bench = importlib.import_module(f"skipdit.bench.{name}")
        with Console(stderr=True).status(name) as status:
            try:
                found = bench.measure(_options(said, partial(_say, status, name)))
            except Skipped as reason:
                skipped[name] = str(reason)
                tables.print(f"{name} skipped: {reason}\n")
                continue
            except ValueError as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 2
        show(tables, (bench.__doc__ or name).split("\n")[0], found, bench.GOALS)
        records += found
        if said.out:
            append(said.out, found)
    print(json.dumps({"records": [asdict(record) for record in records], "skipped": skipped}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m skipdit.bench", description="Measure, and hold against the goals.")
    add = parser.add_argument
    add("bench", nargs="?", default="all", choices=(*BENCHES, *ALONE, "all"))
    add("--json", action="store_true", help="the JSON document alone, without tables")
    add("--out", type=Path, metavar="FILE.jsonl", help="append the records to this file, too")
    add("--repeats", type=int, default=Options.repeats, help="rounds that count (%(default)s)")
    add("--threads", type=int, help="threads of torch (its own choice)")
    add(
        "--model",
        default=Options.model,
        help="what speed and compile run: narrow, narrow-video, DiT-XL/2, Latte-XL/2 ...",
    )
    add("--steps", type=int, default=Options.steps, help="denoising steps of a sampling run (%(default)s)")
    add("--batch", type=int, nargs="+", default=Options.batch, help="one or several batch sizes (2)")
    add("--device", default=Options.device, help="cpu or cuda")
    add("--dtype", default=Options.dtype, choices=tuple(DTYPES), help="of the model (%(default)s)")
    add("--seed", type=int, default=Options.seed)
    add("--compile", nargs="?", const="inductor", dest="backend", metavar="BACKEND", help="compile every block")
    return parser


def _say(status: Status, bench: str, line: str) -> None:
    status.update(f"{bench}: {line}")


def _options(said: argparse.Namespace, say: Callable[[str], None]) -> Options:
    given = {f.name: getattr(said, f.name) for f in fields(Options) if f.name != "say"}
    return Options(**{**given, "batch": tuple(said.batch)}, say=say)


if __name__ == "__main__":
    sys.exit(main())

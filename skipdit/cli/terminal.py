"""What every command shares: where it prints, how a progress bar looks, how examples are shown."""

import inspect
import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def out(quiet: bool = False) -> Console:
    """For people, on standard output; silent where machines read it."""
    return Console(quiet=quiet, highlight=False)


def err(quiet: bool = False) -> Console:
    """For progress and complaints: standard output stays clean."""
    return Console(stderr=True, quiet=quiet, highlight=False)


def complain(message: str) -> None:
    """One red line. Nothing in it is taken for markup."""
    err().print(f"[bold red]skipdit:[/] {escape(' '.join(message.split()))}", soft_wrap=True)


def progress(*fields: str, quiet: bool = False) -> Progress:
    """A bar with the time gone by and the time left; `fields` are columns of the task's own."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        *(TextColumn(f"{{task.fields[{field}]}}") for field in fields),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err(quiet),
        refresh_per_second=4,
        transient=True,
    )


def print_json(value: Any) -> None:
    """One JSON document, on one line: the last of standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def flowing(command: Any) -> str:
    """A command's docstring with the lines of each paragraph joined: the terminal breaks them where it ends."""
    return "\n\n".join(" ".join(text.split()) for text in (inspect.getdoc(command) or "").split("\n\n"))


def examples(*commands: str) -> str:
    """Commands to learn from, below a help page."""
    return "\n\n".join(["[bold]Examples[/]", *(f"[dim]$[/] [cyan]{escape(command)}[/]" for command in commands)])

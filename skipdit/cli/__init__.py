"""The command line: skipdit demo | sample | train | data | convert | inspect | probe | methods | tune | eval |
bench | report | weights."""

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from skipdit import __version__
from skipdit.cli import (
    bench,
    convert,
    data,
    demo,
    evaluate,
    inspect,
    methods,
    probe,
    report,
    sample,
    train,
    tune,
    weights,
)
from skipdit.cli.terminal import complain, examples, flowing

# What the user can mend: a wrong name or value, a missing or full folder, a package that isn't there.
REFUSALS = (ValueError, TypeError, ArithmeticError, OSError, RuntimeError, ImportError, MemoryError)

KEEP = ("bench", "eval", "tune")  # what they have finished


class Polite(TyperGroup):
    """Says in one line what went wrong: exit code 2, or 130 after Ctrl-C. SKIPDIT_DEBUG=1 shows where."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt as interrupt:
            kept = ", with what is finished" if ctx.invoked_subcommand in KEEP else ""
            complain(f"interrupted; the same command starts again{kept}")
            raise typer.Exit(130) from interrupt
        except REFUSALS as error:
            if os.environ.get("SKIPDIT_DEBUG"):
                raise
            complain(_worded(error))
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=Polite,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "skipdit demo",
        'skipdit sample emoji-skip "red apple" rocket --style noto --policy "skip_cache(every=2)" -o out/sample.png',
        'skipdit inspect emoji-skip --policy "skip_cache(every=3, hi=950)"',
        "skipdit data emoji data/emoji",
        "skipdit train --data data/emoji --out runs/skip --max-minutes 90",
    ),
)


def _worded(error: Exception) -> str:
    """An error in words; what the system says about a file, file first."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}"
    if isinstance(error, MemoryError):
        return "there is not enough memory for this: ask for fewer or smaller at once"
    return str(error) or type(error).__name__


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"skipdit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit.")
    ] = False,
) -> None:
    """Fast diffusion transformers: long skip branches, and caching between denoising steps."""


demo.add_to(app)
sample.add_to(app)
train.add_to(app)
data.add_to(app)
convert.add_to(app)
inspect.add_to(app)
probe.add_to(app)
methods.add_to(app)
tune.add_to(app)
evaluate.add_to(app)
bench.add_to(app)
report.add_to(app)
weights.add_to(app)
for group in (app, *(added.typer_instance for added in app.registered_groups if added.typer_instance)):
    for command in group.registered_commands:
        command.help = flowing(command.callback)


def main() -> None:
    """The entry point of the command `skipdit`."""
    app(prog_name="skipdit")

"""skipdit convert: a published weight file becomes a model folder."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from skipdit.cli.terminal import err, examples, out


class Dtype(StrEnum):
    FLOAT16 = "float16"
    FLOAT32 = "float32"


def add_to(app: typer.Typer) -> None:
    app.command("convert", epilog=examples("skipdit convert DiT-XL-2-256x256.pt models/dit-xl-2"))(convert)


def convert(
    file: Annotated[Path, typer.Argument(help="A .pt or .safetensors file of DiT or Skip-DiT.")],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
    dtype: Annotated[Dtype, typer.Option(help="How the weights are stored.")] = Dtype.FLOAT16,
) -> None:
    """Turn a published weight file into a folder that --init, sample and inspect take."""
    import torch

    from skipdit.backbones import released

    with err().status(f"reading {file}"):
        model = released.convert(file, folder, getattr(torch, dtype.value))
    count = sum(p.numel() for p in model.parameters())
    out().print(f"{folder}: {type(model).__name__}, {count / 1e6:.1f} M parameters, {dtype.value}", soft_wrap=True)

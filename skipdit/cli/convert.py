"""skipdit convert: a published weight file becomes a model folder; a pretrained model is given skip branches."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from skipdit.cli.settings import paired
from skipdit.cli.terminal import err, examples, out


class Dtype(StrEnum):
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class Form(StrEnum):
    JOIN = "join"
    REPLACE = "replace"


def add_to(app: typer.Typer) -> None:
    app.command(
        "convert",
        epilog=examples(
            "skipdit convert DiT-XL-2-256x256.pt models/dit-xl-2",
            "skipdit convert emoji-plain models/emoji-join --skips join",
            "skipdit convert Wan2.1-T2V-1.3B-Diffusers/transformer models/wan-join --skips join --pairs 0:29,1:28",
        ),
    )(convert)


def convert(
    model: Annotated[
        str,
        typer.Argument(
            help="A file (.pt, .safetensors) of DiT, Latte or Skip-DiT, a shipped name, or a model's folder."
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
    skips: Annotated[
        Form | None, typer.Option(help="Give it long skip branches: join leaves what it draws as it was.")
    ] = None,
    pairs: Annotated[
        str | None, typer.Option(help="Of blocks, source:target, such as 0:27,1:26.", show_default="mirrored")
    ] = None,
    dtype: Annotated[
        Dtype | None, typer.Option(help="How the weights are stored.", show_default="float16, or a folder's own")
    ] = None,
) -> None:
    """Turn a published weight file into a model folder, or give a pretrained model long skip branches.

    A folder is one that diffusers or skipdit saved; of a pipeline, name its
    transformer's. What is written loads with skipdit.from_pretrained, and what
    is a DiT of ours with --init, sample and inspect as well.
    """
    import torch

    from skipdit.backbones.released import save_whole, vacant
    from skipdit.convert import add_skips

    if skips is None and (pairs or not _weight_file(model)):
        raise ValueError(f"{model}: say how the branches join, --skips join or --skips replace")
    vacant(folder)
    wanted = getattr(torch, dtype.value) if dtype else None
    with err().status(f"reading {model}"):
        made = _opened(model, wanted)
        if skips:
            add_skips(made, join=skips.value, pairs=paired(pairs))
    save_whole(made, folder)
    count, stored = sum(p.numel() for p in made.parameters()), str(made.dtype).removeprefix("torch.")
    line = f"{folder}: {type(made).__name__}, {count / 1e6:.1f} M parameters, {stored}"
    out().print(line + (f", {_branches(made)}" if skips else ""), soft_wrap=True)


def _weight_file(model: str) -> bool:
    """A file, or what is spelled like one."""
    return Path(model).is_file() or Path(model).suffix in (".pt", ".pth", ".safetensors", ".ckpt", ".bin")


def _opened(model: str, dtype: Any) -> Any:
    """The model, in the dtype in which it will be stored."""
    import torch

    from skipdit.backbones.dit import located
    from skipdit.backbones.released import read_released
    from skipdit.convert import from_pretrained, stored_dtype

    if _weight_file(model):
        return read_released(model).to(dtype or torch.float16)
    pipeline = Path(model) / "model_index.json"
    dtype = dtype or (None if pipeline.is_file() else stored_dtype(located(model)))
    return from_pretrained(model, **({"torch_dtype": dtype} if dtype else {}))


def _branches(model: Any) -> str:
    """Which block feeds which."""
    from skipdit.backbones.diffusers import backbone_of
    from skipdit.core.stack import trunk_of

    pairs = ", ".join(f"{source}:{target}" for source, target in trunk_of(model, backbone_of(model)).pairs())
    return f"{len(model.skip_branches)} branches {pairs}"

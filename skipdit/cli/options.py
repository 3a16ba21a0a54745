"""Options that mean the same in every command that has them."""

from typing import Annotated

import typer

Sampler = Annotated[
    str | None, typer.Option(help="ddim, ddpm, dpm++, or euler for flow.", show_default="ddim or euler")
]
Guidance = Annotated[float, typer.Option(help="Scale of classifier-free guidance; 1 draws without.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda ...", show_default="cuda where there is one")]
Threads = Annotated[int | None, typer.Option(min=1, help="Of torch.")]


def typed(ctx: typer.Context) -> list[str]:
    """The parameters that were said, not left at their defaults."""
    return [name for name in ctx.params if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"]


def flag(ctx: typer.Context, name: str) -> str:
    """The option that sets a parameter, as it is typed: "--out" of a parameter called folder."""
    return next(parameter.opts[0] for parameter in ctx.command.params if parameter.name == name)


def device_of(said: str | None) -> str:
    """The device that was named, or else the one to take. Raises ValueError for one that isn't there."""
    import torch

    if said is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=said)
    except (RuntimeError, AssertionError, ImportError) as error:  # as each backend says it
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ValueError(f"--device {said}: torch {torch.__version__} finds {', '.join(there)} here") from error
    return said

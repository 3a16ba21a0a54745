"""Options that mean the same in every command that has them."""

from typing import Annotated

import typer

Sampler = Annotated[
    str | None, typer.Option(help="ddim, ddpm, dpm++, or euler for flow.", show_default="ddim or euler")
]
Guidance = Annotated[float, typer.Option(help="Scale of classifier-free guidance; 1 draws without.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda ...", show_default="cuda where there is one")]
Threads = Annotated[int | None, typer.Option(min=1, help="Of torch.")]

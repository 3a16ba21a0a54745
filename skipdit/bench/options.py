"""What a benchmark is told, and the models it can be told to run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from skipdit.backbones import dit, latte
from skipdit.backbones.dit import DiT
from skipdit.backbones.latte import Latte
from skipdit.compile import compile_blocks
from skipdit.core.check import whole
from skipdit.results import Provenance, Record

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

MODELS: dict[str, Callable[..., DiT | Latte]] = {
    "narrow": partial(DiT, depth=28, hidden_size=384, num_heads=6),  # as deep as DiT-XL/2, as wide as DiT-S/2
    "tiny": partial(DiT, input_size=8, depth=6, hidden_size=32, num_heads=2),
    "narrow-video": partial(Latte, depth=28, hidden_size=384, num_heads=6, input_size=16, num_frames=8),
    "tiny-video": partial(Latte, input_size=8, depth=8, hidden_size=32, num_heads=2, num_frames=2),
    **dit.SIZES,
    **latte.SIZES,
}


class Skipped(Exception):
    """A benchmark that can't run here; the message says why and what it needs."""


@dataclass(frozen=True)
class Options:
    """Settings of a benchmark. The defaults take a few minutes on two cores."""

    model: str = "narrow"
    device: str = "cpu"
    dtype: str = "fp32"
    batch: tuple[int, ...] = (2,)
    steps: int = 10
    repeats: int = 5  # rounds that count; one more warms up
    seed: int = 0
    backend: str | None = None  # compile the blocks with it: "inductor", or dynamo's "eager"
    say: Callable[[str], object] = lambda line: None  # told what is going on

    def __post_init__(self) -> None:
        for name, value in (
            ("steps", self.steps),
            ("repeats", self.repeats),
            *(("batch", size) for size in self.batch),
        ):
            whole("bench", name, value, low=1)

    def record(
        self, name: str, policy: str, figures: dict[str, Any], batch: int = 1, steps: int | None = None
    ) -> Record:
        """A record of these settings."""
        where = Provenance.here(DTYPES[self.dtype], batch, steps or self.steps, self.seed, self.device)
        return Record(name, policy, figures, where)


def made(options: Options, skips: str | None = "replace") -> DiT | Latte:
    """The model, with random weights wherever a fresh one has zeros: no block is the identity.

    "DiT-XL/2" may be spelled DiT_XL_2, too, and "Latte-XL/2" likewise.

    Raises ValueError for an unknown name, Skipped where the device is missing.
    """
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise Skipped(f"{options.model} in {options.dtype} needs a GPU, and torch finds no CUDA device here")
    known = {_plain(name): model for name, model in MODELS.items()}
    if _plain(options.model) not in known:
        raise ValueError(f"no model {options.model!r}: choose from {', '.join(MODELS)}")
    torch.manual_seed(options.seed)
    model = known[_plain(options.model)](skips=skips)
    for parameter in model.parameters():
        if parameter.requires_grad and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    nn.Module.to(model, options.device, DTYPES[options.dtype])  # ModelMixin.to would warn of mixed precision
    return compiled(model.eval(), options.backend)


def compiled(model: DiT | Latte, backend: str | None) -> DiT | Latte:
    """Compile what is below the switch, where a backend is named."""
    if backend is not None:
        compile_blocks(model, fullgraph=True, dynamic=False, backend=backend)
    return model


def _plain(name: str) -> str:
    return name.casefold().replace("/", "_").replace("-", "_")

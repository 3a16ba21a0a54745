"""What the small pipelines share: the record of one, random weights, prompts, the image decoder."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from torch import Tensor, nn

Texts = Callable[[int, int], dict[str, Tensor | list[Tensor]]]


@dataclass(frozen=True)
class Small:
    """A real pipeline of diffusers with small random weights, and how to call it.

    transformers  names of the pipe's denoisers
    passes        calls of a denoiser a step with guidance on; passes_off: with guidance off
    contexts      names given to `cache_context` in a step with guidance on; off, the first of them alone
    strength      share of the asked steps that is run: int(steps * strength) of them, the last ones
    texts         (batch, seed) -> embeddings and masks; negatives says whether guidance takes them a second time
    extra         (batch) -> further arguments that depend on the batch size
    on, off       arguments of a guided call, and of one without
    """

    pipe: DiffusionPipeline
    fixed: dict[str, Any]
    texts: Texts | None = None
    negatives: bool = True
    on: dict[str, Any] = field(default_factory=lambda: {"guidance_scale": 4.0})
    off: dict[str, Any] = field(default_factory=lambda: {"guidance_scale": 1.0})
    extra: Callable[[int], dict[str, Any]] | None = None
    transformers: tuple[str, ...] = ("transformer",)
    passes: int = 1
    passes_off: int = 1
    contexts: tuple[str, ...] = ()
    strength: float = 1.0

    def call(self, seed: int = 0, guidance: bool = True, steps: int = 6, batch: int = 1, **more: Any) -> dict[str, Any]:
        """Arguments of one call with a fresh generator. Row i of the prompts is the same at every batch size."""
        call = {**self.fixed, **(self.on if guidance else self.off), "num_inference_steps": steps}
        if self.texts is not None:
            call |= self.texts(batch, 1)
            if guidance and self.negatives:
                call |= {f"negative_{name}": value for name, value in self.texts(batch, 2).items()}
        if self.extra is not None:
            call |= self.extra(batch)
        return call | {"generator": torch.Generator().manual_seed(seed)} | more


def output(small: Small, **call: Any) -> Tensor:
    """Runs the pipe on `small.call(**call)` and gives its images, frames or latents as one tensor."""
    result = small.pipe(**small.call(**call))
    return torch.as_tensor(result.frames if "frames" in result else result.images)


def shaken(model: nn.Module, seed: int = 1, gain: float = 1.0) -> nn.Module:
    """Random weights everywhere, so that every block and every gate counts: eval, no gradients.

    Matrices keep a signal's size when gain is 1; scales of norms stay near one, biases near nought.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.requires_grad_(False).parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.numel() and bool((parameter == 1).all()):
            parameter.copy_(1 + 0.1 * noise)
        elif parameter.ndim < 2:
            parameter.copy_(0.1 * noise)
        else:
            parameter.copy_(gain * noise / parameter[0].numel() ** 0.5)
    return model.eval()


def assemble(kind: type[DiffusionPipeline], **parts: Any) -> DiffusionPipeline:
    """The pipeline of these parts, without a progress bar; parts that it asks for and doesn't get here are None."""
    asked = inspect.signature(kind.__init__).parameters.values()
    rest = {p.name: None for p in asked if p.default is p.empty and p.name not in ("self", *parts)}
    pipe = kind(**parts, **rest)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def texts(mask: torch.dtype = torch.long, **shapes: tuple[int, ...]) -> Texts:
    """Normal noise for every name, and for names with "mask" ones with two noughts at the end, in the given type."""

    def draw(batch: int, seed: int) -> dict[str, Tensor]:
        drawn = {}
        for place, (name, shape) in enumerate(shapes.items()):
            if "mask" in name:
                drawn[name] = (torch.arange(*shape) < shape[0] - 2).to(mask).repeat(batch, 1)
            else:
                drawn[name] = rows(100 * seed + 10 * place, batch, *shape)
        return drawn

    return draw


def rows(seed: int, batch: int, *shape: int) -> Tensor:
    """Normal noise of (batch, *shape); row i is the same at every batch size."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(batch)])


def image_decoder() -> AutoencoderKL:
    """An image autoencoder of 4 latent channels that makes images 8 times as wide as latents."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4,
        latent_channels=4,
        norm_num_groups=2,
        shift_factor=0.1,
    )
    return shaken(vae, seed=2)

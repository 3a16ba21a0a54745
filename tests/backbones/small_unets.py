"""Small U-Nets of diffusers with random weights: `UNETS[name]()` gives one and a call's arguments at a timestep."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    I2VGenXLUNet,
    UNet2DConditionModel,
    UNet2DModel,
    UNet3DConditionModel,
    UNetMotionModel,
    UNetSpatioTemporalConditionModel,
)
from torch import Tensor, nn

Call = Callable[[int], tuple[Any, ...]]
SIZE = dict(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shaken(model: nn.Module) -> Any:
    """Random weights everywhere, so that no output layer is nought: eval, no gradients."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.requires_grad_(False).parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def ends(first: str, last: str, kind: str) -> dict[str, Any]:
    """The types of two blocks down and two up: the outer ones are `first`, the inner ones `last`."""
    return {
        "down_block_types": (first.format("Down", kind), last.format("Down", kind)),
        "up_block_types": (last.format("Up", kind), first.format("Up", kind)),
    }


TEXT = ends("CrossAttn{}Block{}", "{}Block{}", "2D")


def text() -> tuple[UNet2DConditionModel, Call]:
    """The kind that Stable Diffusion has: 4 latent channels, a text of 5 tokens."""
    model = UNet2DConditionModel(8, **SIZE, **TEXT, cross_attention_dim=12, attention_head_dim=4)
    return shaken(model), lambda t: (noise(t, 2, 4, 8, 8), t, noise(1, 2, 5, 12))


def label() -> tuple[UNet2DModel, Call]:
    model = UNet2DModel(8, **SIZE, **ends("{}Block{}", "Attn{}Block{}", "2D"), attention_head_dim=4, num_class_embeds=3)
    return shaken(model), lambda t: (noise(t, 2, 3, 8, 8), t, torch.tensor([0, 2]))


def shortcut() -> tuple[UNet2DModel, Call]:
    """Its down blocks give back three things."""
    model = UNet2DModel(8, **SIZE, **ends("Skip{}Block{}", "Skip{}Block{}", "2D"), attention_head_dim=4)
    return shaken(model), lambda t: (noise(t, 2, 3, 8, 8), t)


def frames() -> tuple[UNet3DConditionModel, Call]:
    types = ends("CrossAttn{}Block{}", "{}Block{}", "3D")
    model = UNet3DConditionModel(8, **SIZE, **types, cross_attention_dim=12, attention_head_dim=4)
    return shaken(model), lambda t: (noise(t, 2, 4, 3, 8, 8), t, noise(1, 2, 5, 12))


def motion() -> tuple[UNetMotionModel, Call]:
    types = ends("CrossAttn{}BlockMotion", "{}BlockMotion", "")
    heads = dict(num_attention_heads=2, motion_num_attention_heads=2, motion_max_seq_length=4)
    model = UNetMotionModel(8, **SIZE, **types, cross_attention_dim=12, **heads)
    return shaken(model), lambda t: (noise(t, 2, 4, 3, 8, 8), t, noise(1, 6, 5, 12))


def picture_to_video() -> tuple[I2VGenXLUNet, Call]:
    types = ends("CrossAttn{}Block{}", "{}Block{}", "3D")
    model = I2VGenXLUNet(8, **SIZE, **types, cross_attention_dim=32, attention_head_dim=4)
    rest = torch.tensor([8, 8]), noise(2, 2, 4, 3, 8, 8), noise(3, 2, 32), noise(1, 2, 5, 32)
    return shaken(model), lambda t: (noise(t, 2, 4, 3, 8, 8), t, *rest)


def space_and_time() -> tuple[UNetSpatioTemporalConditionModel, Call]:
    model = UNetSpatioTemporalConditionModel(
        8,
        **ends("CrossAttn{}BlockSpatioTemporal", "{}BlockSpatioTemporal", ""),
        **dict(block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=12, num_attention_heads=(2, 4)),
        **dict(projection_class_embeddings_input_dim=24, addition_time_embed_dim=8, num_frames=2),
    )
    return shaken(model), lambda t: (noise(t, 2, 2, 8, 8, 8), t, noise(1, 2, 1, 12), noise(2, 2, 3))


UNETS: dict[str, Callable[[], tuple[Any, Call]]] = {
    made.__name__: made for made in (text, label, shortcut, frames, motion, picture_to_video, space_and_time)
}

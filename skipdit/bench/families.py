"""Eight families of diffusers as small models with random weights, one line a family."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

TEXT = 16  # text tokens
WIDTH = 64  # of a head, of texts, of embeddings

Draw = Callable[..., Tensor]  # (*shape) -> noise, the same in every call of the model


class Size(NamedTuple):
    """How large a model is: 384 wide, 12 deep and 256 tokens as it stands; videos have half as many tokens."""

    depth: int = 12
    heads: int = 6
    side: int = 32  # of an image's latent, in pixels: two a token


@dataclass(frozen=True)
class Family:
    """A class of diffusers and one call of it.

    config    size -> the constructor's arguments
    shape     side -> the latent's, batch first
    call      (latent, timestep 1000 ... 0, noise) -> the keyword arguments
    named     its pipelines open diffusers' `cache_context` around a call, which some caches ask for
    """

    name: str
    config: Callable[[Size], dict[str, Any]]
    shape: Callable[[int], tuple[int, ...]]
    call: Callable[[Tensor, float, Draw], dict[str, Any]]
    named: bool = False

    def model(self, size: Size, seed: int = 0) -> nn.Module:
        """The model, with random weights wherever a fresh one has zeros: no block is the identity."""
        import diffusers

        torch.manual_seed(seed)
        model = getattr(diffusers, self.name)(**self.config(size)).eval().requires_grad_(False)
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.02)
        return model

    def arguments(self, x: Tensor, t: float) -> dict[str, Any]:
        """One call's arguments at a timestep."""
        generator = torch.Generator().manual_seed(7)
        return {**self.call(x, t, lambda *shape: torch.randn(shape, generator=generator)), "return_dict": False}


def _dit(x: Tensor, t: float, draw: Draw) -> dict[str, Any]:
    return dict(hidden_states=x, timestep=torch.full((len(x),), t), class_labels=torch.arange(len(x)))


def _captioned(x: Tensor, t: float, draw: Draw) -> dict[str, Any]:
    return dict(hidden_states=x, timestep=torch.full((len(x),), t), encoder_hidden_states=draw(len(x), TEXT, WIDTH))


def _pixart(x: Tensor, t: float, draw: Draw) -> dict[str, Any]:
    return {**_captioned(x, t, draw), "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}


def _hunyuan(x: Tensor, t: float, draw: Draw) -> dict[str, Any]:
    from diffusers.models.embeddings import get_2d_rotary_pos_embed

    side, mask = x.shape[-1] // 2, torch.ones(len(x), TEXT)
    return {
        **_captioned(x, t, draw),
        "text_embedding_mask": mask,
        "encoder_hidden_states_t5": draw(len(x), TEXT, WIDTH),
        "text_embedding_mask_t5": mask,
        "image_meta_size": torch.full((len(x), 6), 256.0),
        "style": torch.zeros(len(x), dtype=torch.long),
        "image_rotary_emb": get_2d_rotary_pos_embed(WIDTH, ((0, 0), (side, side)), (side, side), output_type="pt"),
    }


def _sd3(x: Tensor, t: float, draw: Draw) -> dict[str, Any]:
    return {**_captioned(x, t, draw), "pooled_projections": draw(len(x), WIDTH)}


def _flux(x: Tensor, t: float, draw: Draw) -> dict[str, Any]:
    side = int(x.shape[1] ** 0.5)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    ids = torch.stack([torch.zeros(side, side), rows, columns], -1).reshape(-1, 3)  # (T, 3)
    return {**_sd3(x, t / 1000, draw), "img_ids": ids.float(), "txt_ids": torch.zeros(TEXT, 3)}


def _common(size: Size, **more: Any) -> dict[str, Any]:
    return dict(num_attention_heads=size.heads, attention_head_dim=WIDTH, in_channels=4, out_channels=4, **more)


def _single(size: Size) -> dict[str, Any]:
    """One embedding of the timestep for all blocks, texts by cross-attention."""
    return dict(
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        caption_channels=WIDTH,
        cross_attention_dim=WIDTH * size.heads,
        num_embeds_ada_norm=1000,
        patch_size=2,
    )


def _dit_size(size: Size) -> dict[str, Any]:
    return _common(size, patch_size=2, sample_size=size.side, num_embeds_ada_norm=1000, num_layers=size.depth)


def _latte_size(size: Size) -> dict[str, Any]:
    more = dict(attention_bias=True, activation_fn="gelu-approximate", video_length=4, num_layers=size.depth // 2)
    return _common(size, sample_size=size.side // 2, **more, **_single(size))


def _hunyuan_size(size: Size) -> dict[str, Any]:
    texts = dict(cross_attention_dim=WIDTH, cross_attention_dim_t5=WIDTH, pooled_projection_dim=WIDTH)
    lengths = dict(text_len=TEXT, text_len_t5=TEXT, num_layers=size.depth, hidden_size=WIDTH * size.heads)
    common = {k: v for k, v in _common(size).items() if k != "out_channels"}
    return {**common, **texts, **lengths, "patch_size": 2, "sample_size": size.side}


def _pixart_size(size: Size) -> dict[str, Any]:
    return _common(size, sample_size=size.side, num_layers=size.depth, **_single(size))


def _sd3_size(size: Size) -> dict[str, Any]:
    texts = dict(joint_attention_dim=WIDTH, caption_projection_dim=WIDTH * size.heads, pooled_projection_dim=WIDTH)
    return _common(
        size, patch_size=2, sample_size=size.side, num_layers=size.depth, pos_embed_max_size=size.side, **texts
    )


def _flux_size(size: Size) -> dict[str, Any]:
    third = size.depth // 3
    more = dict(joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(16, 24, 24))
    return {
        **_common(size, num_layers=third, num_single_layers=size.depth - third, **more),
        "in_channels": 16,
        "out_channels": 16,
    }


def _cogvideox_size(size: Size) -> dict[str, Any]:
    sides = dict(sample_width=size.side // 2, sample_height=size.side // 2, sample_frames=5)
    texts = dict(time_embed_dim=WIDTH, text_embed_dim=WIDTH, max_text_seq_length=TEXT)
    return _common(size, num_layers=size.depth, **sides, **texts)


def _wan_size(size: Size) -> dict[str, Any]:
    wide = dict(text_dim=WIDTH, freq_dim=WIDTH, ffn_dim=4 * WIDTH * size.heads)
    return _common(size, num_layers=size.depth, rope_max_seq_len=32, **wide)


def _image(side: int) -> tuple[int, ...]:
    return 1, 4, side, side


FAMILIES = {
    "DiT": Family("DiTTransformer2DModel", _dit_size, _image, _dit),
    "Latte": Family("LatteTransformer3DModel", _latte_size, lambda side: (1, 4, 4, side // 2, side // 2), _captioned),
    "HunyuanDiT": Family("HunyuanDiT2DModel", _hunyuan_size, _image, _hunyuan),
    "PixArt": Family("PixArtTransformer2DModel", _pixart_size, _image, _pixart),
    "SD3": Family("SD3Transformer2DModel", _sd3_size, _image, _sd3),
    "Flux": Family("FluxTransformer2DModel", _flux_size, lambda side: (1, (side // 2) ** 2, 16), _flux, named=True),
    "CogVideoX": Family(
        "CogVideoXTransformer3DModel",
        _cogvideox_size,
        lambda side: (1, 2, 4, side // 2, side // 2),
        _captioned,
        named=True,
    ),
    "Wan": Family(
        "WanTransformer3DModel", _wan_size, lambda side: (1, 4, 2, side // 2, side // 2), _captioned, named=True
    ),
}

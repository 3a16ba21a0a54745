"""Transformers of pictures, the first half: DiT and PixArt's kin, AuraFlow, Bria, CogView, Flux and what grew of it."""

import torch
from case import Draw, small
from diffusers.models.embeddings import get_2d_rotary_pos_embed
from torch import Tensor

HIGH, WIDE, TEXT = 4, 6, 5  # tokens of a picture down and across, and of its text: no two alike


def moments(draw: Draw, t: float) -> Tensor:
    """The sampler's timestep, one for each sample."""
    return torch.full((draw.batch,), float(t))


def padded(draw: Draw, length: int = TEXT) -> Tensor:
    """A mask of text, 1 where a token is: the first sample lacks the last token, the second one the last two."""
    return (torch.arange(length) < length - 1 - torch.arange(draw.batch)[:, None]).long()


def sizes(draw: Draw, *values: float) -> Tensor:
    """The same numbers for each sample."""
    return torch.tensor([values]).float().repeat(draw.batch, 1)


def places(before: int, after: int, step: float = 1.0) -> Tensor:
    """Position ids of a picture's tokens: zeros, the row, the column, zeros."""
    rows, columns = torch.meshgrid(torch.arange(HIGH) * step, torch.arange(WIDE) * step, indexing="ij")
    zeros = torch.zeros(HIGH * WIDE, 1)
    return torch.cat([zeros] * before + [rows.reshape(-1, 1), columns.reshape(-1, 1)] + [zeros] * after, dim=1)


def counted() -> Tensor:
    """Position ids of text tokens that are counted along the last of four axes."""
    return torch.cat([torch.zeros(TEXT, 3), torch.arange(TEXT)[:, None]], dim=1)


@small(
    "AuraFlowTransformer2DModel",
    dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, num_mmdit_layers=3,
         num_single_dit_layers=4, sample_size=8, patch_size=2, joint_attention_dim=24, caption_projection_dim=32,
         pos_embed_max_size=64),
)  # fmt: skip
def auraflow(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 2 * HIGH, 2 * WIDE),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        timestep=moments(draw, t) / 1000,
        return_dict=False,
    )


@small(
    "DiTTransformer2DModel",
    dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=6, sample_size=8,
         patch_size=2, num_embeds_ada_norm=1000, norm_type="ada_norm_zero"),
    note="pictures are square",
)  # fmt: skip
def dit(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 8, 8),
        timestep=moments(draw, t),
        class_labels=torch.arange(draw.batch),
        return_dict=False,
    )


@small(
    "HunyuanDiT2DModel",
    dict(num_attention_heads=2, attention_head_dim=16, hidden_size=32, in_channels=4, num_layers=8, sample_size=8,
         patch_size=2, cross_attention_dim=24, cross_attention_dim_t5=16, pooled_projection_dim=16, text_len=TEXT,
         text_len_t5=7),
    note="native long skips; an even number of blocks",
)  # fmt: skip
def hunyuan_dit(draw, t):
    whole = (0, 0), (HIGH, WIDE)
    return dict(
        hidden_states=draw(draw.batch, 4, 2 * HIGH, 2 * WIDE),
        timestep=moments(draw, t),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        text_embedding_mask=padded(draw),
        encoder_hidden_states_t5=draw(draw.batch, 7, 16),
        text_embedding_mask_t5=padded(draw, 7),
        image_meta_size=sizes(draw, 64, 96, 64, 96, 0, 0),
        style=torch.zeros(draw.batch, dtype=torch.long),
        image_rotary_emb=get_2d_rotary_pos_embed(16, whole, (HIGH, WIDE), output_type="pt"),
        return_dict=False,
    )


PIXART = dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=6, sample_size=8,
              patch_size=2, cross_attention_dim=32, caption_channels=24, norm_type="ada_norm_single",
              num_embeds_ada_norm=1000, norm_elementwise_affine=False)  # fmt: skip


@small("PixArtTransformer2DModel", PIXART)
def pixart(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 2 * HIGH, 2 * WIDE),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        encoder_attention_mask=padded(draw),
        timestep=moments(draw, t),
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        return_dict=False,
    )


@small("Transformer2DModel", PIXART | dict(attention_bias=True, activation_fn="gelu-approximate"))
def transformer_2d(draw, t):
    return pixart(draw, t)  # the class that PixArt's checkpoints named at first


@small(
    "PriorTransformer",
    dict(num_attention_heads=2, attention_head_dim=16, num_layers=6, embedding_dim=24, num_embeddings=TEXT,
         additional_embeddings=4),
    note="one latent vector a sample, denoised as a token behind its text",
)  # fmt: skip
def prior(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 24),
        timestep=torch.tensor(t),
        proj_embedding=draw(draw.batch, 24),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        attention_mask=padded(draw).bool(),
        return_dict=False,
    )


@small(
    "SanaTransformer2DModel",
    dict(num_attention_heads=4, attention_head_dim=8, in_channels=8, out_channels=8, num_layers=6, sample_size=8,
         patch_size=1, num_cross_attention_heads=2, cross_attention_head_dim=16, cross_attention_dim=32,
         caption_channels=24),
)  # fmt: skip
def sana(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 8, HIGH, WIDE),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        encoder_attention_mask=padded(draw),
        timestep=moments(draw, t),
        return_dict=False,
    )


BRIA = dict(num_attention_heads=2, attention_head_dim=16, in_channels=16, num_layers=3, num_single_layers=4,
            joint_attention_dim=24, axes_dims_rope=[4, 6, 6])  # fmt: skip


@small("BriaTransformer2DModel", BRIA)
def bria(draw, t):
    return dict(
        hidden_states=draw(draw.batch, HIGH * WIDE, 16),
        timestep=moments(draw, t),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        txt_ids=torch.zeros(TEXT, 3),
        img_ids=places(1, 0),
        return_dict=False,
    )


@small("BriaFiboTransformer2DModel", BRIA | dict(text_encoder_dim=20))
def bria_fibo(draw, t):
    mask = torch.cat([padded(draw), torch.ones(draw.batch, HIGH * WIDE)], dim=1).bool()
    return dict(
        hidden_states=draw(draw.batch, HIGH * WIDE, 16),
        timestep=moments(draw, t),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        text_encoder_layers=[draw(draw.batch, TEXT, 20) for _ in range(3 + 4)],
        joint_attention_kwargs={"attention_mask": mask[:, None, None, :]},
        txt_ids=torch.zeros(TEXT, 3),
        img_ids=places(1, 0),
        return_dict=False,
    )


@small(
    "BriaFibo2Transformer2DModel",
    dict(in_channels=4, patch_size=2, dim=32, n_layers=6, n_refiner_layers=2, n_heads=2, cap_feat_dim=24,
         injection_layer_ids=(1, 4), perceiver_num_layers=1, min_num_gist_tokens=2, max_num_gist_tokens=6,
         gist_step=2, gist_min_text_len=2, gist_max_text_len=10, axes_dims=(4, 6, 6), axes_lens=(16, 16, 16)),
)  # fmt: skip
def bria_fibo2(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 2 * HIGH, 2 * WIDE),
        timestep=moments(draw, t) / 1000,
        encoder_hidden_states=draw(draw.batch, 3, TEXT, 24),
        encoder_attention_mask=None,
        context_latents=None,
        return_dict=False,
    )


@small(
    "ChromaTransformer2DModel",
    dict(num_attention_heads=2, attention_head_dim=16, in_channels=16, num_layers=3, num_single_layers=4,
         joint_attention_dim=24, axes_dims_rope=(4, 6, 6), approximator_num_channels=16, approximator_hidden_dim=32,
         approximator_layers=2),
)  # fmt: skip
def chroma(draw, t):
    return dict(
        hidden_states=draw(draw.batch, HIGH * WIDE, 16),
        timestep=moments(draw, t) / 1000,
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        txt_ids=torch.zeros(TEXT, 3),
        img_ids=places(1, 0),
        attention_mask=torch.cat([padded(draw).float(), torch.ones(draw.batch, HIGH * WIDE)], dim=1),
        return_dict=False,
    )


COGVIEW = dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, num_layers=6, patch_size=2,
               text_embed_dim=24, time_embed_dim=16, condition_dim=8)  # fmt: skip


def cogview(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 2 * HIGH, 2 * WIDE),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        timestep=moments(draw, t),
        original_size=sizes(draw, 64, 96),
        target_size=sizes(draw, 64, 96),
        crop_coords=sizes(draw, 0, 0),
        return_dict=False,
    )


small("CogView3PlusTransformer2DModel", COGVIEW | dict(sample_size=8, pos_embed_max_size=8))(cogview)
small("CogView4Transformer2DModel", COGVIEW | dict(sample_size=8))(cogview)


@small("GlmImageTransformer2DModel", COGVIEW | dict(prior_vq_quantizer_codebook_size=32))
def glm_image(draw, t):
    from diffusers.models.transformers.transformer_glm_image import GlmImageKVCache  # older releases lack it

    token = torch.arange(HIGH * WIDE).repeat(draw.batch, 1)
    return dict(
        hidden_states=draw(draw.batch, 4, 2 * HIGH, 2 * WIDE),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        prior_token_id=token,
        prior_token_drop=torch.zeros_like(token, dtype=torch.bool),
        timestep=moments(draw, t) - 1,
        target_size=sizes(draw, 64, 96),
        crop_coords=sizes(draw, 0, 0),
        kv_caches=GlmImageKVCache(num_layers=6),  # empty: there is no picture to edit
        return_dict=False,
    )


@small(
    "ErnieImageTransformer2DModel",
    dict(hidden_size=32, num_attention_heads=2, num_layers=6, ffn_hidden_size=64, in_channels=8, out_channels=8,
         patch_size=1, text_in_dim=24, rope_axes_dim=(4, 6, 6)),
    note="tokens come before samples within the blocks",
)  # fmt: skip
def ernie_image(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 8, HIGH, WIDE),
        timestep=moments(draw, t),
        text_bth=draw(draw.batch, TEXT, 24),
        text_lens=TEXT - torch.arange(draw.batch),
        return_dict=False,
    )


@small(
    "FluxTransformer2DModel",
    dict(num_attention_heads=2, attention_head_dim=16, in_channels=16, num_layers=3, num_single_layers=4,
         joint_attention_dim=24, pooled_projection_dim=20, guidance_embeds=True, axes_dims_rope=(4, 6, 6)),
)  # fmt: skip
def flux(draw, t):
    return dict(
        hidden_states=draw(draw.batch, HIGH * WIDE, 16),
        timestep=moments(draw, t) / 1000,
        guidance=torch.full((draw.batch,), 3.5),
        pooled_projections=draw(draw.batch, 20),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        txt_ids=torch.zeros(TEXT, 3),
        img_ids=places(1, 0),
        return_dict=False,
    )


@small(
    "Flux2Transformer2DModel",
    dict(num_attention_heads=2, attention_head_dim=16, in_channels=16, num_layers=3, num_single_layers=4,
         joint_attention_dim=24, timestep_guidance_channels=16, guidance_embeds=True, axes_dims_rope=(4, 4, 4, 4)),
)  # fmt: skip
def flux2(draw, t):
    return dict(
        hidden_states=draw(draw.batch, HIGH * WIDE, 16),
        timestep=moments(draw, t) / 1000,
        guidance=torch.full((draw.batch,), 4.0),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        txt_ids=counted().repeat(draw.batch, 1, 1),
        img_ids=places(1, 1).repeat(draw.batch, 1, 1),
        return_dict=False,
    )


@small(
    "Flux3Transformer2DModel",
    dict(num_attention_heads=2, attention_head_dim=16, in_channels=16, cond_in_channels=16, num_layers=3,
         num_single_layers=4, joint_attention_dim=24, timestep_channels=16, axes_dims_rope=(4, 4, 4, 4)),
    note="text to image: mode_blocks.image_cond never runs",
)  # fmt: skip
def flux3(draw, t):
    return dict(
        hidden_states=draw(draw.batch, HIGH * WIDE, 16),
        timestep=moments(draw, t) / 1000,
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        txt_ids=counted(),
        img_ids=places(1, 1, step=0.5),
        return_dict=False,
    )

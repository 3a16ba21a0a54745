"""Small image models, from HiDream to Z-Image: most join text and image in one attention."""

import diffusers
import torch
from case import Draw, small
from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina
from torch import Tensor, nn

HEADS = dict(num_attention_heads=2, attention_head_dim=16)
ROPE = (4, 6, 6)  # a head's 16 channels, shared out among frame, row and column


def now(draw: Draw, t: float) -> Tensor:
    return torch.full((draw.batch,), float(t))


def prompt_mask(draw: Draw, length: int) -> Tensor:
    """1 for words: the first prompt fills its row, the others are two words shorter."""
    mask = torch.ones(draw.batch, length, dtype=torch.int64)
    mask[1:, -2:] = 0
    return mask


def grid(rows: int, columns: int, first: int = 0) -> Tensor:
    """(0, row, column) of every token of an image, counted from `first`."""
    at = [torch.zeros(1), torch.arange(rows) + float(first), torch.arange(columns) + float(first)]
    return torch.cartesian_prod(*at)  # (rows * columns, 3)


# ---- two streams, then one ------------------------------------------------------------------------------------------


@small(
    "HiDreamImageTransformer2DModel",
    dict(
        **HEADS,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        num_single_layers=3,
        caption_channels=[12, 20],
        text_emb_dim=16,
        num_routed_experts=4,
        num_activated_experts=2,
        axes_dims_rope=(8, 4, 4),
        max_resolution=(16, 16),
        llama_layers=[0, 1, 2, 3, 3, 3],
    ),
)
def hidream(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 8, 8),
        timesteps=now(draw, t),
        encoder_hidden_states_t5=draw(draw.batch, 3, 12),
        encoder_hidden_states_llama3=draw(4, draw.batch, 5, 20),
        pooled_embeds=draw(draw.batch, 16),
        return_dict=False,
    )


@small(
    "HunyuanImageTransformer2DModel",
    dict(
        **HEADS,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        num_single_layers=3,
        num_refiner_layers=1,
        mlp_ratio=2.0,
        text_embed_dim=24,
        rope_axes_dim=(8, 8),
    ),
    note="without the second text encoder, whose projection is 2048 wide whatever the configuration",
)
def hunyuan_image(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 4, 6),
        timestep=now(draw, t),
        encoder_hidden_states=draw(draw.batch, 5, 24),
        encoder_attention_mask=prompt_mask(draw, 5),
        timestep_r=None,
        guidance=None,
        return_dict=False,
    )


@small(
    "LongCatImageTransformer2DModel",
    dict(
        **HEADS,
        in_channels=16,
        num_layers=3,
        num_single_layers=3,
        joint_attention_dim=24,
        pooled_projection_dim=24,
        axes_dims_rope=list(ROPE),
    ),
)
def longcat_image(draw, t):
    words = torch.arange(5.0)
    return dict(
        hidden_states=draw(draw.batch, 12, 16),
        timestep=now(draw, t) / 1000,
        guidance=None,
        encoder_hidden_states=draw(draw.batch, 5, 24),
        txt_ids=torch.stack([torch.zeros(5), words, words], dim=1),
        img_ids=grid(3, 4, first=5) + torch.tensor([1.0, 0.0, 0.0]),
        return_dict=False,
    )


@small(
    "OvisImageTransformer2DModel",
    dict(
        **HEADS,
        in_channels=16,
        out_channels=16,
        num_layers=3,
        num_single_layers=3,
        joint_attention_dim=24,
        axes_dims_rope=ROPE,
    ),
)
def ovis_image(draw, t):
    words = torch.arange(5.0)
    return dict(
        hidden_states=draw(draw.batch, 12, 16),
        timestep=now(draw, t) / 1000,
        encoder_hidden_states=draw(draw.batch, 5, 24),
        txt_ids=torch.stack([torch.zeros(5), words, words], dim=1),
        img_ids=grid(3, 4),
        return_dict=False,
    )


# ---- two streams in every block -------------------------------------------------------------------------------------


@small(
    "JoyImageEditTransformer3DModel",
    dict(
        patch_size=[1, 2, 2],
        in_channels=4,
        out_channels=4,
        hidden_size=32,
        num_attention_heads=2,
        text_dim=24,
        mlp_width_ratio=2.0,
        num_layers=6,
        rope_dim_list=list(ROPE),
    ),
)
def joy_image_edit(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 2, 4, 1, 4, 6),  # the picture to edit, then the noise
        timestep=now(draw, t),
        encoder_hidden_states=draw(draw.batch, 5, 24),
        return_dict=False,
    )


@small(
    "JoyImageEditPlusTransformer3DModel",
    dict(
        patch_size=[1, 2, 2],
        in_channels=4,
        out_channels=4,
        hidden_size=32,
        num_attention_heads=2,
        text_dim=24,
        mlp_width_ratio=2.0,
        num_layers=6,
        rope_dim_list=list(ROPE),
    ),
)
def joy_image_edit_plus(draw, t):
    patches = draw(draw.batch, 10, 4, 1, 2, 2)  # the noise, then the picture to edit
    patches[1:, 8:] = 0.0
    return dict(
        hidden_states=patches,
        timestep=now(draw, t),
        encoder_hidden_states=draw(draw.batch, 5, 24),
        encoder_hidden_states_mask=prompt_mask(draw, 5),
        shape_list=[[(1, 2, 3), (1, 2, 2)], [(1, 2, 3), (1, 1, 2)]][: draw.batch],
        return_dict=False,
    )


@small(
    "QwenImageTransformer2DModel",
    dict(
        **HEADS,
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=6,
        joint_attention_dim=24,
        axes_dims_rope=ROPE,
    ),
)
def qwen_image(draw, t):
    mask = prompt_mask(draw, 5)
    return dict(
        hidden_states=draw(draw.batch, 12, 16),
        timestep=now(draw, t) / 1000,
        guidance=None,
        encoder_hidden_states_mask=None if mask.all() else mask,
        encoder_hidden_states=draw(draw.batch, 5, 24),
        img_shapes=[[(1, 3, 4)]] * draw.batch,
        return_dict=False,
    )


@small(
    "SD3Transformer2DModel",
    dict(
        **HEADS,
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        joint_attention_dim=24,
        caption_projection_dim=32,
        pooled_projection_dim=16,
        pos_embed_max_size=8,
        dual_attention_layers=(0, 1, 2),
        qk_norm="rms_norm",
    ),
)
def sd3(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 6, 8),
        timestep=now(draw, t),
        encoder_hidden_states=draw(draw.batch, 5, 24),
        pooled_projections=draw(draw.batch, 16),
        return_dict=False,
    )


# ---- one stream that holds the text too -----------------------------------------------------------------------------


@small(
    "Ideogram4Transformer2DModel",
    dict(
        **HEADS,
        in_channels=16,
        num_layers=6,
        intermediate_size=64,
        adaln_dim=24,
        llm_features_dim=40,
        mrope_section=(4, 2, 2),
    ),
)
def ideogram4(draw, t):
    text, image = 5, 12
    role = torch.tensor([3] * text + [2] * image).repeat(draw.batch, 1)  # word or image
    segment = torch.ones_like(role)
    place = torch.cat([torch.arange(text)[:, None].expand(-1, 3), grid(3, 4).long() + 65536]).repeat(draw.batch, 1, 1)
    role[1:, :2], segment[1:, :2] = 0, -1  # words stand at the end of their room: the first prompt fills it
    place[1:, :text] = (place[1:, :text] - 2).clamp(min=0)
    return dict(
        hidden_states=torch.cat([torch.zeros(draw.batch, text, 16), draw(draw.batch, image, 16)], dim=1),
        timestep=1 - now(draw, t) / 1000,
        encoder_hidden_states=torch.cat([draw(draw.batch, text, 40), torch.zeros(draw.batch, image, 40)], dim=1),
        position_ids=place,
        segment_ids=segment,
        indicator=role,
        return_dict=False,
    )


@small(
    "Krea2Transformer2DModel",
    dict(
        **HEADS,
        in_channels=16,
        num_layers=6,
        num_key_value_heads=1,
        intermediate_size=64,
        timestep_embed_dim=32,
        text_hidden_dim=16,
        num_text_layers=3,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=32,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=ROPE,
    ),
)
def krea2(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 12, 16),
        encoder_hidden_states=draw(draw.batch, 5, 3, 16),
        timestep=now(draw, t) / 1000,
        position_ids=torch.cat([torch.zeros(5, 3), grid(3, 4)]),
        encoder_attention_mask=prompt_mask(draw, 5).bool(),
        return_dict=False,
    )


@small(
    "Lumina2Transformer2DModel",
    dict(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=32,
        num_layers=6,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=32,
        axes_dim_rope=ROPE,
        axes_lens=(16, 8, 8),
        cap_feat_dim=24,
    ),
)
def lumina2(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 6, 8),
        timestep=1 - now(draw, t) / 1000,
        encoder_hidden_states=draw(draw.batch, 5, 24),
        encoder_attention_mask=prompt_mask(draw, 5),
        return_dict=False,
    )


@small(
    "OmniGenTransformer2DModel",
    dict(
        in_channels=4,
        patch_size=2,
        hidden_size=32,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=64,
        num_layers=6,
        pad_token_id=0,
        vocab_size=32,
        max_position_embeddings=64,
        original_max_position_embeddings=64,
        rope_scaling=dict(short_factor=[1.0] * 8, long_factor=[1.0] * 8),
        pos_embed_max_size=8,
        time_step_dim=32,
    ),
    note="its sampler counts from 0, noise, to 1: that is 1 - t / 1000",
)
def omnigen(draw, t):
    text, image = 5, 12  # and one token between them for the time
    size = text + 1 + image
    mask, place = torch.zeros(draw.batch, size, size), torch.zeros(draw.batch, size, dtype=torch.int64)
    words = 3 + torch.arange(text).repeat(draw.batch, 1)
    for row in range(draw.batch):
        pad = 2 * (row > 0)  # before the words
        words[row, :pad] = 0
        place[row, pad:] = torch.arange(size - pad)
        mask[row, :pad] = 1.0
        mask[row, pad : text + 1, pad : text + 1] = torch.ones(text + 1 - pad, text + 1 - pad).tril()
        mask[row, text + 1 :, pad:] = 1.0
    return dict(
        hidden_states=draw(draw.batch, 4, 6, 8),
        timestep=1 - now(draw, t) / 1000,
        input_ids=words,
        input_img_latents=[],
        input_image_sizes={},
        attention_mask=mask,
        position_ids=place,
        return_dict=False,
    )


@small(
    "QwenImage21Transformer2DModel",
    dict(**HEADS, in_channels=16, out_channels=16, num_layers=6, context_in_dim=24, mlp_ratio=2, axes_dims_rope=ROPE),
    note="as with use_kv_cache=False: by default its pipeline keeps keys and values of the text from the first step on",
)
def qwen_image_21(draw, t):
    slots = torch.zeros(draw.batch, 5 + 6, dtype=torch.bool)
    slots[:, 5:] = True  # each stands for four tokens of the image
    return dict(
        hidden_states=draw(draw.batch, 24, 16),
        timestep=now(draw, t) / 1000,
        encoder_hidden_states=draw(draw.batch, 5, 24),
        encoder_hidden_states_mask=prompt_mask(draw, 5).bool(),
        img_shapes=[[(1, 4, 6)]] * draw.batch,
        img_mask=slots,
        kv_cache=None,
        kv_cache_mode=None,
        return_dict=False,
    )


@small(
    "ZImageTransformer2DModel",
    dict(
        in_channels=4,
        dim=32,
        n_layers=6,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=24,
        axes_dims=list(ROPE),
        axes_lens=[128, 8, 8],
    ),
)
def z_image(draw, t):
    return dict(
        x=list(draw(draw.batch, 4, 1, 12, 12).unbind()),  # 36 tokens each, padded to 64
        t=(1000 - now(draw, t)) / 1000,
        cap_feats=[draw(5 + 30 * row, 24) for row in range(draw.batch)],  # padded to 32 and 64
        return_dict=False,
    )


# ---- text outside the stream ----------------------------------------------------------------------------------------


@small(
    "LuminaNextDiT2DModel",
    dict(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=32,
        num_layers=6,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=32,
        cross_attention_dim=24,
    ),
)
def lumina_next(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 6, 8),
        timestep=1 - now(draw, t) / 1000,
        encoder_hidden_states=draw(draw.batch, 5, 24),
        encoder_mask=prompt_mask(draw, 5),
        image_rotary_emb=get_2d_rotary_pos_embed_lumina(16, 8, 8),
        cross_attention_kwargs=dict(base_sequence_length=64**2),
        return_dict=False,
    )


def NucleusMoEImageTransformer2DModel(**config) -> nn.Module:
    """The model of diffusers, which leaves its experts' weights to whatever the memory held."""
    model = diffusers.NucleusMoEImageTransformer2DModel(**config)
    for name, parameter in model.named_parameters():
        if ".experts." in name:
            nn.init.normal_(parameter, std=0.2)
    return model


@small(
    "NucleusMoEImageTransformer2DModel",
    dict(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=6,
        attention_head_dim=16,
        num_attention_heads=4,
        num_key_value_heads=2,
        joint_attention_dim=24,
        axes_dims_rope=ROPE,
        num_experts=4,
        moe_intermediate_dim=16,
        capacity_factors=2.0,
    ),
    module=__name__,
)
def nucleus_moe(draw, t):
    mask = prompt_mask(draw, 5)
    return dict(
        hidden_states=draw(draw.batch, 12, 16),
        timestep=now(draw, t) / 1000,
        encoder_hidden_states=draw(draw.batch, 5, 24),
        encoder_hidden_states_mask=None if mask.all() else mask,
        img_shapes=[(1, 3, 4)] * draw.batch,
        return_dict=False,
    )


@small(
    "PRXTransformer2DModel",
    dict(
        in_channels=4,
        patch_size=2,
        context_in_dim=24,
        hidden_size=32,
        mlp_ratio=2.0,
        num_heads=2,
        depth=6,
        axes_dim=[8, 8],
    ),
)
def prx(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 6, 8),
        timestep=now(draw, t) / 1000,
        encoder_hidden_states=draw(draw.batch, 5, 24),
        attention_mask=prompt_mask(draw, 5).bool(),
        return_dict=False,
    )


# ---- a U of blocks with skips ---------------------------------------------------------------------------------------


@small(
    "UniDiffuserModel",
    dict(
        **HEADS,
        text_dim=12,
        clip_img_dim=20,
        num_text_tokens=5,
        in_channels=4,
        out_channels=4,
        num_layers=6,  # three in and three out, and one more between them
        sample_size=8,
        patch_size=2,
        activation_fn="gelu",
        use_data_type_embedding=True,
    ),
    module="diffusers.pipelines.deprecated.unidiffuser.modeling_uvit",
)
def unidiffuser(draw, t):
    return dict(
        latent_image_embeds=draw(draw.batch, 4, 8, 8),
        image_embeds=draw(draw.batch, 1, 20),
        prompt_embeds=draw(draw.batch, 5, 12),
        timestep_img=torch.tensor(float(t)),
        timestep_text=0,
        data_type=1,
    )

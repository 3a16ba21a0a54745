"""Transformers of video, the first half: CogVideoX to LTX, the Hunyuan, Kandinsky and Cosmos kin among them."""

import torch
from case import Draw, small
from diffusers.models.embeddings import get_3d_rotary_pos_embed, get_3d_rotary_pos_embed_allegro
from torch import Tensor

FRAMES, HIGH, WIDE, TEXT = 3, 2, 4, 5  # tokens of a video along time, down and across, and of its text: no two alike
TALL, BROAD = 2 * HIGH, 2 * WIDE  # its latents down and across, where a patch has two by two


def moments(draw: Draw, t: float) -> Tensor:
    """The sampler's timestep, one for each sample."""
    return torch.full((draw.batch,), float(t))


def padded(draw: Draw, length: int = TEXT) -> Tensor:
    """A mask of text, 1 where a token is: the first sample lacks the last token, the second one the last two."""
    return (torch.arange(length) < length - 1 - torch.arange(draw.batch)[:, None]).long()


def guidance(draw: Draw) -> Tensor:
    return torch.full((draw.batch,), 6000.0)


def rotary(head: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of CogVideoX's pipelines."""
    return get_3d_rotary_pos_embed(head, ((0, 0), (HIGH, WIDE)), (HIGH, WIDE), FRAMES)


@small(
    "CogVideoXTransformer3DModel",
    dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=16,
         text_embed_dim=24, num_layers=6, sample_width=8, sample_height=4, sample_frames=9, max_text_seq_length=TEXT,
         use_rotary_positional_embeddings=True),
)  # fmt: skip
def cogvideox(draw, t):
    return dict(
        hidden_states=draw(draw.batch, FRAMES, 4, TALL, BROAD),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        timestep=moments(draw, t),
        image_rotary_emb=rotary(16),
        return_dict=False,
    )


@small(
    "ConsisIDTransformer3DModel",
    dict(num_attention_heads=3, attention_head_dim=16, in_channels=8, out_channels=4, time_embed_dim=16,
         text_embed_dim=24, num_layers=6, sample_width=8, sample_height=4, sample_frames=9, max_text_seq_length=TEXT,
         use_rotary_positional_embeddings=True, is_train_face=True, cross_attn_interval=2, cross_attn_dim_head=8,
         cross_attn_num_heads=2, LFE_id_dim=20, LFE_vit_dim=16, LFE_depth=2, LFE_dim_head=8, LFE_num_heads=2,
         LFE_num_id_token=2, LFE_num_querie=3, LFE_output_dim=32, LFE_ff_mult=2, LFE_num_scale=2),
)  # fmt: skip
def consisid(draw, t):
    return dict(
        hidden_states=draw(draw.batch, FRAMES, 8, TALL, BROAD),  # the noise, and the picture's latents
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        timestep=moments(draw, t),
        image_rotary_emb=rotary(16),
        id_cond=draw(draw.batch, 20),
        id_vit_hidden=[draw(draw.batch, 6, 16) for _ in range(2)],
        return_dict=False,
    )


@small(
    "LatteTransformer3DModel",
    dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=3, sample_size=8,
         patch_size=2, cross_attention_dim=32, caption_channels=24, attention_bias=True, video_length=FRAMES,
         activation_fn="gelu-approximate", num_embeds_ada_norm=1000, norm_type="ada_norm_single",
         norm_elementwise_affine=False, norm_eps=1e-6),
)  # fmt: skip
def latte(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, FRAMES, TALL, BROAD),
        timestep=moments(draw, t),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        enable_temporal_attentions=True,
        return_dict=False,
    )


@small(
    "AllegroTransformer3DModel",
    dict(num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, num_layers=6,
         cross_attention_dim=24, caption_channels=20, sample_height=4, sample_width=8, sample_frames=FRAMES),
)  # fmt: skip
def allegro(draw, t):
    *angles, times, rows, columns = get_3d_rotary_pos_embed_allegro(
        12, ((0, 0), (HIGH, WIDE)), (HIGH, WIDE), FRAMES, interpolation_scale=(2.2, 2.0, 2.0)
    )
    places = torch.cartesian_prod(times.long(), rows.long(), columns.long()).T.reshape(3, 1, -1)
    return dict(
        hidden_states=draw(draw.batch, 4, FRAMES, TALL, BROAD),
        encoder_hidden_states=draw(draw.batch, TEXT, 20),
        encoder_attention_mask=padded(draw),
        timestep=moments(draw, t),
        image_rotary_emb=(tuple(angles), tuple(places)),
        return_dict=False,
    )


@small(
    "AnyFlowTransformer3DModel",
    dict(num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=20, freq_dim=16,
         ffn_dim=48, num_layers=6, rope_max_seq_len=32),
)  # fmt: skip
def anyflow(draw, t):
    moment = moments(draw, t)[:, None].repeat(1, FRAMES)
    return dict(
        hidden_states=draw(draw.batch, FRAMES, 4, TALL, BROAD),
        timestep=moment,
        r_timestep=(moment - 20).clamp(min=0),  # the next timestep, of 50 steps
        encoder_hidden_states=draw(draw.batch, TEXT, 20),
        return_dict=False,
    )


@small(
    "AnyFlowFARTransformer3DModel",
    dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=20, freq_dim=16,
         ffn_dim=48, num_layers=6, rope_max_seq_len=32, full_chunk_limit=2, chunk_partition=(1, 1, FRAMES)),
    note="a step of the third chunk: the keys and values of the first (coarse) and the second are in the cache",
)  # fmt: skip
def anyflow_far(draw, t):
    moment = moments(draw, t)[:, None].repeat(1, FRAMES)
    noise, text = draw(draw.batch, FRAMES, 4, TALL, BROAD), draw(draw.batch, TEXT, 20)
    tokens, coarse = HIGH * WIDE, HIGH * WIDE // 4  # of a frame
    cache = {
        layer: dict(
            full_cache=draw(2, draw.batch, 2, 2 * FRAMES * tokens, 16),
            compressed_cache=draw(2, draw.batch, 2, 2 * FRAMES * coarse, 16),
        )
        for layer in range(6)
    }
    return dict(
        hidden_states=noise,
        timestep=moment,
        r_timestep=(moment - 20).clamp(min=0),
        encoder_hidden_states=text,
        chunk_partition=[1, 1, FRAMES],
        kv_cache=cache,
        kv_cache_flag=dict(num_cached_chunks=2, is_cache_step=False),
        return_dict=False,
    )


@small(
    "ChronoEditTransformer3DModel",
    dict(num_attention_heads=2, attention_head_dim=12, in_channels=12, out_channels=4, text_dim=20, freq_dim=16,
         ffn_dim=48, num_layers=6, image_dim=16, added_kv_proj_dim=24, rope_max_seq_len=32),
    note="its attention takes what comes before the last 512 tokens of text for the picture's, so there are 512",
)  # fmt: skip
def chronoedit(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 12, FRAMES, TALL, BROAD),  # the noise; a mask and latents of the picture
        timestep=moments(draw, t),
        encoder_hidden_states=draw(draw.batch, 512, 20),
        encoder_hidden_states_image=draw(draw.batch, 7, 16),
        return_dict=False,
    )


@small(
    "CosmosTransformer3DModel",
    dict(in_channels=5, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=6, mlp_ratio=2.0,
         text_embed_dim=20, adaln_lora_dim=4, max_size=(8, 16, 16), patch_size=(1, 2, 2), rope_scale=(1.0, 3.0, 3.0),
         concat_padding_mask=False, extra_pos_embed_type=None, use_crossattn_projection=True,
         crossattn_proj_in_channels=28, encoder_hidden_states_channels=20),
    note="as Cosmos 2.5 predicts from one frame, but without a mask of padding: torchvision would resize it",
)  # fmt: skip
def cosmos(draw, t):
    given = torch.zeros(draw.batch, 1, FRAMES, 1, 1)
    given[:, :, 0] = 1
    return dict(
        hidden_states=draw(draw.batch, 4, FRAMES, TALL, BROAD),
        condition_mask=given.expand(-1, -1, -1, TALL, BROAD),
        timestep=0.0001 * given + (1 - given) * float(t) / 1000,
        encoder_hidden_states=draw(draw.batch, TEXT, 28),
        padding_mask=torch.zeros(1, 1, 8 * TALL, 8 * BROAD),
        return_dict=False,
    )


@small(
    "Cosmos3OmniTransformer",
    dict(head_dim=16, hidden_size=32, intermediate_size=48, latent_channel=4, latent_patch_size=2, patch_latent_dim=16,
         num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=6, vocab_size=30, rope_axes_dim=(4, 2, 2)),
    note="one sample only: all tokens of a call are one sequence without a batch; its pictures come out as a list",
)  # fmt: skip
def cosmos3(draw, t):
    tokens = FRAMES * HIGH * WIDE
    text = torch.arange(TEXT).expand(3, -1)
    grid = torch.cartesian_prod(torch.arange(FRAMES), torch.arange(HIGH), torch.arange(WIDE)).T
    seen = torch.arange(TEXT, TEXT + tokens)
    return dict(
        input_ids=torch.arange(7, 7 + TEXT),
        text_indexes=torch.arange(TEXT),
        position_ids=torch.cat([text, grid + torch.tensor([[15000 + TEXT], [0], [0]])], dim=1).float(),
        und_len=TEXT,
        sequence_length=TEXT + tokens,
        vision_tokens=[draw(1, 4, FRAMES, TALL, BROAD)],
        vision_token_shapes=[(FRAMES, HIGH, WIDE)],
        vision_sequence_indexes=seen,
        vision_mse_loss_indexes=seen,
        vision_timesteps=torch.full((tokens,), float(t)),
        vision_noisy_frame_indexes=[torch.arange(FRAMES)],
        return_dict=False,
    )


@small(
    "EasyAnimateTransformer3DModel",
    dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, patch_size=2, sample_width=8,
         sample_height=4, num_layers=6, mmdit_layers=6, time_embed_dim=16, text_embed_dim=24,
         add_norm_text_encoder=True),
)  # fmt: skip
def easyanimate(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, FRAMES, TALL, BROAD),
        timestep=moments(draw, t),
        encoder_hidden_states=draw(draw.batch, TEXT, 24),
        return_dict=False,
    )


@small(
    "HeliosTransformer3DModel",
    dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=20, freq_dim=16,
         ffn_dim=48, num_layers=6, rope_dim=(4, 6, 6)),
)  # fmt: skip
def helios(draw, t):
    first, long, middle, last, new = torch.arange(1 + 4 + 2 + 1 + FRAMES).split([1, 4, 2, 1, FRAMES])
    return dict(
        hidden_states=draw(draw.batch, 4, FRAMES, TALL, BROAD),
        timestep=moments(draw, t),
        encoder_hidden_states=draw(draw.batch, TEXT, 20),
        indices_hidden_states=new[None],
        indices_latents_history_short=torch.cat([first, last])[None],
        indices_latents_history_mid=middle[None],
        indices_latents_history_long=long[None],
        latents_history_short=draw(draw.batch, 4, 2, TALL, BROAD),
        latents_history_mid=draw(draw.batch, 4, 2, TALL, BROAD),
        latents_history_long=draw(draw.batch, 4, 4, TALL, BROAD),
        return_dict=False,
    )


HUNYUAN = dict(
    in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=3, num_single_layers=4,
    num_refiner_layers=1, mlp_ratio=2.0, text_embed_dim=20, pooled_projection_dim=12, rope_axes_dim=(4, 6, 6),
)  # fmt: skip


@small("HunyuanVideoTransformer3DModel", HUNYUAN)
def hunyuan(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, FRAMES, TALL, BROAD),
        timestep=moments(draw, t),
        encoder_hidden_states=draw(draw.batch, TEXT, 20),
        encoder_attention_mask=padded(draw),
        pooled_projections=draw(draw.batch, 12),
        guidance=guidance(draw),
        return_dict=False,
    )


@small(
    "HunyuanVideo15Transformer3DModel",
    dict(in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=6,
         num_refiner_layers=1, mlp_ratio=2.0, text_embed_dim=20, text_embed_2_dim=12, image_embed_dim=16,
         rope_axes_dim=(4, 6, 6)),
)  # fmt: skip
def hunyuan15(draw, t):
    noise = draw(draw.batch, 4, FRAMES, HIGH, WIDE)
    return dict(
        hidden_states=torch.cat([noise, torch.zeros_like(noise), torch.zeros_like(noise[:, :1])], dim=1),
        timestep=moments(draw, t),
        encoder_hidden_states=draw(draw.batch, TEXT, 20),
        encoder_attention_mask=padded(draw),
        encoder_hidden_states_2=draw(draw.batch, 4, 12),
        encoder_attention_mask_2=padded(draw, 4),
        image_embeds=torch.zeros(draw.batch, 7, 16),  # there is no picture
        return_dict=False,
    )


@small(
    "HunyuanVideoFramepackTransformer3DModel",
    HUNYUAN | dict(has_image_proj=True, image_proj_dim=16, has_clean_x_embedder=True),
)
def framepack(draw, t):
    first, new, near, middle, far = torch.arange(1 + FRAMES + 1 + 2 + 4).split([1, FRAMES, 1, 2, 4])
    return dict(
        hidden_states=draw(draw.batch, 4, FRAMES, TALL, BROAD),
        timestep=moments(draw, t),
        encoder_hidden_states=draw(draw.batch, TEXT, 20),
        encoder_attention_mask=padded(draw),
        pooled_projections=draw(draw.batch, 12),
        image_embeds=draw(draw.batch, 7, 16),
        indices_latents=new,
        guidance=guidance(draw),
        latents_clean=draw(draw.batch, 4, 2, TALL, BROAD),
        indices_latents_clean=torch.cat([first, near]),
        latents_history_2x=draw(draw.batch, 4, 2, TALL, BROAD),
        indices_latents_history_2x=middle,
        latents_history_4x=draw(draw.batch, 4, 4, TALL, BROAD),
        indices_latents_history_4x=far,
        return_dict=False,
    )


@small(
    "Kandinsky5Transformer3DModel",
    dict(in_visual_dim=4, in_text_dim=20, in_text_dim2=12, time_dim=16, out_visual_dim=4, model_dim=32, ff_dim=48,
         num_text_blocks=1, num_visual_blocks=6, axes_dims=(4, 6, 6), visual_cond=True),
    note="with return_dict=False its result is the tensor alone, no tuple",
)  # fmt: skip
def kandinsky5(draw, t):
    noise = draw(draw.batch, FRAMES, TALL, BROAD, 4)
    return dict(
        hidden_states=torch.cat([noise, torch.zeros_like(noise), torch.zeros_like(noise[..., :1])], dim=-1),
        encoder_hidden_states=draw(draw.batch, TEXT, 20),
        timestep=moments(draw, t),
        pooled_projections=draw(draw.batch, 12),
        visual_rope_pos=[torch.arange(FRAMES), torch.arange(HIGH), torch.arange(WIDE)],
        text_rope_pos=torch.arange(TEXT),
        scale_factor=(1.0, 2.0, 2.0),
        sparse_params=None,
        return_dict=False,
    )


@small(
    "Kandinsky6Transformer3DModel",
    dict(in_visual_dim=4, out_visual_dim=4, in_text_dim=20, in_text_dim2=12, time_dim=16, model_dim=32, ff_dim=48,
         num_text_blocks=1, num_visual_blocks=6, axes_dims=(4, 6, 6), in_audio_dim=5, out_audio_dim=5, model_dim_a=24,
         ff_dim_a=40, axes_dims_a=(4, 4, 4)),
)  # fmt: skip
def kandinsky6(draw, t):
    noise = draw(draw.batch, FRAMES, TALL, BROAD, 4)
    return dict(
        hidden_states=torch.cat([noise, torch.zeros_like(noise), torch.zeros_like(noise[..., :1])], dim=-1),
        audio_hidden_states=draw(draw.batch, 7, 5),
        encoder_hidden_states=draw(draw.batch, TEXT, 20),
        pooled_projections=draw(draw.batch, 12),
        timestep=moments(draw, t),
        encoder_attention_mask=padded(draw).bool(),
        return_dict=False,
    )


@small(
    "Kandinsky6SRTransformer3DModel",
    dict(in_visual_dim=4, out_visual_dim=8, time_dim=16, model_dim=32, ff_dim=48, num_visual_blocks=6,
         axes_dims=(4, 6, 6), nabla_window=(1, 1, 1)),
    note="a token is a latent, 8 by 8 of them are a block of its sparse attention: 2 frames of 8 by 16",
)  # fmt: skip
def kandinsky6_sr(draw, t):
    noise = draw(draw.batch, 2, 8, 16, 4)
    return dict(
        hidden_states=torch.cat([noise, torch.zeros_like(noise), torch.zeros_like(noise[..., :1])], dim=-1),
        timestep=moments(draw, t),
        return_dict=False,
    )


@small(
    "LTXVideoTransformer3DModel",
    dict(in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32,
         num_layers=6, caption_channels=20),
)  # fmt: skip
def ltx(draw, t):
    return dict(
        hidden_states=draw(draw.batch, FRAMES * HIGH * WIDE, 8),
        encoder_hidden_states=draw(draw.batch, TEXT, 20),
        timestep=moments(draw, t),
        encoder_attention_mask=padded(draw),
        num_frames=FRAMES,
        height=HIGH,
        width=WIDE,
        rope_interpolation_scale=(8 / 25, 32, 32),
        return_dict=False,
    )


@small(
    "LTX2VideoTransformer3DModel",
    dict(in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32,
         audio_in_channels=6, audio_out_channels=6, audio_num_attention_heads=2, audio_attention_head_dim=8,
         audio_cross_attention_dim=16, num_layers=6, rope_type="split", gated_attn=True, cross_attn_mod=True,
         audio_gated_attn=True, audio_cross_attn_mod=True, use_prompt_embeddings=False, perturbed_attn=True),
)  # fmt: skip
def ltx2(draw, t):
    return dict(
        hidden_states=draw(draw.batch, FRAMES * HIGH * WIDE, 8),
        audio_hidden_states=draw(draw.batch, 7, 6),
        encoder_hidden_states=draw(draw.batch, TEXT, 32),
        audio_encoder_hidden_states=draw(draw.batch, TEXT, 16),
        timestep=moments(draw, t),
        sigma=moments(draw, t),
        encoder_attention_mask=padded(draw),
        audio_encoder_attention_mask=padded(draw),
        num_frames=FRAMES,
        height=HIGH,
        width=WIDE,
        fps=24.0,
        audio_num_frames=7,
        isolate_modalities=False,
        use_cross_timestep=True,
        return_dict=False,
    )

"""Small video models, second half: MiniMax-H3, Mochi, Motif, the Sana and Wan families, SkyReels, temporal layers."""

import torch
from case import small  # the folder is put on sys.path by the tests


def valid(batch: int, length: int, kept: int) -> torch.Tensor:
    """A text mask: the first `kept` of `length` tokens are real."""
    return (torch.arange(length) < kept).expand(batch, length)


@small(
    "MiniMaxH3Transformer3DModel",
    dict(
        num_attention_heads=2,
        attention_head_dim=16,
        hidden_size=24,
        num_layers=6,
        num_refiner_layers=1,
        ffn_dim=48,
        in_channels=4,
        audio_in_channels=6,
        text_dim=12,
        freq_dim=16,
        time_embed_hidden_dim=24,
        time_embed_dim=16,
        rope_freq_dim=2,
    ),
)
def minimax_h3(draw, t):
    frames, height, width, audio, text = 3, 2, 3, 4, 5  # rows run text, audio, video
    start = text + audio
    length = start + frames * height * width
    places = torch.zeros(length, 3)
    places[:text, 0] = torch.arange(text)
    places[text:start, 0] = text + torch.arange(audio // 2).repeat(2)
    places[text:start, 2] = torch.arange(2).repeat_interleave(audio // 2) * (width - 1)
    places[start:] = torch.cartesian_prod(torch.arange(frames), torch.arange(height), torch.arange(width))
    places[start:, 0] += text
    tags = torch.tensor([1] * text + [2] * audio + [0] * (length - start))
    # two schedules, of the shifts 12 (video; t is its timestep) and 3 (audio), the model takes 1 - sigma of each
    video = t / 1000
    even = video / (12 - 11 * video)
    rows = torch.full((length,), 1 - video)
    rows[text:start] = 1 - 3 * even / (1 + 2 * even)
    times, which = torch.unique(rows, sorted=True, return_inverse=True)
    return dict(
        hidden_states=draw(draw.batch, length - start, 16),
        audio_hidden_states=draw(draw.batch, audio, 6),
        encoder_hidden_states=draw(draw.batch, text, 12),
        timestep=times,
        timestep_indices=which,
        token_tags=tags,
        position_ids=places,
        video_indices=torch.arange(start, length),
        audio_indices=torch.arange(text, start),
        text_indices=torch.arange(text),
        return_dict=False,
    )


@small(
    "MochiTransformer3DModel",
    dict(
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=6,
        pooled_projection_dim=16,
        in_channels=4,
        text_embed_dim=16,
        time_embed_dim=16,
        max_sequence_length=5,
    ),
    note="warns on a CPU, from its module: In CPU autocast, but the target dtype is not supported",
)
def mochi(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 3, 4, 4),
        encoder_hidden_states=draw(draw.batch, 5, 16),
        timestep=torch.full((draw.batch,), 1000 - t),  # its scheduler runs from 0, noise, up
        encoder_attention_mask=valid(draw.batch, 5, 4),
        return_dict=False,
    )


@small(
    "MotifVideoTransformer3DModel",
    dict(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=3,
        num_single_layers=6,
        num_decoder_layers=3,
        mlp_ratio=2.0,
        text_embed_dim=12,
        rope_axes_dim=(4, 6, 6),
        enable_text_cross_attention_dual=True,
        enable_text_cross_attention_single=True,
    ),
)
def motif(draw, t):
    latents = draw(draw.batch, 4, 3, 4, 4)
    return dict(
        hidden_states=torch.cat([latents, torch.zeros(draw.batch, 5, 3, 4, 4)], dim=1),  # no first frame is given
        timestep=torch.full((draw.batch,), t),
        encoder_hidden_states=draw(draw.batch, 5, 12),
        encoder_attention_mask=valid(draw.batch, 5, 4),
        return_dict=False,
    )


@small(
    "SanaVideoTransformer3DModel",
    dict(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=6,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=16,
        mlp_ratio=2.0,
        rope_max_seq_len=16,
    ),
)
def sana_video(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 3, 4, 4),
        encoder_hidden_states=draw(draw.batch, 5, 16),
        encoder_attention_mask=valid(draw.batch, 5, 4),
        timestep=torch.full((draw.batch,), t),
        return_dict=False,
    )


@small(
    "SanaWMTransformer3DModel",
    dict(
        in_channels=4,
        num_layers=6,
        hidden_size=48,
        num_attention_heads=2,
        softmax_every_n=3,  # both kinds of attention, twice the softmax
        linear_head_dim=24,
        chunk_plucker_channels=12,
        chunk_plucker_post_attn_blocks=6,
        caption_channels=16,
        mlp_ratio=2.0,
    ),
)
def sana_wm(draw, t):
    frames, height, width = 3, 2, 4
    cameras = torch.eye(4).repeat(frames, 1, 1)
    cameras[:, 2, 3] = torch.arange(frames) * 0.1  # a step forward in each frame
    lens = torch.tensor([width, width, width / 2, height / 2]).expand(frames, 4)
    times = torch.full((draw.batch, 1, frames), float(t))
    times[:, :, 0] = 0.0  # the first frame is given
    return dict(
        hidden_states=draw(draw.batch, 4, frames, height, width),
        timestep=times,
        encoder_hidden_states=draw(draw.batch, 1, 5, 16),
        mask=valid(draw.batch, 5, 4).long(),
        camera_conditions=torch.cat([cameras.flatten(1), lens], dim=1).repeat(draw.batch, 1, 1),
        chunk_plucker=draw(draw.batch, 12, frames, height, width),
        return_dict=False,
    )


@small(
    "SanaWMLTX2RefinerTransformer3DModel",
    dict(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=16,
        num_layers=6,
        caption_channels=16,
    ),
    note="each block reads the keys and values of the first frame from a cache that the call brings along",
)
def sana_wm_refiner(draw, t):
    from diffusers.models.transformers.transformer_sana_wm_refiner import (
        SanaWMLTX2AudioVideoRotaryPosEmbed,
        SanaWMRefinerKVCache,
    )

    frame = 2 * 3  # tokens of a frame; frame 0 is the sink, the call denoises frames 1, 2, 3
    rope = SanaWMLTX2AudioVideoRotaryPosEmbed(dim=24, num_attention_heads=2)
    cos, sin = rope(rope.prepare_video_coords(draw.batch, 4, 2, 3, torch.device("cpu"), fps=16.0))
    tokens, text = draw(draw.batch, 3 * frame, 4), draw(draw.batch, 5, 16)
    cache = SanaWMRefinerKVCache(6)
    cache.sink_pe = cos[:, :frame], sin[:, :frame]
    for layer in cache.layer_caches:
        layer.store_sink(draw(draw.batch, frame, 24), draw(draw.batch, frame, 24))
    return dict(
        hidden_states=tokens,
        encoder_hidden_states=text,
        timestep=torch.full((draw.batch, 3 * frame), float(t)),  # sigma * 1000, for each token
        video_rotary_emb=(cos[:, frame:], sin[:, frame:]),
        encoder_attention_mask=valid(draw.batch, 5, 4),
        kv_cache=cache,
        kv_cache_mode="inject",
        return_dict=False,
    )


@small(
    "SkyReelsV2Transformer3DModel",
    dict(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=16,
        ffn_dim=48,
        num_layers=6,
        rope_max_seq_len=16,
    ),
)
def skyreels(draw, t):  # of the diffusion-forcing pipelines, all frames in step
    return dict(
        hidden_states=draw(draw.batch, 4, 3, 4, 4),
        timestep=torch.full((draw.batch, 3), t),
        encoder_hidden_states=draw(draw.batch, 5, 16),
        enable_diffusion_forcing=True,
        fps=[1] * draw.batch,
        return_dict=False,
    )


@small(
    "TransformerTemporalModel",
    dict(num_attention_heads=2, attention_head_dim=8, in_channels=8, num_layers=6, norm_num_groups=4),
    note="a layer of UNets, no denoiser by itself: nothing in it depends on the timestep, nor is it ever given one",
)
def temporal(draw, t):
    return dict(hidden_states=draw(draw.batch * 3, 8, 2, 4), num_frames=3, return_dict=False)


WAN = dict(
    num_attention_heads=2,
    attention_head_dim=12,
    text_dim=16,
    freq_dim=16,
    ffn_dim=48,
    num_layers=6,
    rope_max_seq_len=16,
)


@small("WanTransformer3DModel", dict(WAN, in_channels=4, out_channels=4))
def wan(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 3, 4, 4),
        timestep=torch.full((draw.batch,), t),
        encoder_hidden_states=draw(draw.batch, 5, 16),
        return_dict=False,
    )


@small(
    "WanAnimateTransformer3DModel",
    dict(
        WAN,
        in_channels=12,
        latent_channels=4,
        out_channels=4,
        image_dim=10,
        added_kv_proj_dim=24,
        motion_encoder_channel_sizes={"4": 8, "8": 8, "16": 8},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=8,
        face_encoder_hidden_dim=8,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    ),
)
def wan_animate(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 12, 3, 4, 4),  # noise beside the reference image and the frames before
        timestep=torch.full((draw.batch,), t),
        encoder_hidden_states=draw(draw.batch, 512, 16),  # the attention cuts images off at 512 tokens of text
        encoder_hidden_states_image=draw(draw.batch, 3, 10),
        pose_hidden_states=draw(draw.batch, 4, 2, 4, 4),
        face_pixel_values=draw(draw.batch, 3, 5, 16, 16).tanh(),
        motion_encode_batch_size=8,
        return_dict=False,
    )


@small(
    "WanAnimate2Transformer3DModel",
    dict(
        text_len=6,
        in_dim=12,
        dim=24,
        ffn_dim=48,
        freq_dim=16,
        text_dim=16,
        out_dim=4,
        num_heads=2,
        num_layers=6,
    ),
    note="lists of one tensor per sample in, such a list out; its pipeline passes one video at a time",
)
def wan_animate_2(draw, t):
    from diffusers.models.transformers import transformer_wan_animate_2 as home
    from torch.nn.attention.flex_attention import create_block_mask

    # the mask in plain torch: the model has it compiled, which takes ten seconds and a C++ compiler
    home.create_block_mask = lambda *args, **kwargs: create_block_mask(*args, **{**kwargs, "_compile": False})

    frames, height, width = 2, 2, 3  # of the driving video, in patches; the noise has one frame more
    latents = [draw(4, frames + 1, 2 * height, 2 * width) for _ in range(draw.batch)]
    given = [draw(8, frames + 1, 2 * height, 2 * width) for _ in range(draw.batch)]
    text, image = [draw(5, 16) for _ in range(draw.batch)], draw(draw.batch, 3, 1280)
    cache = home.WanAnimate2KVCache(6)  # as the pass over the driving video, "extract", leaves it
    for layer in cache.layer_caches:
        size = draw.batch, frames * height * width, 2, 12
        layer.store(draw(*size), draw(*size))
    return dict(
        hidden_states=latents,
        timestep=torch.full((draw.batch,), t),
        encoder_hidden_states=text,
        condition_latents=given,
        kv_cache=cache,
        kv_cache_mode="cached",
        seq_len=(frames + 1) * height * width,
        encoder_hidden_states_image=image,
        reference_grid_sizes=torch.tensor([[frames, height, width]] * draw.batch),
        origin_len=4 * (frames - 1) + 1,
        origin_area=[16 * height, 16 * width],
        is_uncondtion=False,
        return_dict=False,
    )


@small(
    "WanVACETransformer3DModel",
    dict(WAN, in_channels=4, out_channels=4, vace_layers=[0, 2, 4], vace_in_channels=12),
)
def wan_vace(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 3, 4, 4),
        timestep=torch.full((draw.batch,), t),
        encoder_hidden_states=draw(draw.batch, 5, 16),
        control_hidden_states=draw(draw.batch, 12, 3, 4, 4),
        control_hidden_states_scale=torch.ones(3),
        return_dict=False,
    )

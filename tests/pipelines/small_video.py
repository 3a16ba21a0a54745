"""Small video pipelines: random weights, 6 blocks or pairs of width 32, 3 latent frames, 6 to 24 tokens a frame."""

from typing import Any

import torch
from diffusers import (
    AllegroPipeline,
    AllegroTransformer3DModel,
    AutoencoderKLAllegro,
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLMochi,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LattePipeline,
    LatteTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from small_parts import Small, assemble, image_decoder, shaken, texts

HEADS = dict(num_attention_heads=2, attention_head_dim=16)
CLIP = dict(height=64, width=96, num_frames=9, output_type="pt")  # 3 latent frames of 4 x 6 tokens


def latte() -> Small:
    """Blocks over space and over time take turns: two lists of 6."""
    # calls a step: 1 guided, 1 plain
    model = LatteTransformer3DModel(
        **HEADS,
        in_channels=4,
        out_channels=8,
        num_layers=6,
        cross_attention_dim=32,
        attention_bias=True,
        sample_size=8,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        caption_channels=24,
        video_length=3,
    )
    pipe = assemble(
        LattePipeline, transformer=shaken(model), vae=image_decoder(), scheduler=DDIMScheduler(clip_sample=False)
    )
    fixed = dict(height=64, width=64, video_length=3, output_type="pt", negative_prompt=None, mask_feature=False)
    return Small(pipe, fixed, texts(prompt_embeds=(7, 24)))


def cogvideox() -> Small:
    """Text and video in one stream of blocks that give both back; latents are (batch, frames, channels, ...)."""
    # calls a step: 1 guided, 1 plain, in the context "cond_uncond"
    model = CogVideoXTransformer3DModel(
        **HEADS,
        in_channels=4,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=24,
        num_layers=6,
        sample_width=12,
        sample_height=8,
        sample_frames=9,
        max_text_seq_length=7,
        use_rotary_positional_embeddings=True,
    )
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(4,) * 4, latent_channels=4, layers_per_block=1, norm_num_groups=2, scaling_factor=0.7
    )
    pipe = assemble(
        CogVideoXPipeline,
        transformer=shaken(model),
        vae=shaken(vae, seed=2, gain=0.6),
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            snr_shift_scale=1.0,
        ),
    )
    return Small(pipe, CLIP, texts(prompt_embeds=(7, 24)), contexts=("cond_uncond",))


def wan_transformer(seed: int) -> WanTransformer3DModel:
    """A transformer of Wan."""
    model = WanTransformer3DModel(
        **HEADS, in_channels=4, out_channels=4, text_dim=24, freq_dim=32, ffn_dim=64, num_layers=6, rope_max_seq_len=32
    )
    return shaken(model, seed)


def wan_parts() -> dict[str, Any]:
    """The parts of Wan: a solver with memory that corrects every step by the next prediction."""
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1] * 4, num_res_blocks=1, latents_mean=[0.1] * 4, latents_std=[1.5] * 4
    )
    flow = dict(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return dict(transformer=wan_transformer(1), vae=shaken(vae, seed=2), scheduler=UniPCMultistepScheduler(**flow))


def wan() -> Small:
    """Two passes a step, named by contexts."""
    # calls a step: 2 guided, 1 plain, in the contexts "cond" and "uncond"
    pipe = assemble(WanPipeline, **wan_parts())
    return Small(pipe, CLIP, texts(prompt_embeds=(7, 24)), passes=2, contexts=("cond", "uncond"))


def wan22() -> Small:
    """Two transformers: one for the noisy steps (the first 2 of 6), one for the rest."""
    # calls a step, all of one of the two: 2 guided, 1 plain, in the contexts "cond" and "uncond"
    pipe = assemble(WanPipeline, **wan_parts(), transformer_2=wan_transformer(3), boundary_ratio=0.875)
    return Small(
        pipe,
        CLIP,
        texts(prompt_embeds=(7, 24)),
        on={"guidance_scale": 4.0, "guidance_scale_2": 3.0},
        transformers=("transformer", "transformer_2"),
        passes=2,
        contexts=("cond", "uncond"),
    )


def ltx() -> Small:
    """Latents are packed to tokens before the loop."""
    # calls a step: 1 guided, 1 plain, in the context "cond_uncond"
    model = LTXVideoTransformer3DModel(
        **HEADS, in_channels=8, out_channels=8, cross_attention_dim=32, num_layers=6, caption_channels=24
    )
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
    )
    shifting = dict(use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, shift_terminal=0.1)
    pipe = assemble(
        LTXPipeline,
        transformer=shaken(model),
        vae=shaken(vae, seed=2, gain=0.8),
        scheduler=FlowMatchEulerDiscreteScheduler(**shifting),
    )
    fixed = dict(height=128, width=160, num_frames=17, output_type="pt")  # 3 latent frames of 4 x 5 tokens
    prompt = texts(torch.bool, prompt_embeds=(7, 24), prompt_attention_mask=(7,))
    return Small(pipe, fixed, prompt, contexts=("cond_uncond",))


def mochi() -> Small:
    """Two streams of unlike width; the sampler's time runs upwards, from 0 to 1000."""
    # calls a step: 1 guided, 1 plain, in the context "cond_uncond"
    model = MochiTransformer3DModel(
        **HEADS, num_layers=6, pooled_projection_dim=16, text_embed_dim=24, time_embed_dim=16, max_sequence_length=7
    )
    vae = AutoencoderKLMochi(
        encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4, layers_per_block=(1,) * 5
    )
    pipe = assemble(
        MochiPipeline,
        transformer=shaken(model),
        vae=shaken(vae, seed=2, gain=0.5),
        scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
    )
    fixed = dict(height=32, width=48, num_frames=13, output_type="pt")  # 3 latent frames of 2 x 3 tokens
    prompt = texts(torch.bool, prompt_embeds=(7, 24), prompt_attention_mask=(7,))
    return Small(pipe, fixed, prompt, contexts=("cond_uncond",))


def hunyuan_video() -> Small:
    """Two lists of blocks; guidance is an input of the model, and true guidance a second pass."""
    # calls a step: 2 guided, 1 plain, in the contexts "cond" and "uncond"
    model = HunyuanVideoTransformer3DModel(
        **HEADS,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        num_single_layers=4,
        num_refiner_layers=1,
        mlp_ratio=2.0,
        text_embed_dim=24,
        pooled_projection_dim=16,
        rope_axes_dim=(4, 6, 6),
    )
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(4,) * 4, layers_per_block=1, norm_num_groups=2
    )
    pipe = assemble(
        HunyuanVideoPipeline,
        transformer=shaken(model),
        vae=shaken(vae, seed=2, gain=0.8),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
    )
    return Small(
        pipe,
        CLIP,
        texts(prompt_embeds=(7, 24), pooled_prompt_embeds=(16,), prompt_attention_mask=(7,)),
        on={"true_cfg_scale": 4.0},
        off={"true_cfg_scale": 1.0},
        passes=2,
        contexts=("cond", "uncond"),
    )


def allegro() -> Small:
    """A sampler that draws noise at every step. The decoder works on tiles only, of 128 or more."""
    # calls a step: 1 guided, 1 plain
    model = AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        num_layers=6,
        cross_attention_dim=48,
        sample_height=16,
        sample_width=16,
        sample_frames=6,
        caption_channels=24,
    )
    vae = AutoencoderKLAllegro(block_out_channels=(4,) * 4, layers_per_block=1, norm_num_groups=2, sample_size=128)
    vae.enable_tiling()
    vae.enable_slicing()  # a tile holds one video
    pipe = assemble(
        AllegroPipeline,
        transformer=shaken(model),
        vae=shaken(vae, seed=2, gain=0.6),
        scheduler=EulerAncestralDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    )
    fixed = dict(
        height=128, width=128, num_frames=24, output_type="pt", negative_prompt=None
    )  # 6 frames of 8 x 8 tokens
    return Small(pipe, fixed, texts(prompt_embeds=(7, 24), prompt_attention_mask=(7,)))


VIDEO = {
    "latte": latte,
    "cogvideox": cogvideox,
    "wan": wan,
    "wan22": wan22,
    "ltx": ltx,
    "mochi": mochi,
    "hunyuan-video": hunyuan_video,
    "allegro": allegro,
}

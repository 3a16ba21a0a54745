"""Small image pipelines: random weights, 4 latent channels, 6 to 8 blocks of width 32, 16 or 24 tokens."""

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderDC,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    DDIMScheduler,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxImg2ImgPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3Pipeline,
    UniDiffuserModel,
    UniDiffuserPipeline,
    UniDiffuserTextDecoder,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from small_parts import Small, assemble, image_decoder, rows, shaken, texts
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

HEADS = dict(num_attention_heads=2, attention_head_dim=16)
SQUARE = dict(height=64, width=64, output_type="pt")  # 4 x 4 tokens, for models that embed the place in a square
WIDE = dict(height=64, width=96, output_type="pt")  # 4 x 6 tokens
TRUE_CFG = dict(on={"true_cfg_scale": 4.0}, off={"true_cfg_scale": 1.0})
DYNAMIC = dict(use_dynamic_shifting=True, shift=3.0)


def dit() -> Small:
    """Class labels; the batch is doubled for guidance."""
    # calls a step: 1 guided, 1 plain
    model = DiTTransformer2DModel(**HEADS, in_channels=4, out_channels=8, num_layers=6, sample_size=8)
    pipe = assemble(
        DiTPipeline, transformer=shaken(model), vae=image_decoder(), scheduler=DDIMScheduler(clip_sample=False)
    )
    return Small(pipe, {"output_type": "pt"}, extra=lambda batch: {"class_labels": [7 * i + 3 for i in range(batch)]})


def hunyuan_dit() -> Small:
    """Long skips inside the model, two text streams, and a sampler that draws noise at every step."""
    # calls a step: 1 guided, 1 plain
    model = HunyuanDiT2DModel(
        **HEADS,
        in_channels=4,
        patch_size=2,
        sample_size=8,
        hidden_size=32,
        num_layers=8,
        mlp_ratio=2.0,
        cross_attention_dim=24,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
        text_len=5,
        text_len_t5=7,
    )
    betas = dict(beta_start=0.00085, beta_end=0.018, beta_schedule="scaled_linear")
    pipe = assemble(
        HunyuanDiTPipeline,
        transformer=shaken(model),
        vae=image_decoder(),
        scheduler=DDPMScheduler(**betas, prediction_type="v_prediction", clip_sample=False, steps_offset=1),
        requires_safety_checker=False,
    )
    prompt = texts(
        prompt_embeds=(5, 24), prompt_attention_mask=(5,), prompt_embeds_2=(7, 32), prompt_attention_mask_2=(7,)
    )
    return Small(pipe, {**WIDE, "use_resolution_binning": False}, prompt)


def pixart_alpha() -> Small:
    """A sampler with memory: DPM-Solver of second order."""
    # calls a step: 1 guided, 1 plain
    model = PixArtTransformer2DModel(**HEADS, num_layers=6, cross_attention_dim=32, sample_size=8, caption_channels=24)
    pipe = assemble(
        PixArtAlphaPipeline, transformer=shaken(model), vae=image_decoder(), scheduler=DPMSolverMultistepScheduler()
    )
    prompt = texts(prompt_embeds=(7, 24), prompt_attention_mask=(7,))
    return Small(pipe, {**SQUARE, "use_resolution_binning": False, "negative_prompt": None}, prompt)


def sd3_parts(**config: object) -> dict[str, object]:
    """The parts of Stable Diffusion 3."""
    model = SD3Transformer2DModel(
        **HEADS,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        joint_attention_dim=24,
        caption_projection_dim=32,
        pooled_projection_dim=16,
        pos_embed_max_size=16,
        **config,
    )
    return dict(transformer=shaken(model), vae=image_decoder(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0))


SD3_TEXTS = texts(prompt_embeds=(7, 24), pooled_prompt_embeds=(16,))


def sd3() -> Small:
    """Two streams; the last block gives the image back alone."""
    # calls a step: 1 guided, 1 plain
    return Small(assemble(StableDiffusion3Pipeline, **sd3_parts()), WIDE, SD3_TEXTS)


def sd3_img2img() -> Small:
    """Starts midway: half of the steps are run. The model is of the 3.5 kind, with dual attention."""
    # calls a step: 1 guided, 1 plain
    pipe = assemble(StableDiffusion3Img2ImgPipeline, **sd3_parts(dual_attention_layers=(0, 1, 2), qk_norm="rms_norm"))
    fixed = {**WIDE, "strength": 0.5}
    return Small(pipe, fixed, SD3_TEXTS, extra=picture, strength=0.5)


def picture(batch: int) -> dict[str, torch.Tensor]:
    """Pictures to start from, as wide as `WIDE`."""
    return {"image": rows(9, batch, 3, 64, 96).sigmoid()}


def flux_parts(guidance: bool) -> dict[str, object]:
    """The parts of Flux, whose guidance is an input of the model or none."""
    model = FluxTransformer2DModel(
        **HEADS,
        in_channels=16,
        num_layers=3,
        num_single_layers=4,
        joint_attention_dim=24,
        pooled_projection_dim=16,
        guidance_embeds=guidance,
        axes_dims_rope=(4, 4, 8),
    )
    return dict(transformer=shaken(model), vae=image_decoder(), scheduler=FlowMatchEulerDiscreteScheduler(**DYNAMIC))


FLUX_TEXTS = texts(prompt_embeds=(7, 24), pooled_prompt_embeds=(16,))


def flux() -> Small:
    """Two lists of blocks; guidance is an input of the model: off is a scale of 1."""
    # calls a step: 1 guided, 1 plain, in the context "cond"
    pipe = assemble(FluxPipeline, **flux_parts(guidance=True))
    return Small(pipe, WIDE, FLUX_TEXTS, negatives=False, contexts=("cond",))


def flux_cfg() -> Small:
    """Two passes a step, named by contexts."""
    # calls a step: 2 guided, 1 plain, in the contexts "cond" and "uncond"
    pipe = assemble(FluxPipeline, **flux_parts(guidance=False))
    return Small(pipe, WIDE, FLUX_TEXTS, **TRUE_CFG, passes=2, contexts=("cond", "uncond"))


def flux_img2img() -> Small:
    """Starts midway, with two passes a step that nothing names."""
    # calls a step: 2 guided, 1 plain
    pipe = assemble(FluxImg2ImgPipeline, **flux_parts(guidance=False))
    fixed = {**WIDE, "strength": 0.5}
    return Small(pipe, fixed, FLUX_TEXTS, **TRUE_CFG, extra=picture, passes=2, strength=0.5)


def sana() -> Small:
    """Linear attention; a solver with memory on flow sigmas."""
    # calls a step: 1 guided, 1 plain
    model = SanaTransformer2DModel(
        **HEADS,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=24,
        sample_size=8,
    )
    side = dict(block_types=("ResBlock",) * 4 + ("EfficientViTBlock",) * 2, block_out_channels=(8,) * 6)
    side |= dict(layers_per_block=(1,) * 6, qkv_multiscales=((),) * 4 + ((5,),) * 2)
    vae = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        **{f"{end}_{k}": v for end in ("encoder", "decoder") for k, v in side.items()},
    )
    flow = dict(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    pipe = assemble(
        SanaPipeline,
        transformer=shaken(model),
        vae=shaken(vae, seed=2, gain=0.7),
        scheduler=DPMSolverMultistepScheduler(**flow),
    )
    fixed = dict(height=128, width=192, output_type="pt", use_resolution_binning=False, negative_prompt=None)
    return Small(pipe, fixed, texts(prompt_embeds=(7, 24), prompt_attention_mask=(7,)))


def qwen_image() -> Small:
    """Two passes a step, named by contexts; the guided prediction is scaled to the plain one's norm."""
    # calls a step: 2 guided, 1 plain, in the contexts "cond" and "uncond"
    model = QwenImageTransformer2DModel(
        **HEADS, in_channels=16, out_channels=4, num_layers=6, joint_attention_dim=24, axes_dims_rope=(4, 4, 8)
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1] * 4, num_res_blocks=1, latents_mean=[0.1] * 4, latents_std=[1.5] * 4
    )
    pipe = assemble(
        QwenImagePipeline,
        transformer=shaken(model),
        vae=shaken(vae, seed=2),
        scheduler=FlowMatchEulerDiscreteScheduler(**DYNAMIC, shift_terminal=0.02),
    )
    prompt = texts(prompt_embeds=(7, 24), prompt_embeds_mask=(7,))
    return Small(pipe, WIDE, prompt, **TRUE_CFG, passes=2, contexts=("cond", "uncond"))


def lumina2() -> Small:
    """Two passes a step that nothing names; the model's time runs upwards, from 0 to 1."""
    # calls a step: 2 guided, 1 plain
    model = Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=4,
        hidden_size=32,
        num_layers=6,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 4, 8),
        axes_lens=(32, 16, 16),
        cap_feat_dim=24,
    )
    pipe = assemble(
        Lumina2Pipeline,
        transformer=shaken(model),
        vae=image_decoder(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
    )
    return Small(pipe, WIDE, texts(prompt_embeds=(7, 24), prompt_attention_mask=(7,)), passes=2)


def aura_flow() -> Small:
    """Two lists of blocks."""
    # calls a step: 1 guided, 1 plain
    model = AuraFlowTransformer2DModel(
        **HEADS,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_mmdit_layers=3,
        num_single_dit_layers=4,
        joint_attention_dim=24,
        caption_projection_dim=32,
        pos_embed_max_size=64,
    )
    pipe = assemble(
        AuraFlowPipeline,
        transformer=shaken(model),
        vae=image_decoder(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
    )
    return Small(pipe, SQUARE, texts(prompt_embeds=(7, 24), prompt_attention_mask=(7,)))


def cogview4() -> Small:
    """Two passes a step, named by contexts."""
    # calls a step: 2 guided, 1 plain, in the contexts "cond" and "uncond"
    model = CogView4Transformer2DModel(
        **HEADS,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        text_embed_dim=24,
        time_embed_dim=32,
        condition_dim=16,
        pos_embed_max_size=16,
        sample_size=8,
        rope_axes_dim=(16, 16),
    )
    shifting = dict(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear")
    pipe = assemble(
        CogView4Pipeline,
        transformer=shaken(model),
        vae=image_decoder(),
        scheduler=FlowMatchEulerDiscreteScheduler(**shifting),
    )
    return Small(pipe, WIDE, texts(prompt_embeds=(7, 24)), passes=2, contexts=("cond", "uncond"))


def chroma() -> Small:
    """Two lists of blocks, two passes a step that nothing names, and masks in the attention."""
    # calls a step: 2 guided, 1 plain
    model = ChromaTransformer2DModel(
        **HEADS,
        in_channels=16,
        num_layers=3,
        num_single_layers=4,
        joint_attention_dim=24,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=16,
        approximator_hidden_dim=32,
        approximator_layers=1,
    )
    pipe = assemble(
        ChromaPipeline,
        transformer=shaken(model),
        vae=image_decoder(),
        scheduler=FlowMatchEulerDiscreteScheduler(**DYNAMIC),
    )
    return Small(pipe, WIDE, texts(torch.float, prompt_embeds=(7, 24), prompt_attention_mask=(7,)), passes=2)


def z_image() -> Small:
    """The model takes and gives lists of tensors; the list is doubled for guidance. Time runs upwards.

    Guidance is off at a scale of 0, not 1.
    """
    # calls a step: 1 guided, 1 plain
    model = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=6,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=24,
        axes_dims=[4, 4, 8],
        axes_lens=[128, 16, 16],
    )
    pipe = assemble(
        ZImagePipeline,
        transformer=shaken(model),
        vae=image_decoder(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    drawn = texts(prompt_embeds=(7, 24))

    def lists(batch: int, seed: int) -> dict[str, list[torch.Tensor]]:
        return {name: list(value) for name, value in drawn(batch, seed).items()}

    return Small(pipe, WIDE, lists, off={"guidance_scale": 0.0})


def unidiffuser() -> Small:
    """A model with long skips, called `unet`: text to image. Guidance draws other noise for the text at every step."""
    # calls a step: 2 guided, 1 plain
    model = UniDiffuserModel(
        **HEADS,
        text_dim=16,
        clip_img_dim=12,
        num_text_tokens=7,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        norm_num_groups=2,
        attention_bias=True,
        sample_size=8,
        patch_size=2,
        activation_fn="gelu",
        num_embeds_ada_norm=1000,
        use_data_type_embedding=True,
    )
    size = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    pipe = assemble(
        UniDiffuserPipeline,
        unet=shaken(model),
        vae=image_decoder(),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(**size, vocab_size=8, bos_token_id=0, eos_token_id=1, max_position_embeddings=7)
        ),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(**size, image_size=8, patch_size=4, projection_dim=12)
        ),
        text_decoder=UniDiffuserTextDecoder(7, 16, n_positions=16, n_embd=16, n_layer=1, n_head=2),
        scheduler=DPMSolverMultistepScheduler(),
    )
    return Small(pipe, SQUARE, texts(prompt_embeds=(7, 16)), transformers=("unet",), passes=2)


IMAGE = {
    "dit": dit,
    "hunyuan-dit": hunyuan_dit,
    "pixart-alpha": pixart_alpha,
    "sd3": sd3,
    "sd3-img2img": sd3_img2img,
    "flux": flux,
    "flux-cfg": flux_cfg,
    "flux-img2img": flux_img2img,
    "sana": sana,
    "qwen-image": qwen_image,
    "lumina2": lumina2,
    "aura-flow": aura_flow,
    "cogview4": cogview4,
    "chroma": chroma,
    "z-image": z_image,
    "unidiffuser": unidiffuser,
}

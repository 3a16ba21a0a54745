"""Put a policy on a diffusers pipeline in one line, and see what it spared.

python examples/pipeline.py        runs offline: the pipeline is a tiny one with random weights
"""

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

import skipdit
from skipdit import methods


def tiny() -> StableDiffusion3Pipeline:
    """In earnest: StableDiffusion3Pipeline.from_pretrained(...)"""
    transformer = SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=12,
        num_attention_heads=2,
        attention_head_dim=16,
        joint_attention_dim=24,
        caption_projection_dim=32,
        pooled_projection_dim=16,
        pos_embed_max_size=16,
    )
    vae = AutoencoderKL(latent_channels=4, norm_num_groups=4, block_out_channels=(8,), shift_factor=0.0)
    texts = dict.fromkeys(
        ("text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3")
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = StableDiffusion3Pipeline(transformer=transformer, vae=vae, scheduler=scheduler, **texts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sample(pipe: StableDiffusion3Pipeline) -> torch.Tensor:
    """(1, 3, 8, 8), guided: the batch is doubled inside."""
    noise = torch.Generator().manual_seed(0)
    call = {name: torch.randn(1, 7, 24, generator=noise) for name in ("prompt_embeds", "negative_prompt_embeds")}
    call |= {f"{name}pooled_prompt_embeds": torch.randn(1, 16, generator=noise) for name in ("", "negative_")}
    return pipe(**call, height=8, width=8, num_inference_steps=20, generator=noise, output_type="pt").images


torch.manual_seed(0)
pipe = tiny()
plain = sample(pipe)

for policy in (methods.skip_cache(every=2), methods.first_block(threshold=0.4), methods.taylorseer(every=3)):
    with skipdit.attach(pipe, policy) as run:  # this one line
        images = sample(pipe)
    print(f"{policy}\n  {run.report()}\n  mean difference from uncached {(images - plain).abs().mean():.1e}")

attached = skipdit.attach(pipe, methods.skip_cache(every=2)).enable()  # or until it is taken off, for every thread
sample(pipe)
print(attached.report())
attached.disable()
assert torch.equal(sample(pipe), plain)  # nothing is left behind

"""Faster Diffusion on a U-Net: its encoder runs at key steps only. In a pipeline, and with parallel decoding.

python examples/unet.py        runs offline: the pipeline is a tiny one with random weights
"""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

import skipdit
from skipdit import methods, passes
from skipdit.backbones.unets import Prompted
from skipdit.branches import Branches, Passes

STEPS, GUIDANCE = 20, 5.0


def tiny() -> StableDiffusionPipeline:
    """In earnest: StableDiffusionPipeline.from_pretrained(...)"""
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=24,
    )
    vae = AutoencoderKL(latent_channels=4, norm_num_groups=4, block_out_channels=(8,))
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    rest = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipe = StableDiffusionPipeline(
        unet=unet, vae=vae, scheduler=scheduler, requires_safety_checker=False, image_encoder=None, **rest
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: StableDiffusionPipeline) -> torch.Tensor:
    """Latents (1, 4, 8, 8), guided, in the pipeline's own loop."""
    call = dict(prompt_embeds=text, negative_prompt_embeds=empty, latents=noise, output_type="latent")
    return pipe(**call, height=8, width=8, num_inference_steps=STEPS, guidance_scale=GUIDANCE).images


@torch.no_grad()
def decode_in_parallel(model: Prompted, scheduler: DDIMScheduler, asked: Passes) -> torch.Tensor:
    """The same in a loop of one's own, where all steps up to the next key go through the U-Net in one batch."""
    scheduler.set_timesteps(STEPS)
    branches = Branches(model, (torch.tensor([0]), None), GUIDANCE, scheduler.timesteps, sigma=float)
    memory, x = {}, noise
    for step, t in zip(branches.steps(), scheduler.timesteps, strict=True):
        output = asked(memory, branches, step, x)
        x = scheduler.step(output, t, asked.state(memory, step, x)).prev_sample
    print(branches.tally)
    return x


torch.manual_seed(0)
pipe = tiny()
text, empty, noise = torch.randn(1, 7, 24), torch.randn(1, 7, 24), torch.randn(1, 4, 8, 8)
plain = draw(pipe)

policy = methods.faster_diffusion(keys=(0, 1, 2, 4, 6, 9, 13))  # left out, the paper's nine of 50
with skipdit.attach(pipe, policy) as run:  # this one line
    latents = draw(pipe)
print(f"{policy}\n  {run.report()}\n  mean difference from uncached {(latents - plain).abs().mean():.1e}")

model = Prompted(pipe.unet, torch.cat([text, empty]))
for asked in (passes.parallel(), passes.parallel(prior=0.003)):
    with skipdit.attach(model, policy):
        together = decode_in_parallel(model, pipe.scheduler, asked)
    print(f"{asked}\n  mean difference from one step after the other {(together - latents).abs().mean():.1e}")
assert torch.equal(draw(pipe), plain)  # nothing is left behind

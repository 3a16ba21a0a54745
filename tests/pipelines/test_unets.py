"""A real pipeline with a U-Net: its encoder runs at key steps, guided or not, and prior noise goes in by a callback."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from small import Small, output
from small_parts import assemble, image_decoder, rows, shaken, texts
from watch import same

import skipdit
from skipdit import methods

STEPS, KEYS = 6, (0, 1, 4)
KEYED = methods.faster_diffusion(keys=KEYS)
SAMPLERS = {
    "ddim": DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
    "dpm++": DPMSolverMultistepScheduler(beta_schedule="scaled_linear", steps_offset=1),
}


@cache
def built(sampler: str = "ddim") -> Small:
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=12,
    )
    parts = dict(unet=shaken(unet), vae=image_decoder(), scheduler=SAMPLERS[sampler], requires_safety_checker=False)
    fixed = dict(height=64, width=64, output_type="latent")
    return Small(
        assemble(StableDiffusionPipeline, **parts), fixed, texts(prompt_embeds=(5, 12)), transformers=("unet",)
    )


def by_hand(small: Small, keys=KEYS, change=lambda step, x: x, **call):
    """The pipeline's loop written out around hooks that replay the encoder at steps that are no keys."""
    unet, kept, now = small.pipe.unet, {}, {}

    def hold(module, args, output):
        if now["step"] in keys:
            kept[module] = deepcopy(output)
            return None
        return deepcopy(kept[module])

    hooks = [m.register_forward_hook(hold) for m in (unet.conv_in, *unet.down_blocks, unet.mid_block)]
    scheduler = deepcopy(small.pipe.scheduler)
    scheduler.set_timesteps(STEPS)
    x = call["latents"] * scheduler.init_noise_sigma
    words = torch.cat([call["negative_prompt_embeds"], call["prompt_embeds"]])
    for now["step"], t in enumerate(scheduler.timesteps):
        x = change(now["step"], x)
        free, told = unet(torch.cat([x, x]), t, words).sample.chunk(2)
        x = scheduler.step(free + call["guidance_scale"] * (told - free), t, x).prev_sample
    for hook in hooks:
        hook.remove()
    return x


def given(small: Small):
    return small.call(steps=STEPS, batch=2, latents=rows(3, 2, 4, 8, 8))


@pytest.mark.parametrize("guidance", [True, False], ids=("on", "off"))
def test_an_always_computing_policy_changes_no_bit(guidance):
    small = built()
    want = output(small, guidance=guidance)
    with skipdit.attach(small.pipe, methods.faster_diffusion(keys=1)):
        assert same(output(small, guidance=guidance), want)
    assert same(output(small, guidance=guidance), want)


@pytest.mark.parametrize("sampler", SAMPLERS)
@torch.no_grad()
def test_a_pipeline_equals_its_loop_by_hand(sampler):
    small = built(sampler)
    call = given(small)
    with skipdit.attach(small.pipe, KEYED) as run:
        for _ in range(2):  # the second call begins anew
            got = small.pipe(**call).images
    torch.testing.assert_close(got, by_hand(small, **call), atol=1e-6, rtol=1e-6)
    assert not torch.allclose(got, small.pipe(**call).images, atol=1e-3)
    assert [(step.index, step.total, stream) for step, stream, _ in run.passes] == [(i, 6, "main") for i in range(6)]
    assert [ran for _, _, ran in run.passes] == [6 if i in KEYS else 2 for i in range(6)]
    assert run.report().computed == len(KEYS)


def test_enabled_for_every_thread_it_is_the_same_and_comes_off():
    small = built()
    bare = output(small)
    with skipdit.attach(small.pipe, KEYED):
        want = output(small)
    attached = skipdit.attach(small.pipe, KEYED).enable()
    assert same(output(small), want)
    assert attached.report().stood_in == STEPS - len(KEYS)
    attached.disable()
    assert same(output(small), bare)


@torch.no_grad()
def test_prior_noise_goes_in_by_the_pipeline_s_own_callback():
    """As docs/guidance.md has it: the state is changed before the step, and so before a key step's encoder, too."""
    small = built()
    call = given(small)
    noise = call["latents"]

    def prior(pipe, i, t, tensors):
        ahead = pipe.scheduler.timesteps[i + 1 :]
        inject = len(ahead) > 0 and ahead[0] < 500
        return {"latents": tensors["latents"] + 0.003 * noise if inject else tensors["latents"]}

    with skipdit.attach(small.pipe, KEYED):
        got = small.pipe(**call, callback_on_step_end=prior).images
    want = by_hand(small, change=lambda step, x: x + 0.003 * noise if step >= 2 else x, **call)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)
    assert not torch.equal(want, by_hand(small, **call))


def test_what_needs_equal_blocks_is_refused_by_the_pipeline_too():
    small = built()
    with pytest.raises(ValueError, match=r"first_block.* UNet2DConditionModel, a U-Net, differ in form"):
        skipdit.attach(small.pipe, methods.first_block(0.1)).__enter__()

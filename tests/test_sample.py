"""Sampling: seeds, guidance in one pass and two, samplers, names."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import skipdit
from skipdit import methods
from skipdit.backbones.dit import DiT
from skipdit.diffusion import path_of
from skipdit.sample import _denoise, conditions


def model(**changes):
    torch.manual_seed(0)
    settings = dict(
        input_size=8, patch_size=4, in_channels=3, hidden_size=32, depth=4, num_heads=2, num_classes=4, num_styles=2,
        learn_sigma=False, prediction="v_prediction", skips="join",
        class_names=["red apple", "rocket", "green apple", "cat"], style_names=["flat", "noto"],
    )  # fmt: skip
    made = DiT(**{**settings, **changes})
    for parameter in made.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    return made


def test_shape_range_and_repeatability():
    images = skipdit.sample(model(), ["red apple", "Rocket"], "noto", steps=4, seed=3)
    assert images.shape == (2, 3, 8, 8)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert torch.equal(images, skipdit.sample(model(), [0, 1], 1, steps=4, seed=3))
    assert not torch.equal(images, skipdit.sample(model(), [0, 1], 1, steps=4, seed=4))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++"])
def test_a_seed_gives_each_image_its_noise_whatever_the_batch_or_the_order(sampler):
    net, settings = model(), dict(steps=4, seed=5, sampler=sampler)
    labels, styles = [0, 1, 2, 0, 3], [0, 1, 0, 0, 1]
    together = skipdit.sample(net, labels, styles, **settings)
    in_twos = skipdit.sample(net, labels, styles, batch_size=2, **settings)
    torch.testing.assert_close(in_twos, together, atol=1e-5, rtol=0)
    order = [4, 2, 0, 1, 3]  # the two images of one kind keep their order
    turned = skipdit.sample(net, [labels[i] for i in order], [styles[i] for i in order], **settings)
    torch.testing.assert_close(turned, together[order], atol=1e-5, rtol=0)
    assert not torch.allclose(together[0], together[3], atol=1e-2)
    given = skipdit.sample(net, [0, 0], 0, steps=4, seed=[7, 7], sampler=sampler)
    torch.testing.assert_close(given[0], given[1])


@pytest.mark.parametrize("learn_sigma", [False, True])
def test_guidance_in_two_passes_equals_one_batch(learn_sigma):
    net = model(learn_sigma=learn_sigma, prediction="epsilon")
    batched = skipdit.sample(net, [0, 1], 0, steps=4, guidance=3.0)
    torch.testing.assert_close(
        skipdit.sample(net, [0, 1], 0, steps=4, guidance=3.0, two_pass=True), batched, atol=1e-4, rtol=0
    )
    assert not torch.allclose(skipdit.sample(net, [0, 1], 0, steps=4, guidance=1.0), batched, atol=1e-3)


class Known(nn.Module):
    """Knows its image: 0.9 everywhere with the class, -0.9 without; guided, that overshoots."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(
            in_channels=3, input_size=8, num_classes=4, num_styles=0, class_names=None, class_dropout_prob=0.1,
            learn_sigma=False, prediction="v_prediction",
        )  # fmt: skip

    def forward(self, x, t, y):
        abar = path_of("v_prediction").alphas_cumprod[t.long()].float()[:, None, None, None]
        x0 = torch.where(y == 4, -0.9, 0.9)[:, None, None, None]
        noise = (x - abar.sqrt() * x0) / (1 - abar).sqrt()
        return abar.sqrt() * noise - (1 - abar).sqrt() * x0


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++"])
def test_guidance_that_overshoots_leaves_the_noise_in_pixels_as_it_was(sampler):
    """The image is clipped to 1, and what is left of the noise must agree: it keeps mean 0 and deviation 1."""
    generators = [torch.Generator().manual_seed(0)]
    x = torch.randn(1, 3, 8, 8, generator=generators[0])
    states = list(_denoise(Known(), x, (torch.tensor([0]), None), 10, 4.0, sampler, False, generators))
    abar = path_of("v_prediction").alphas_cumprod[399].float()  # after six of ten steps
    noise = (states[5] - abar.sqrt()) / (1 - abar).sqrt()
    assert abs(noise.mean()) < 0.2
    assert abs(noise.std() - 1) < 0.2
    torch.testing.assert_close(states[-1], torch.ones_like(x), atol=0.05, rtol=0)


def test_cached_guidance_keeps_its_branches_apart():
    net, policy = model(), methods.skip_cache(every=2)
    with skipdit.attach(net, policy) as one:
        batched = skipdit.sample(net, [0, 1], 0, steps=6, guidance=3.0)
    with skipdit.attach(net, policy) as two:
        in_two = skipdit.sample(net, [0, 1], 0, steps=6, guidance=3.0, two_pass=True)
    torch.testing.assert_close(in_two, batched, atol=1e-4, rtol=0)
    assert {event.stream for event in one.trace} == {"cond+uncond"}
    assert {event.stream for event in two.trace} == {"cond", "uncond"}
    assert one.report().computed == two.report().computed == 3
    assert one.report().spared_flops == two.report().spared_flops
    assert one.report().bytes_held == two.report().bytes_held


def test_the_run_follows_several_batches_and_calls():
    net = model()
    want = skipdit.sample(net, [0, 1, 2], 0, steps=4)
    with skipdit.attach(net, methods.skip_cache(every=1)) as run:
        assert torch.equal(skipdit.sample(net, [0, 1, 2], 0, steps=4, batch_size=3), want)
        skipdit.sample(net, [0], 0, steps=2)
    with skipdit.attach(net, methods.skip_cache(every=2)) as run:
        skipdit.sample(net, [0, 1, 2], 0, steps=4, batch_size=2)
    assert [event.computed for event in run.trace] == [True, False] * 4


def test_learned_range_with_ddpm_and_flow_with_euler():
    for changes in (dict(learn_sigma=True, prediction="epsilon"), dict(prediction="flow")):
        sampler = "ddpm" if "learn_sigma" in changes else "euler"
        images = skipdit.sample(model(**changes), [0, 1], 0, steps=3, sampler=sampler)
        assert images.isfinite().all()


def test_sampling_leaves_the_mode_and_the_global_generator_alone():
    net = model().train()
    torch.manual_seed(1)
    want = torch.rand(1)
    torch.manual_seed(1)
    skipdit.sample(net, [0], 0, steps=2, sampler="ddpm")
    assert net.training
    assert torch.equal(torch.rand(1), want)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: skipdit.sample(model(), ["red aple"], 0), "unknown label 'red aple'; did you mean red apple"),
        (lambda: skipdit.sample(model(), ["cat"], "nota"), "unknown style 'nota'; did you mean noto"),
        (lambda: skipdit.sample(model(), [4], 0), r"label 4 is outside 0\.\.\.3"),
        (lambda: skipdit.sample(model(), [], 0), "labels is empty"),
        (lambda: skipdit.sample(model(), ["cat"]), "needs a style: one of flat, noto"),
        (lambda: skipdit.sample(model(), ["cat"], ["noto", "flat"]), "2 styles for 1 labels"),
        (lambda: skipdit.sample(model(num_styles=0), ["cat"], "noto"), "knows no styles"),
        (lambda: skipdit.sample(model(class_names=None), ["cat"], 0), "has no label names"),
        (lambda: skipdit.sample(model(), ["\u00b2"], 0), "unknown label"),
        (lambda: skipdit.sample(model(), [0], 0, guidance=float("inf")), "guidance=inf must be a number"),
        (lambda: skipdit.sample(model(), ["cat"], 0, steps=0), "steps=0"),
        (lambda: skipdit.sample(model(), ["cat"], 0, guidance=float("nan")), "guidance=nan"),
        (lambda: skipdit.sample(model(class_dropout_prob=0.0), ["cat"], 0), "without label dropout"),
        (lambda: skipdit.sample(model(), ["cat"], 0, sampler="euler"), "sampler 'euler' does not fit"),
        (lambda: skipdit.sample(model(), ["cat"], 0, seed=[1, 2]), "2 seeds for 1 images"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_class_that_is_called_a_number_is_meant_by_it():
    digits = model(class_names=["3", "2", "1", "0"])
    assert conditions(digits, ["3", "0", 3, "2"], "noto")[0].tolist() == [0, 3, 3, 1]
    assert conditions(model(), ["3", "rocket"], "1")[0].tolist() == [3, 1]

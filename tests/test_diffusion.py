"""Noise paths: against diffusers' own formulas, an ideal denoiser, and the variational bound by hand."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from skipdit.diffusion import SAMPLERS, FlowPath, LinearPath, path_of

torch.manual_seed(0)
X0 = torch.rand(4, 3, 8, 8) * 2 - 1
NOISE = torch.randn(4, 3, 8, 8)
T = torch.tensor([0, 1, 500, 999])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_path_and_target_equal_diffusers(prediction):
    path = LinearPath(prediction, learn_sigma=False)
    theirs = DDPMScheduler(1000, 1e-4, 0.02, "linear", prediction_type=prediction)
    torch.testing.assert_close(path.noised(X0, NOISE, T), theirs.add_noise(X0, NOISE, T))
    target = NOISE if prediction == "epsilon" else theirs.get_velocity(X0, NOISE, T)
    assert path.loss(target, X0, NOISE, T).max() < 1e-10
    assert path.loss(target + 1, X0, NOISE, T).tolist() == pytest.approx([1.0] * 4, rel=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_variational_term_by_hand(prediction):
    """KL between Gaussians with the posterior's mean and interpolated variance, and the 8-bit likelihood at t = 0."""
    path = LinearPath(prediction, learn_sigma=True)
    target = NOISE
    if prediction == "v_prediction":
        abar = path.alphas_cumprod[T].float()[:, None, None, None]
        target = abar.sqrt() * NOISE - (1 - abar).sqrt() * X0
    guess = target + 0.1
    fraction = torch.full_like(guess, 0.3)
    got = path.loss(torch.cat([guess, fraction], 1), X0, NOISE, T) - 0.01
    theirs = DDPMScheduler(1000, 1e-4, 0.02, "linear", prediction_type=prediction, clip_sample=False)
    x_t = path.noised(X0, NOISE, T)
    for i, t in enumerate(T.tolist()):
        theirs.set_timesteps(1000)
        abar, before = path.alphas_cumprod[t].item(), path.alphas_cumprod[t - 1].item() if t else 1.0
        beta = path.betas[t].item()
        mean = beta * math.sqrt(before) / (1 - abar) * X0[i] + (1 - before) * math.sqrt(1 - beta) / (1 - abar) * x_t[i]
        low = max(
            (1 - before) / (1 - abar) * beta,
            (path.betas[1] * (1 - path.alphas_cumprod[0]) / (1 - path.alphas_cumprod[1])).item() if t < 2 else 0,
        )
        log_variance = math.log(low) + 0.65 * (math.log(beta) - math.log(low))
        a, s = math.sqrt(abar), math.sqrt(1 - abar)
        x0 = (x_t[i] - s * guess[i]) / a if prediction == "epsilon" else a * x_t[i] - s * guess[i]
        mine = beta * math.sqrt(before) / (1 - abar) * x0 + (1 - before) * math.sqrt(1 - beta) / (1 - abar) * x_t[i]
        if t:
            p = torch.distributions.Normal(mean, math.sqrt(low))
            q = torch.distributions.Normal(mine, math.exp(log_variance / 2))
            want = torch.distributions.kl_divergence(p, q).mean() / math.log(2)
        else:
            q = torch.distributions.Normal(mine, math.exp(log_variance / 2))
            high = torch.where(X0[i] > 0.999, torch.ones(()), q.cdf(X0[i] + 1 / 255))
            below = torch.where(X0[i] < -0.999, torch.zeros(()), q.cdf(X0[i] - 1 / 255))
            want = -(high - below).clamp(min=1e-12).log().mean() / math.log(2)
        assert got[i].item() == pytest.approx(want.item(), rel=2e-2, abs=1e-4), t


def test_the_mean_gets_no_gradient_from_the_variational_term():
    path = LinearPath("epsilon", learn_sigma=True)
    output = torch.cat([NOISE, torch.zeros_like(NOISE)], 1).requires_grad_()
    path.loss(output, X0, NOISE, T).sum().backward()
    assert output.grad[:, :3].abs().max() < 1e-6  # the error is 0 there
    assert output.grad[:, 3:].abs().max() > 0


def test_flow_is_a_straight_line():
    path, t = FlowPath(), torch.tensor([0.0, 250.0, 500.0, 1000.0])
    x = path.noised(X0, NOISE, t)
    assert torch.equal(x[0], X0[0])
    torch.testing.assert_close(x[3], NOISE[3])
    torch.testing.assert_close(x[1], 0.75 * X0[1] + 0.25 * NOISE[1])
    assert path.loss(NOISE - X0, X0, NOISE, t).max() == 0
    drawn = path.draw(10000, torch.Generator().manual_seed(0))
    assert 480 < drawn.mean() < 520


@pytest.mark.parametrize(("prediction", "sampler"), [(p, s) for p, names in SAMPLERS.items() for s in names])
@pytest.mark.parametrize("steps", [1, 5, 20])
def test_every_sampler_recovers_the_image_from_an_ideal_denoiser(prediction, sampler, steps):
    """Given the true image, the ideal prediction is known: every sampler must end at it."""
    path = path_of(prediction)
    scheduler = path.scheduler(sampler)
    scheduler.set_timesteps(steps)
    x = NOISE[:1]
    for t in scheduler.timesteps:
        if prediction == "flow":
            output = (x - X0[:1]) / (t / 1000)
        else:
            abar = path.alphas_cumprod[int(t)].float()
            eps = (x - abar.sqrt() * X0[:1]) / (1 - abar).sqrt()
            output = eps if prediction == "epsilon" else abar.sqrt() * eps - (1 - abar).sqrt() * X0[:1]
        generator = {"generator": torch.Generator().manual_seed(0)} if sampler == "ddpm" else {}
        x = scheduler.step(output, t, x, **generator).prev_sample
    torch.testing.assert_close(x, X0[:1], atol=2e-2, rtol=0)


@pytest.mark.parametrize("steps", [1, 7, 28, 33, 50, 61])
def test_ddim_steps_to_the_timestep_that_comes_next(steps):
    """With the true noise every state is the noised image of the next timestep; diffusers' own misses it by up to a
    step where the number of steps doesn't divide 1000."""
    path = path_of("epsilon")
    scheduler = path.scheduler("ddim")
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps.tolist()
    assert (len(times), times[0]) == (steps, 999)
    assert times[-1] >= 0
    x = path.noised(X0[:1], NOISE[:1], torch.tensor(times[:1]))
    for t, following in zip(times, [*times[1:], None], strict=True):
        x = scheduler.step(NOISE[:1], torch.tensor(t), x).prev_sample
        expected = X0[:1] if following is None else path.noised(X0[:1], NOISE[:1], torch.tensor([following]))
        torch.testing.assert_close(x, expected.to(x.dtype), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("steps", "equal"), [(50, True), (25, True), (28, False)])
def test_ddim_is_diffusers_where_the_steps_divide_1000(steps, equal):
    from diffusers import DDIMScheduler

    ours = path_of("v_prediction").scheduler("ddim", clip_sample=True)
    theirs = DDIMScheduler.from_config(ours.config)
    states = []
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(steps)
        x = NOISE[:1]
        for t in scheduler.timesteps:
            x = scheduler.step(X0[:1] - x, t, x, use_clipped_model_output=True).prev_sample
        states.append(x)
    assert torch.equal(*states) == equal


def test_the_flow_sampler_is_ddim_on_the_straight_path():
    """x_s = (1 - s) x0 + s n with x0, n from the velocity is what Euler's step gives."""
    scheduler = path_of("flow").scheduler("euler")
    scheduler.set_timesteps(10)
    x, v = NOISE[:1], torch.randn(1, 3, 8, 8)
    now, then = scheduler.sigmas[0], scheduler.sigmas[1]
    x0, noise = x - now * v, x + (1 - now) * v
    torch.testing.assert_close(scheduler.step(v, scheduler.timesteps[0], x).prev_sample, (1 - then) * x0 + then * noise)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: path_of("noise"), "prediction='noise' is unknown"),
        (lambda: path_of("flow", learn_sigma=True), "no variance to learn"),
        (lambda: path_of("flow").scheduler("ddim"), "sampler 'ddim' does not fit prediction='flow': choose euler"),
        (lambda: path_of("epsilon").scheduler("euler"), "choose ddim, ddpm, dpm"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++"])
def test_as_many_timesteps_as_are_asked_for(sampler):
    """diffusers' own have one more, at -1, for 61 and 103 steps."""
    path = LinearPath("epsilon", learn_sigma=False)
    for steps in (50, 61, 103):
        scheduler = path.scheduler(sampler)
        scheduler.set_timesteps(steps)
        times = scheduler.timesteps.tolist()
        assert (len(times), times[0]) == (steps, 999)
        assert times == [round(1000 - 1000 * step / steps) - 1 for step in range(steps)]
        x = X0
        for t in scheduler.timesteps:
            x = scheduler.step(torch.zeros_like(x), t, x).prev_sample
        assert x.isfinite().all()

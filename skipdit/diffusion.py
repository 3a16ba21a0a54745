"""Noise paths, training losses, and the diffusers schedulers that sample along them."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

SAMPLERS = {
    "epsilon": ("ddim", "ddpm", "dpm++"),
    "v_prediction": ("ddim", "ddpm", "dpm++"),
    "flow": ("euler",),
}


def path_of(prediction: str, learn_sigma: bool = False) -> "LinearPath | FlowPath":
    """The noise path of a model: what it predicts decides. Raises ValueError for an unknown prediction."""
    if prediction not in SAMPLERS:
        raise ValueError(f"prediction={prediction!r} is unknown: choose {', '.join(map(repr, SAMPLERS))}")
    if prediction != "flow":
        return LinearPath(prediction, learn_sigma)
    if learn_sigma:
        raise ValueError("prediction='flow' has no variance to learn: use learn_sigma=False")
    return FlowPath()


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device, like.dtype).view(-1, *[1] * (like.ndim - 1))  # (B, 1, ..., 1)


def _mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(1)  # (B,)


@dataclass(frozen=True)
class LinearPath:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise with 1000 linear betas: the DiT recipe (arXiv 2212.09748).

    prediction     "epsilon" (noise, as in DiT) or "v_prediction" (arXiv 2202.00512, eq. 11)
    learn_sigma    the network also interpolates the log-variance, trained by the variational term
                   (arXiv 2102.09672, eq. 15-16)
    """

    prediction: str = "epsilon"
    learn_sigma: bool = True
    timesteps: int = 1000

    @cached_property
    def betas(self) -> Tensor:
        return torch.linspace(1e-4, 0.02, self.timesteps, dtype=torch.float64)

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        return (1 - self.betas).cumprod(0)

    def draw(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Training timesteps (B,), uniform."""
        return torch.randint(self.timesteps, (batch,), generator=generator)

    def noised(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        abar = self.alphas_cumprod.to(t.device)[t]
        return _per_sample(abar.sqrt(), x0) * x0 + _per_sample((1 - abar).sqrt(), x0) * noise  # (B, ..., C, H, W)

    def loss(self, output: Tensor, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Loss of each image or video (B,) for a network output (B, ..., C or 2C, H, W)."""
        abar = self.alphas_cumprod.to(t.device)[t]
        a, s = _per_sample(abar.sqrt(), x0), _per_sample((1 - abar).sqrt(), x0)
        output = output.float()
        if not self.learn_sigma:
            return _mean((output - self._target(x0, noise, a, s)).square())
        predicted, variance = output.chunk(2, dim=-3)  # each (B, ..., C, H, W)
        error = _mean((predicted - self._target(x0, noise, a, s)).square())
        x_t = a * x0 + s * noise
        guess = predicted.detach()
        x0_guess = (x_t - s * guess) / a if self.prediction == "epsilon" else a * x_t - s * guess
        return error + self._variational(x0, x_t, x0_guess, variance, t)

    def _target(self, x0: Tensor, noise: Tensor, a: Tensor, s: Tensor) -> Tensor:
        return noise if self.prediction == "epsilon" else a * noise - s * x0

    def _variational(self, x0: Tensor, x_t: Tensor, x0_guess: Tensor, variance: Tensor, t: Tensor) -> Tensor:
        """The term L_t of the variational bound in bits per dimension (B,): KL for t > 0, likelihood at t = 0."""
        abar = self.alphas_cumprod
        before = torch.cat([abar.new_ones(1), abar[:-1]])
        posterior = self.betas * (1 - before) / (1 - abar)
        posterior[0] = posterior[1]  # the first one is 0 and has no logarithm
        low, high = (_per_sample(v.log().to(t.device)[t], x0) for v in (posterior, self.betas))
        log_variance = low + (variance + 1) / 2 * (high - low)  # (B, ..., C, H, W)
        c0 = _per_sample((self.betas * before.sqrt() / (1 - abar)).to(t.device)[t], x0)
        ct = _per_sample(((1 - before) * (1 - self.betas).sqrt() / (1 - abar)).to(t.device)[t], x0)
        true, mean = c0 * x0 + ct * x_t, c0 * x0_guess + ct * x_t
        kl = 0.5 * (log_variance - low + (low - log_variance).exp() - 1)
        kl = kl + 0.5 * (true - mean).square() * (-log_variance).exp()
        likelihood = -_discretized_log_likelihood(x0, mean, 0.5 * log_variance)
        return torch.where(t == 0, _mean(likelihood), _mean(kl)) / math.log(2.0)

    def sigma(self, t: float) -> float:
        """The noise at a timestep as a share of the signal: sqrt((1 - abar) / abar)."""
        abar = float(self.alphas_cumprod[round(t)])
        return math.sqrt((1 - abar) / abar)

    def scheduler(self, name: str = "ddim", clip_sample: bool = False) -> Any:
        """A diffusers scheduler: "ddim", "ddpm" or "dpm++" (arXiv 2010.02502, 2006.11239, 2211.01095).

        clip_sample    keep the predicted image within [-1, 1]: for pixels, not for latents
        """
        from skipdit.ddim import EvenDDIM, ExactDDPM, ExactDPM

        common = dict(
            num_train_timesteps=self.timesteps,
            beta_start=1e-4,
            beta_end=0.02,
            beta_schedule="linear",
            prediction_type=self.prediction,
            timestep_spacing="trailing",
        )
        if name == "ddim":
            return EvenDDIM(**common, clip_sample=clip_sample)
        if name == "ddpm":
            kind = "learned_range" if self.learn_sigma else "fixed_small"
            return ExactDDPM(**common, clip_sample=clip_sample, variance_type=kind)
        if name == "dpm++":
            return ExactDPM(**common, thresholding=clip_sample)
        raise ValueError(_unknown_sampler(name, self.prediction))


@dataclass(frozen=True)
class FlowPath:
    """x_t = (1 - t) x_0 + t noise, the network predicts noise - x_0: rectified flow (arXiv 2209.03003).

    Timesteps are t * 1000, as diffusers counts them.
    """

    timesteps: int = 1000

    def draw(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Training timesteps (B,): logit-normal, as in Stable Diffusion 3 (arXiv 2403.03206, sec. 3.1)."""
        return torch.randn(batch, generator=generator).sigmoid() * self.timesteps

    def noised(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return x0 + _per_sample(t / self.timesteps, x0) * (noise - x0)  # (B, ..., C, H, W)

    def loss(self, output: Tensor, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Loss of each image or video (B,)."""
        return _mean((output.float() - (noise - x0)).square())

    def sigma(self, t: float) -> float:
        """The noise at a timestep as a share of the signal: t / (1 - t)."""
        t = t / self.timesteps
        return t / (1 - t) if t < 1 else math.inf

    def scheduler(self, name: str = "euler", clip_sample: bool = False) -> Any:
        """A diffusers scheduler: "euler", which on this path is the same step as DDIM."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        if name != "euler":
            raise ValueError(_unknown_sampler(name, "flow"))
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=self.timesteps)


def _unknown_sampler(name: str, prediction: str) -> str:
    return f"sampler {name!r} does not fit prediction={prediction!r}: choose {', '.join(SAMPLERS[prediction])}"


def _discretized_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log p(x) of 8-bit x in [-1, 1] under a Gaussian, the tails in the outermost bins (arXiv 2006.11239, eq. 13)."""
    normal = torch.distributions.Normal(torch.zeros((), device=x.device), torch.ones((), device=x.device))
    inverse = (-log_scale).exp()
    upper = normal.cdf((x - mean + 1 / 255) * inverse)
    lower = normal.cdf((x - mean - 1 / 255) * inverse)
    bins = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return bins.clamp(min=1e-12).log()

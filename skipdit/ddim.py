"""diffusers' schedulers, made to take as many steps as are asked for, each to the timestep that comes next."""

from fractions import Fraction
from typing import Any

from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler


class EvenDDIM(DDIMScheduler):
    """DDIM (arXiv 2010.02502) from each of its timesteps to the next one.

    diffusers' own goes down by 1000 // n, while its "trailing" timesteps lie 1000 / n apart: where n doesn't divide
    1000 the state it gives belongs to another timestep than the network is told, and the picture with 28 steps is
    worse than with 25. For an n that divides 1000 the two are bit-identical.
    """

    timesteps: Any

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        super().set_timesteps(num_inference_steps, device)
        self.timesteps = self.timesteps[:num_inference_steps]  # rounding sometimes leaves one more, at -1
        times = self.timesteps.tolist()
        self.following = dict(zip(times, [*times[1:], -1], strict=True))

    def step(self, model_output: Any, timestep: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
        gap = int(timestep) - self.following[int(timestep)]
        self.num_inference_steps = Fraction(self.config.num_train_timesteps, gap)  # 1000 // it is the gap
        return super().step(model_output, timestep, sample, *args, **kwargs)


class Exact:
    """As many timesteps as are asked for: of 61 and others, rounding leaves diffusers' own with one more, at -1."""

    timesteps: Any

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        parent: Any = super()
        parent.set_timesteps(num_inference_steps, device)
        if len(self.timesteps) > num_inference_steps:
            parent.set_timesteps(timesteps=self.timesteps[:num_inference_steps].tolist(), device=device)


class ExactDDPM(Exact, DDPMScheduler):
    """DDPM (arXiv 2006.11239)."""


class ExactDPM(Exact, DPMSolverMultistepScheduler):
    """DPM-Solver++ (arXiv 2211.01095)."""

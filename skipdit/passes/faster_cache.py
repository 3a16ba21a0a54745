"""FasterCache's CFG-cache: the unconditional output is estimated with the low and high frequencies of u - c weighted.

Zhengyao Lv et al., "FasterCache: Training-Free Video Diffusion Model Acceleration with High Quality", arXiv 2410.19355,
sec. 3.3. Held: two tensors (B, C, H, W), the low and the high frequencies of the difference.
The weights and bounds are those of its port in diffusers (`hooks/faster_cache.py`), which the tests are held against;
the authors' own scripts give each model its own (steps in place of timesteps, 1.1 to 1.2). There the phase counts from
the first step of the run, here from the last step with both branches. Its attention reuse is another matter: not here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from skipdit.branches import Passes
from skipdit.core.check import number, whole
from skipdit.core.policy import Flow, Memory, Step, spell
from skipdit.core.when import Every, Window
from skipdit.passes.reuse import Reuse

EARLY, LATE = (99, 901), (-1, 301)  # timesteps, both ends left out, at which the low and the high frequencies grow


def faster_cache(every: int = 5, low: float = 1.1, high: float = 1.1, hi: float = 641) -> Passes:
    """Run the unconditional branch once in so many steps, from a timestep on.

    every     one step with both branches, then every - 1 with the conditional one
    low       what the low frequencies are multiplied by at each spared step with 99 < t < 901
    high      the same of the high ones, with t < 301
    hi        both branches at timesteps at or above it; below 1: a fraction of the run

    With low=1 and high=1 it is `reuse`.
    """
    spelling = spell(faster_cache, locals())
    whole("faster_cache", "every", every, low=1)
    return Reuse(Window(Every(every), hi), Frequencies(low, high), spelling=spelling)


@dataclass(frozen=True)
class Frequencies:
    """u = c + F^-1[low + high], each multiplied anew at every spared step of its range: the weight grows until both
    branches run again."""

    low: float
    high: float

    def __post_init__(self) -> None:
        number("faster_cache", "low", self.low)
        number("faster_cache", "high", self.high)

    def observe(self, memory: Memory, step: Step, x: Flow, y: Flow) -> None:
        memory["low"], memory["high"] = split(y[0].float() - x[0].float())

    def predict(self, memory: Memory, step: Step, x: Flow) -> Flow:
        if step.t is not None and EARLY[0] < step.t < EARLY[1]:
            memory["low"] = memory["low"] * self.low
        if step.t is not None and LATE[0] < step.t < LATE[1]:
            memory["high"] = memory["high"] * self.high
        return ((x[0].float() + memory["low"] + memory["high"]).to(x[0].dtype),)


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """The frequencies of images (B, C, H, W) within a fifth of the smaller side, and the others."""
    height, width = x.shape[-2:]
    down = torch.fft.fftfreq(height, 1 / height, device=x.device)[:, None]  # (H, 1), whole numbers
    across = torch.fft.fftfreq(width, 1 / width, device=x.device)  # (W,)
    inside = down**2 + across**2 <= (min(height, width) // 5) ** 2  # (H, W)
    low = torch.fft.ifft2(torch.fft.fft2(x) * inside).real
    return low, x - low

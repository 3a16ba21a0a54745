"""A small model of the wild: its class in diffusers, a configuration that runs in milliseconds, and its inputs."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

CASES: dict[str, "Case"] = {}  # filled by the modules beside this one, in their order


@dataclass(frozen=True)
class Case:
    """One class of diffusers.

    config    the constructor's arguments: 4 to 8 blocks in all, width of 16 to 64
    inputs    (draw, t) -> keyword arguments of one call at the timestep t, as its pipeline would make them;
              `draw(*shape)` gives normal noise. It is called with batch sizes 1 and 2 as `draw.batch`
    module    where the class is to be had
    """

    name: str
    config: dict[str, Any]
    inputs: Callable[["Draw", float], dict[str, Any]]
    module: str = "diffusers"
    note: str = field(default="", compare=False)

    def model(self) -> nn.Module:
        """The model with random weights everywhere, so that no block is the identity: eval, float32, no gradients."""
        kind = getattr(importlib.import_module(self.module), self.name)
        torch.manual_seed(0)
        model = kind(**self.config).eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if not parameter.any() or "scale_shift_table" in name or "gate" in name:
                nn.init.normal_(parameter, std=0.2)
        return model

    def call(self, seed: int, t: float, batch: int = 1) -> dict[str, Any]:
        """Arguments of one call. The same seed gives the same tensors; t is the sampler's timestep, 1000 ... 0."""
        return self.inputs(Draw(seed, batch), t)


class Draw:
    """Normal noise from a seed: the n-th call gives the same numbers every time."""

    def __init__(self, seed: int, batch: int):
        self.batch, self.generator = batch, torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)


def small(
    name: str, config: dict[str, Any], module: str = "diffusers", note: str = ""
) -> Callable[[Callable[[Draw, float], dict[str, Any]]], Callable[[Draw, float], dict[str, Any]]]:
    """Decorates the inputs of a class's small model."""

    def keep(inputs: Callable[[Draw, float], dict[str, Any]]) -> Callable[[Draw, float], dict[str, Any]]:
        CASES[name] = Case(name, config, inputs, module, note)
        return inputs

    return keep

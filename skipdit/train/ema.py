"""The moving average of a model's weights, which is what one samples with."""

import copy

import torch
from torch import nn


class Ema:
    """ema <- d ema + (1 - d) weights, with d = min(decay, (1 + step) / (10 + step)): short memory at first."""

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), [p.detach() for p in model.parameters()], 1 - decay)

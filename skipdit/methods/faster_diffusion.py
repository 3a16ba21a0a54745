"""Faster Diffusion: the encoder runs at key steps only, the decoder at every step.

Senmao Li et al., "Faster Diffusion: Rethinking the Role of the Encoder", arXiv 2312.09608, sec. 3.2.
A U-Net has an encoder: all before its up blocks. A transformer's is its first blocks, 18 of 28 in the authors' DiT.
Held: of a transformer one tensor (B, T, D), the encoder's output; of a U-Net the mid block's output and all skips. A
step between keys doesn't read x_t at all, only its timestep and what conditions the decoder.
`passes.parallel` decodes such a run of steps in one batch and mixes the first noise in again, in the sampler.
Defaults: the paper's nine keys of 50 DDIM steps (SD 1.5, FID 21.8 -> 21.1); keys=2 is a uniform set.
"""

from dataclasses import dataclass

from torch import nn

from skipdit.core.backbone import Backbone
from skipdit.core.check import whole
from skipdit.core.policy import Policy, Site, Span, When, spell
from skipdit.core.what import hold
from skipdit.core.when import At, Every
from skipdit.core.where import Range

KEYS = (0, 1, 2, 3, 5, 10, 15, 25, 35)


def faster_diffusion(blocks: int | None = None, keys: tuple[int, ...] | int = KEYS) -> Policy:
    """Hold what the encoder gives between key steps.

    blocks    of the encoder; None: a U-Net's own, 18 of a transformer
    keys      steps at which it runs, from 0; a number: every so many steps
    """
    spelling = spell(faster_diffusion, locals())
    if isinstance(keys, int):
        whole("faster_diffusion", "keys", keys, low=1)
    elif not keys:
        raise ValueError("faster_diffusion: keys=() names no step: give steps such as (0, 5, 10), or a number")
    when: When = Every(keys) if isinstance(keys, int) else At(keys)
    return Policy(Encoder() if blocks is None else Range(0, blocks), when, hold(), spelling)


@dataclass(frozen=True)
class Encoder:
    """A U-Net's encoder; of a model that has none, the first `blocks`."""

    blocks: int = 18

    def __call__(self, model: nn.Module, backbone: Backbone) -> list[Site]:
        own = [place for place in backbone.order(model) if place.stack in backbone.encoder]
        return [Span(0, len(own))] if own else Range(0, self.blocks)(model, backbone)

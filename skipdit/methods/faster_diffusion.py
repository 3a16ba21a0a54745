"""Faster Diffusion: the encoder, here the first blocks, runs at key steps only; the decoder runs at every step.

Senmao Li et al., "Faster Diffusion: Rethinking the Role of the Encoder", arXiv 2312.09608, sec. 3.2.
Held: one tensor (B, T, D), the encoder's output. A step between keys doesn't read x_t at all, only its timestep.
`passes.parallel` decodes such a run of steps in one batch and mixes the first noise in again, in the sampler.
Defaults: 18 of 28 blocks as in the authors' DiT, and their nine keys of 50 DDIM steps (SD 1.5, FID 21.8 -> 21.1).
"""

from skipdit.core.check import whole
from skipdit.core.policy import Policy, When, spell
from skipdit.core.what import hold
from skipdit.core.when import At, Every
from skipdit.core.where import Range

KEYS = (0, 1, 2, 3, 5, 10, 15, 25, 35)


def faster_diffusion(blocks: int = 18, keys: tuple[int, ...] | int = KEYS) -> Policy:
    """Hold the output of the first blocks between key steps.

    blocks    of the encoder
    keys      steps at which it runs, from 0; a number: every so many steps
    """
    spelling = spell(faster_diffusion, locals())
    if isinstance(keys, int):
        whole("faster_diffusion", "keys", keys, low=1)
    elif not keys:
        raise ValueError("faster_diffusion: keys=() names no step: give steps such as (0, 5, 10), or a number")
    when: When = Every(keys) if isinstance(keys, int) else At(keys)
    return Policy(Range(0, blocks), when, hold(), spelling)

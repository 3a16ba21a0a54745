"""BlockDance: once the structure stands, the output of the first blocks is held and only the later ones run.

Hui Zhang et al., "BlockDance: Reuse Structurally Similar Spatio-Temporal Features", arXiv 2503.15927, sec. 3.2.
Held: one tensor (B, T, D), the output of block n-1. A cached step doesn't read x_t at all.
The learnt choice of steps (BlockDance-Ada) is not here. How many blocks and which part of the run depend on the model:
the defaults are for 28 blocks.
"""

from skipdit.core.check import whole
from skipdit.core.policy import Policy, spell
from skipdit.core.what import hold
from skipdit.core.when import Every, Window
from skipdit.core.where import Range


def blockdance(every: int = 2, blocks: int = 20, hi: float = 0.75, lo: float = 0.05) -> Policy:
    """Hold the output of the first blocks between two bounds.

    every     N: one full step, then N-1 cached ones
    blocks    how many blocks, from the first, are spared
    hi, lo    full at timesteps at or above `hi` and at or below `lo`; below 1: fractions of the run
    """
    spelling = spell(blockdance, locals())
    whole("blockdance", "every", every, low=1)
    return Policy(Range(0, blocks), Window(Every(every), hi, lo), hold(), spelling)

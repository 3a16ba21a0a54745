"""FORA: attention and MLP outputs of every block are held, and computed again at every N-th step.

Pratheba Selvaraju et al., "FORA: Fast-Forward Caching in Diffusion Transformer Acceleration", arXiv 2407.01425, sec. 3.
Held: one tensor (B, T, D) a part, 2 L in all, from before the block's own gate: norms and gates run at every step.
DiT-XL/2 256, DDIM-50, FID as SmoothCache's authors measured it (arXiv 2411.10510): none 2.28, N=2 2.65, N=3 3.31.
"""

from skipdit.core.check import whole
from skipdit.core.policy import Policy, spell
from skipdit.core.what import hold
from skipdit.core.when import Every
from skipdit.core.where import Parts


def fora(every: int = 3, parts: tuple[str, ...] = ("attn", "mlp")) -> Policy:
    """Hold the output of every part.

    every    N: one full step, then N-1 that compute no part
    parts    which parts, by the backbone's names
    """
    spelling = spell(fora, locals())
    whole("fora", "every", every, low=1)
    return Policy(Parts(parts), Every(every), hold(), spelling)

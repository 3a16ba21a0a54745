"""T-GATE's other half: the unconditional branch ends at the gate step, and guidance with it.

Haozhe Liu et al., "Faster Diffusion via Temporal Attention Decomposition", arXiv 2404.02747, sec. 4. Held: nothing.
What it does to attention is `methods.t_gate`, with the same gate. The original holds the mean of both branches'
cross-attention after the gate; here the conditional branch holds its own. Default: the original's for 25 steps.
"""

from skipdit.branches import Passes
from skipdit.core.check import whole
from skipdit.core.policy import spell
from skipdit.passes.interval import Interval


def t_gate(gate: int = 10) -> Passes:
    """Guide at the first `gate` steps, draw with the conditional branch alone from then on."""
    spelling = spell(t_gate, locals())
    whole("t_gate", "gate", gate, low=1)
    return Interval(stop=gate, spelling=spelling)

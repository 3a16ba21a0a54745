"""T-GATE: cross-attention stops after the gate step; self-attention is spared before it.

Haozhe Liu et al., "Faster Diffusion via Temporal Attention Decomposition", arXiv 2404.02747, sec. 4.
Held: one tensor (B, T, D) a part that is spared.
The original also drops the unconditional pass after the gate and holds the mean of both branches; here each branch
holds its own, as dropping a pass is the sampler's affair: `passes.t_gate` does it.
Defaults: the original's for 25 steps.
"""

from dataclasses import dataclass
from typing import ClassVar

from skipdit.core.check import whole
from skipdit.core.policy import Memory, Moment, Policy, Site, Step, When, spell
from skipdit.core.what import hold
from skipdit.core.when import At, ByKind
from skipdit.core.where import Parts


def t_gate(gate: int = 10, every: int = 5, warmup: int = 2, after: int = 1) -> Policy:
    """Freeze cross-attention after the gate.

    gate      the first so many steps compute cross-attention, the others hold what the last of them gave
    every     before the gate, self-attention is computed once in so many steps, counted from the warm-up
    warmup    steps at the start that compute everything
    after     after the gate, self-attention is computed once in so many steps

    With every=1 and after=1 self-attention is left alone. Needs a model whose cross-attention is a part of its own.
    """
    spelling = spell(t_gate, locals())
    whole("t_gate", "gate", gate, low=1)
    kinds: list[tuple[str, When]] = [("cross", At(tuple(range(gate))))]
    planning = Planning(gate, every, warmup, after)
    if (every, after) != (1, 1):
        kinds.append(("attn", planning))
    return Policy(Parts(tuple(kind for kind, _ in kinds)), ByKind(tuple(kinds)), hold(), spelling)


@dataclass(frozen=True)
class Planning:
    """Self-attention's schedule: all of the warm-up, then once in `every` steps; at the gate; then once in `after`."""

    gate_step: int
    every: int
    warmup: int
    after: int
    gate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole(self, "every", self.every, low=1)
        whole(self, "warmup", self.warmup)
        whole(self, "after", self.after, low=1)

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        i = step.index
        if i < self.warmup or i == self.gate_step - 1:
            return True
        if i < self.gate_step:
            return (i - self.warmup) % self.every == 0
        return (i - self.gate_step) % self.after == 0

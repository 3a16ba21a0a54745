"""Guidance-branch reuse: the unconditional branch runs at some steps only, and is estimated in between.

The plain forms that FasterCache (arXiv 2410.19355, sec. 3.3) and RA-CFGCache (arXiv 2609.36433) start from.
Held: one output (B, C, H, W), of the unconditional branch or of what it lacks of the conditional one.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from skipdit.branches import Branches, Passes
from skipdit.core.check import whole
from skipdit.core.policy import Leaf, Memory, Step, What, When, spell
from skipdit.core.what import hold, residual
from skipdit.core.when import Every, Window

FORMS = {"difference": residual, "uncond": hold}
UNCOND = Leaf("uncond")  # what is spared, where a schedule wants to know


def reuse(every: int = 2, keep: str = "difference", hi: float | None = None, lo: float | None = None) -> Passes:
    """Run the unconditional branch once in so many steps.

    every     one step with both branches, then every - 1 with the conditional one
    keep      "difference": held is u - c, added to each step's own c; "uncond": held is u
    hi, lo    both branches at timesteps at or above `hi` and at or below `lo`; below 1: fractions of the run
    """
    spelling = spell(reuse, locals())
    whole("reuse", "every", every, low=1)
    if keep not in FORMS:
        raise ValueError(f"reuse: keep={keep!r} is unknown: choose {', '.join(map(repr, FORMS))}")
    when = Every(every) if hi is None and lo is None else Window(Every(every), hi, lo)
    return Reuse(when, FORMS[keep](), spelling=spelling)


@dataclass(frozen=True)
class Reuse(Passes):
    """Both branches where the schedule computes; elsewhere the unconditional output is estimated.

    The estimator is a policy's: its x is the conditional output, its y the unconditional one.
    """

    when: When
    what: What
    drops: ClassVar[bool] = True

    def __call__(self, memory: Memory, branches: Branches, step: Step, x: Tensor) -> Tensor:
        due = self.when(memory.setdefault("when", {}), step, UNCOND, None)
        held = memory.setdefault("what", {})
        if due or not held:
            given, free = branches.both(x, step)  # each (B, C or 2C, H, W)
            self.what.observe(held, step, (given,), (free,))
        else:
            given = branches.cond(x, step)
            (free,) = self.what.predict(held, step, (given,))
        return branches.guide(given, free)

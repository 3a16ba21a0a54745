"""EasyCache: how much the output follows the input is learnt on the way, and the change of the input does the rest.

Xin Zhou et al., "Less is Enough: Training-Free Video Diffusion Acceleration via Runtime-Adaptive Caching",
arXiv 2507.02860, sec. 3.3: k = |y - y'| / |x - x'| at the last two full steps; each step adds k |dx| / |y'|.
Held: what all blocks added, their last input and output, and for a moment those before: at most 5 tensors (B, T, D).
The original takes the model's latent input and its output; here they are what enters the first block and leaves the
last, so that a policy needs no second way into a model. Its threshold is to be set anew. Defaults: the original's.
"""

from dataclasses import dataclass
from typing import ClassVar

from skipdit.core.check import number
from skipdit.core.policy import Flow, Memory, Moment, Policy, Site, Step, spell
from skipdit.core.what import residual
from skipdit.core.when import Guarded
from skipdit.core.where import Inner


def easycache(threshold: float = 0.05, warmup: int = 10, tail: int = 0) -> Policy:
    """Add what all blocks last added, while the change that this implies stays small.

    threshold       tau: of the relative changes, summed up since the last full step
    warmup, tail    full steps at the start and at the end
    """
    spelling = spell(easycache, locals())
    return Policy(Inner(0, 0), Guarded(Follows(threshold), warmup, tail), residual(), spelling)


@dataclass(frozen=True)
class Follows:
    """Compute when the output is thought to have moved by `threshold`. Waits for the device once a pass."""

    threshold: float
    gate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number(self, "threshold", self.threshold, strict=True)

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        assert moment is not None
        x, before = moment.start[0], memory.get("before", memory.get("x"))
        memory["before"] = x
        memory.pop("last", None)
        if "rate" not in memory or before is None:
            return True
        change = memory["rate"] * (x - before).abs().mean() / memory["y"].abs().mean()
        memory["error"] = memory.get("error", 0.0) + change.item()
        return not memory["error"] < self.threshold

    def observe(self, memory: Memory, step: Step, site: Site, x: Flow, y: Flow) -> None:
        """Pieces of one span are observed in order: the last one's output counts."""
        if memory.get("at") != step.index:
            memory["last"] = (memory["x"], memory["y"]) if "y" in memory else None
            memory.update(at=step.index, x=memory.pop("before"), error=0.0)
        memory["y"] = y[0]
        last_x, last_y = memory["last"] or (None, None)
        if last_y is not None and last_y.shape == y[0].shape:
            memory["rate"] = (y[0] - last_y).abs().mean() / (memory["x"] - last_x).abs().mean()

"""Skip-Cache: shallow blocks run at every step, the deep feature is held from the last full step.

Guanjie Chen et al., "Accelerating Vision Diffusion Transformers with Skip Branches", arXiv 2411.17616, sec. 3.3.
Held: one tensor (B, T, D) a stream, the output of block L-K-1. A cached step runs blocks 0...K-1 and L-K...L-1.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from skipdit.core.check import whole, window
from skipdit.core.policy import Memory, Moment, Policy, Site, Step, spell
from skipdit.core.what import hold
from skipdit.core.when import Every, Window
from skipdit.core.where import Inner


def skip_cache(
    every: int = 2, branch: int = 1, hi: float | None = None, lo: float | None = None, paper: bool = False
) -> Policy:
    """The policy of the paper.

    every     N: one full step, then N-1 cached ones
    branch    K: blocks at either end that run at every step
    hi, lo    full steps at timesteps at or above `hi` and at or below `lo`; below 1: fractions of the run
    paper     both quirks of the published code, see `Published`
    """
    spelling = spell(skip_cache, locals())
    whole("skip_cache", "every", every, low=1)
    whole("skip_cache", "branch", branch, low=1)
    if paper:
        return Policy(Inner(branch, branch), Published(every, hi, lo), hold(), spelling)
    when = Every(every) if hi is None and lo is None else Window(Every(every), hi, lo)
    return Policy(Inner(branch, branch), when, hold(), spelling)


@dataclass(frozen=True)
class Published:
    """The schedule of the authors' code, quirks and all: the phase counts from the first step of the run instead of
    from the window, and the state is reset after the first step at or below `lo`, so that this step may be cached."""

    n: int
    hi: float | None = None
    lo: float | None = None
    gate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        window(self, self.hi, self.lo)

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        if step.t is None and (self.hi is not None or self.lo is not None):
            raise ValueError(f"{self} needs timesteps: pass them to attach, or use skipdit.sample")
        above = self.hi is not None and step.t is not None and step.t >= self.hi
        compute = step.index % self.n == 0 or above or bool(memory.get("reset"))
        memory["reset"] = self.lo is not None and step.t is not None and step.t <= self.lo
        return compute


PRESETS: dict[str, dict[str, Any]] = {
    "class-to-image": dict(branch=4, hi=1000, lo=20),  # DiT-XL/2, 250 steps, N = 2 ... 4
    "class-to-video": dict(branch=1, hi=900, lo=49),  # Latte; the published comparison is t < 50
    "text-to-video": dict(branch=1, hi=700, lo=50),  # Latte; the "65 %" rows; hi=800 gives the "75 %" rows
    "hunyuan": dict(branch=1, hi=700, lo=50),  # Hunyuan-DiT, native skips
}


def preset(task: str, every: int = 2, paper: bool = False) -> Policy:
    """The paper's setting for a task: class-to-image, class-to-video, text-to-video or hunyuan."""
    if task not in PRESETS:
        raise ValueError(f"skip_cache: no preset {task!r}; choose from {', '.join(PRESETS)}")
    return skip_cache(every=every, paper=paper, **PRESETS[task])


def named(name: str, branch: int = 1, paper: bool = False) -> Policy:
    """The paper's spelling "N2-700-50": every second step, full at t >= 700 and at t <= 50. "N2" has no window."""
    found = re.fullmatch(r"N(\d+)(?:-(\d+)-(\d+))?", name)
    if not found:
        raise ValueError(f"skip_cache: {name!r} is not spelled like N2-700-50 (N, window start, window end)")
    every, hi, lo = (None if part is None else int(part) for part in found.groups())
    return skip_cache(every=int(every or 0), branch=branch, hi=hi, lo=lo, paper=paper)


skip_cache.named = named  # type: ignore[attr-defined]
skip_cache.preset = preset  # type: ignore[attr-defined]

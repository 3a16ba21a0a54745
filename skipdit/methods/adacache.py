"""AdaCache: how fast one block's attention output moves says, by a codebook, for how many steps all parts are held.

Kumara Kahatapitiya et al., "Adaptive Caching for Faster Video Generation with Diffusion Transformers",
arXiv 2411.02397, sec. 4: c = |p - p'| / (|p'| k) in L1 over the k steps between; MoReg: c (m + |dm|), m the motion.
Held: one tensor (B, T, D) a part, from before the block's own gate (the original holds two after it), all 2 or 3 L.
Defaults: the original's fast codebook for 30 steps, block 13 of 28. Open-Sora 480p as published: 2.2x in time, VBench
79.39 against 79.22 uncached.
The mean runs over the batch, so one image can decide for another. The original's rates fail if one call is missed: here
the step itself is compared, and a run begins anew by itself.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from skipdit.core.backbone import Backbone
from skipdit.core.check import number, whole
from skipdit.core.policy import Flow, Leaf, Memory, Moment, Policy, Site, Step, spell
from skipdit.core.what import hold
from skipdit.core.when import ends, relative_change
from skipdit.core.where import Parts

Codebook = tuple[tuple[float, int], ...]  # (change below this, steps between computed ones), ascending

FAST: Codebook = ((0.08, 6), (0.16, 5), (0.24, 4), (0.32, 3), (0.40, 2), (1.0, 1))  # 30 steps
SLOW: Codebook = ((0.08, 3), (0.16, 2), (0.24, 1), (1.0, 1))  # 30 steps
LONG: Codebook = ((0.03, 12), (0.05, 10), (0.07, 8), (0.09, 6), (0.11, 4), (1.0, 3))  # 100 steps
MOST_MOTION, POWER = 0.385, 8  # of the original: m becomes (m / 0.385)^8 inside the window


def adacache(codebook: Codebook = FAST, block: int = 13, frame: int = 0, hi: float = 0.87, lo: float = 0.13) -> Policy:
    """Hold every part for as long as the codebook says.

    codebook    pairs (threshold, steps): the first threshold above the change gives the steps to the next computed one
    block       whose attention is the probe; the temporal one, where a model has such a list
    frame       MoReg: tokens of a frame, where they follow one another in the probe's tokens; 1 for temporal attention;
                0: no MoReg
    hi, lo      the fraction of the run that lies ahead, between which motion counts
    """
    spelling = spell(adacache, locals())
    whole("adacache", "block", block)
    return Policy(Probed(block), Rated(codebook, frame, hi, lo), hold(), spelling)


@dataclass(frozen=True)
class Probed:
    """All attention, cross-attention and MLP parts that there are; the attention of one block is of kind "probe"."""

    block: int

    def __call__(self, model: nn.Module, backbone: Backbone) -> list[Site]:
        names = tuple(name for name in ("attn", "cross", "mlp") if name in backbone.parts)
        leaves = [leaf for leaf in Parts(names)(model, backbone) if isinstance(leaf, Leaf)]
        places = [p for p in backbone.order(model) if p.number == self.block]
        places.sort(key=lambda place: place.contract.layout is None)  # temporal lists first
        paths = [f"{place.path}." for place in places]
        found = next((leaf for path in paths for leaf in leaves if leaf.path.startswith(path)), None)
        if found is None or found.kind != "attn":
            raise ValueError(f"{self}: {type(model).__name__} has no block {self.block} with attention as a part")
        return [leaf._replace(kind="probe") if leaf == found else leaf for leaf in leaves]


@dataclass(frozen=True)
class Rated:
    """Compute when the rate says so, at the first step and the last two. Waits for the device once a computed step."""

    codebook: Codebook
    frame: int = 0
    hi: float = 1.0
    lo: float = 0.0
    gate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole(self, "frame", self.frame)
        number(self, "hi", self.hi)
        number(self, "lo", self.lo)
        if not self.codebook or any(a[0] >= b[0] for a, b in zip(self.codebook, self.codebook[1:], strict=False)):
            raise ValueError(
                f"Rated: codebook={self.codebook!r} must be pairs (threshold, steps) with rising thresholds"
            )
        for threshold, steps in self.codebook:
            number(self, "codebook", threshold, strict=True)
            whole(self, "codebook", steps, low=1)

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        return step.index >= memory.get("due", 0) or ends(self, step, 2)

    def observe(self, memory: Memory, step: Step, site: Site, x: Flow, y: Flow) -> None:
        if site.kind != "probe":
            return
        p, last, rate = y[0], memory.get("probe"), 1
        if last is not None:
            gap = step.index - memory["at"]
            change = relative_change(p, last) / gap
            rate = self.rate(change * self._motion(memory, step, p, gap))
        memory.update(probe=p, at=step.index, due=step.index + rate)

    def rate(self, change: float) -> int:
        """Steps to the next computed one; NaN computes at once."""
        if change != change:
            return 1
        return next((steps for threshold, steps in self.codebook if change < threshold), self.codebook[-1][1])

    def _motion(self, memory: Memory, step: Step, p: Tensor, gap: int) -> float:
        """MoReg: the motion and how it changes, (m / 0.385)^8 inside the window, 1 outside."""
        if not self.frame:
            return 1.0
        ahead = (step.total - step.index) / step.total if step.total else 0.0
        now = (motion(p, self.frame) / MOST_MOTION) ** POWER if self.lo <= ahead <= self.hi else 1.0
        change = abs(now - memory.get("motion", now)) / gap
        memory["motion"] = now
        return now + change


def motion(p: Tensor, frame: int) -> float:
    """How much frames differ from their neighbours: |b - a| / (|a| + |b|) in L1, for p (B, F frame, D)."""
    a, b = p[:, :-frame], p[:, frame:]
    return (torch.norm(b - a, 1) / (torch.norm(a, 1) + torch.norm(b, 1))).item()


adacache.FAST, adacache.SLOW, adacache.LONG = FAST, SLOW, LONG  # type: ignore[attr-defined]

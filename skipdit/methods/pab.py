"""PAB: attention outputs are broadcast to later steps, spatial ones to few, temporal to more, cross to most.

Xuanlei Zhao et al., "Real-Time Video Generation with Pyramid Attention Broadcast", arXiv 2408.12588, sec. 3.
Held: one tensor a part. Its skipping of chosen blocks' MLPs at chosen timesteps is not here; `mlp` gives all one range.
Defaults: the ranges of Open-Sora in the paper (2, 4, 6) and diffusers' window of timesteps (100, 800).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from skipdit.core.backbone import Backbone
from skipdit.core.check import whole, window
from skipdit.core.policy import Leaf, Memory, Moment, Policy, Site, Step, When, spell
from skipdit.core.what import hold
from skipdit.core.when import ByKind
from skipdit.core.where import Parts


def pab(
    spatial: int | None = 2,
    temporal: int | None = 4,
    cross: int | None = 6,
    mlp: int | None = None,
    hi: float = 800,
    lo: float = 100,
) -> Policy:
    """Hold each kind of attention for a number of steps of its own.

    spatial, temporal, cross, mlp    one computed step in so many, inside the window; None: at every step
    hi, lo                           the window of timesteps, bounds outside

    Temporal attention is known by its list, which lays the tokens out by frames (Latte's). Kinds that a model lacks are
    left out. Raises ValueError where no range is given.
    """
    spelling = spell(pab, locals())
    ranges = {"attn": spatial, "temporal": temporal, "cross": cross, "mlp": mlp}
    named: dict[str, When] = {kind: Broadcast(n, hi, lo) for kind, n in ranges.items() if n is not None}
    if not named:
        raise ValueError("pab: spatial, temporal, cross and mlp are all None: give at least one a range, such as 2")
    return Policy(Attentions(tuple(named)), ByKind(tuple(named.items())), hold(), spelling)


@dataclass(frozen=True)
class Attentions:
    """Parts of the given kinds, with "temporal" for attention in lists that lay the tokens out by frames."""

    kinds: tuple[str, ...]

    def __call__(self, model: nn.Module, backbone: Backbone) -> list[Site]:
        temporal = {place.path for place in backbone.order(model) if place.contract.layout is not None}
        names = tuple(name for name in ("attn", "cross", "mlp") if name in backbone.parts) or self.kinds
        found: list[Site] = []
        for leaf in Parts(names)(model, backbone):
            assert isinstance(leaf, Leaf)
            across = leaf.kind == "attn" and any(leaf.path.startswith(f"{path}.") for path in temporal)
            kind = "temporal" if across else leaf.kind
            if kind in self.kinds:
                found.append(leaf._replace(kind=kind))
        return found


@dataclass(frozen=True)
class Broadcast:
    """Compute at every n-th step of the run, and at timesteps outside the window."""

    n: int
    hi: float
    lo: float
    gate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole(self, "n", self.n, low=1)
        window(self, self.hi, self.lo)

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        if step.t is None:
            raise ValueError(f"{self} needs timesteps: pass them to attach, or use skipdit.sample")
        return step.index % self.n == 0 or not self.lo < step.t < self.hi

"""Where work may be spared: a span of blocks, or parts of every block."""

from dataclasses import dataclass

from torch import nn

from skipdit.core.backbone import Backbone
from skipdit.core.check import whole
from skipdit.core.policy import Leaf, Site, Span


@dataclass(frozen=True)
class Inner:
    """All blocks but the first `head` and the last `tail`: one span. Lists that take turns count by rounds."""

    head: int = 1
    tail: int = 1

    def __post_init__(self) -> None:
        whole(self, "head", self.head)
        whole(self, "tail", self.tail)

    def __call__(self, model: nn.Module, backbone: Backbone) -> list[Site]:
        depth, unit = backbone.depth(model), backbone.unit
        if self.head + self.tail >= depth:
            raise ValueError(f"{self} leaves no block to spare in {type(model).__name__} with {depth} blocks")
        return [Span(self.head * unit, (depth - self.tail) * unit)]


@dataclass(frozen=True)
class Range:
    """Blocks start ... stop-1: one span. Lists that take turns count by rounds."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        whole(self, "start", self.start)
        whole(self, "stop", self.stop, low=1)
        if self.stop <= self.start:
            raise ValueError(f"{self} is empty: stop must be above start")

    def __call__(self, model: nn.Module, backbone: Backbone) -> list[Site]:
        depth, unit = backbone.depth(model), backbone.unit
        if self.stop > depth:
            raise ValueError(f"{self} reaches past the last of {depth} blocks of {type(model).__name__}")
        return [Span(self.start * unit, self.stop * unit)]


@dataclass(frozen=True)
class Parts:
    """The named parts of every block, such as Parts(("attn", "mlp"))."""

    names: tuple[str, ...] = ("attn", "mlp")

    def __post_init__(self) -> None:
        if not self.names or isinstance(self.names, str):
            raise ValueError(f"Parts: names={self.names!r} must be a tuple of part names, such as ('attn', 'mlp')")

    def __call__(self, model: nn.Module, backbone: Backbone) -> list[Site]:
        if not backbone.parts:
            raise ValueError(
                f"{self}: no parts are known of the blocks of {type(model).__name__}: take a method on whole blocks, "
                "such as methods.skip_cache(every=2)"
            )
        for name in self.names:
            if name not in backbone.parts:
                raise ValueError(
                    f"{self}: {type(model).__name__} has no part {name!r}; its parts are {sorted(backbone.parts)}"
                )
        return [
            Leaf(f"{place.path}.{part}", name)
            for place in backbone.order(model)
            for name in self.names
            for part in _spelled(backbone.parts[name])
            if _has(model.get_submodule(place.path), part)
        ]


def _spelled(part: str | tuple[str, ...]) -> tuple[str, ...]:
    return (part,) if isinstance(part, str) else part


def _has(block: nn.Module, part: str) -> bool:
    """Blocks differ: one may lack a part that others have."""
    try:
        return block.get_submodule(part) is not None
    except AttributeError:
        return False

"""Training: a recipe, a loop, checkpoints, and a moving average."""

from typing import TYPE_CHECKING, Any

from skipdit.train.recipe import Recipe

if TYPE_CHECKING:
    from skipdit.train.loop import freeze, train

__all__ = ["Recipe", "freeze", "train"]


def __getattr__(name: str) -> Any:
    """The loop is loaded when it is first used: a recipe alone needs no torch."""
    if name in ("freeze", "train"):
        from skipdit.train import loop

        return getattr(loop, name)
    raise AttributeError(f"module 'skipdit.train' has no attribute {name!r}")

"""Training: a recipe, a loop, checkpoints, and a moving average."""

from skipdit.train.loop import freeze, train
from skipdit.train.recipe import Recipe

__all__ = ["Recipe", "freeze", "train"]

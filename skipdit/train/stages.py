"""Two-stage training: first the skip branches alone, then everything; when the first stage ends is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skipdit.data.images import ImageSet
from skipdit.train.draws import Draws, fixed_draws
from skipdit.train.recipe import Recipe

DRAWS = 256  # held-out draws: the standard error of their mean is a sixteenth of one draw's spread
BATCH = 64
ASIDE = 20  # where nothing is held out, every 20th image is kept from training


@torch.no_grad()
def losses(model: nn.Module, draws: Draws, path: Any) -> list[float]:
    """The loss of each draw, in evaluation mode and the weights' own precision."""
    was, device, found = model.training, next(model.parameters()).device, []
    model.eval()
    for first in range(0, len(draws.t), BATCH):
        found += draws.rows(slice(first, first + BATCH)).to(device).losses(model, path).tolist()
    model.train(was)
    return found


def set_aside(data: ImageSet) -> tuple[ImageSet, ImageSet]:
    """(training, held-out) images where a data set holds nothing out. Raises ValueError for a single image."""
    if len(data) < 2:
        raise ValueError("two-stage training looks at held-out images, but the data are one image: give it more")
    held = torch.arange(len(data)) % ASIDE == 0  # (N,)
    return data.rows(~held), data.rows(held)


@dataclass
class Stages:
    """Which stage a run is in, and how it got there: kept in every checkpoint.

    The first stage ends at a look, every `recipe.window` steps, at which the averaged model's loss on the fixed draws
    is no longer lower than at the look before: the mean improvement, draw by draw, is not above two standard errors, or
    not above `recipe.tolerance` of the loss. It lasts for the warm-up and one window at least, since a small rate
    improves nothing, and for `recipe.first_stage` steps at most.
    """

    recipe: Recipe
    path: Any
    draws: Draws | None  # None: training in one stage
    number: int = 1
    begun: int = 0  # the step at which the present stage began
    seen: list[float] | None = None  # losses at the last look

    @classmethod
    def of(cls, recipe: Recipe, path: Any, held: ImageSet | None, state: Mapping[str, Any] | None) -> "Stages":
        """As new, or as a checkpoint left it."""
        if held is None:
            return cls(recipe, path, None)
        return cls(recipe, path, fixed_draws(held, path, recipe.seed, DRAWS), **(state or {}))

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"number": self.number, "begun": self.begun, "seen": self.seen}

    @property
    def branches_alone(self) -> bool:
        return self.draws is not None and self.number == 1

    def begin(self, model: nn.Module) -> None:
        """The look before the first step."""
        if self.branches_alone and self.seen is None:
            self.seen = losses(model, self.draws, self.path)  # type: ignore[arg-type]

    def look(self, model: nn.Module, step: int, agreed: Callable[[bool], bool]) -> dict[str, Any]:
        """After `step` steps: what was seen and decided, {} where no look is due.

        agreed    one process's verdict -> that of all
        """
        if not self.branches_alone or (step % self.recipe.window and step != self.recipe.first_stage):
            return {}
        before, now = torch.tensor(self.seen), torch.tensor(losses(model, self.draws, self.path))  # type: ignore[arg-type]
        found = compared(before.double(), now.double())
        why = self._over(found, step)
        self.seen = now.tolist()
        if agreed(bool(why)):
            self.number, self.begun, self.seen = 2, step, None
            found["first_stage_ends"] = why or "another process says so"
        return found

    def _over(self, found: Mapping[str, float], step: int) -> str:
        """Why the first stage is over, "" where it is not."""
        gain, error = found["held_improvement"], found["held_error"]
        warm = step >= self.recipe.warmup + self.recipe.window
        if warm and gain <= 2 * error:
            return "improvement within 2 standard errors"
        if warm and gain <= self.recipe.tolerance * found["held_before"]:
            return f"improvement within {self.recipe.tolerance:g} of the loss"
        return f"{step} steps, the most allowed" if step >= self.recipe.first_stage else ""


def compared(before: Tensor, now: Tensor) -> dict[str, Any]:
    """Losses (N,) of the same draws at two looks: both means, the mean improvement, and its standard error."""
    gain = before - now  # (N,)
    return {
        "held_before": before.mean().item(),
        "held_loss": now.mean().item(),
        "held_improvement": gain.mean().item(),
        "held_error": (gain.std() / len(gain) ** 0.5).item(),
    }

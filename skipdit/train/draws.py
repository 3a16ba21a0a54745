"""What a training step looks at: images or clips, noise, timesteps and labels, as a function of the seed alone."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skipdit.data.clips import ClipSet
from skipdit.data.images import ImageSet, to_model
from skipdit.train.recipe import Recipe


@dataclass(frozen=True)
class Draws:
    """Clean and noise samples, B of them, and what the network is told beside: an argument's name -> its value.

    Images are (B, C, H, W). Clips are (B, F + I, C, H, W), with I single images behind the frames of each.
    """

    x0: Tensor
    noise: Tensor
    t: Tensor  # (B,)
    given: dict[str, Any]

    def to(self, device: torch.device) -> "Draws":
        given = {name: v.to(device) if isinstance(v, Tensor) else v for name, v in self.given.items()}
        return Draws(self.x0.to(device), self.noise.to(device), self.t.to(device), given)

    def rows(self, rows: slice) -> "Draws":
        given = {name: v[rows] if isinstance(v, Tensor) else v for name, v in self.given.items()}
        return Draws(self.x0[rows], self.noise[rows], self.t[rows], given)

    def losses(self, network: nn.Module, path: Any) -> Tensor:
        """The loss of each sample (B,)."""
        output = network(path.noised(self.x0, self.noise, self.t), self.t, **self.given)
        return path.loss(output, self.x0, self.noise, self.t)


def draw(data: ImageSet, path: Any, recipe: Recipe, step: int, process: int = 0, processes: int = 1) -> Draws:
    """One step's draws: a function of the seed, the step and the process alone.

    Samples come in the order of one shuffle an epoch. The global generator is seeded too: label dropout draws from it.
    """
    first = (step * processes + process) * recipe.batch_size
    places = torch.arange(first, first + recipe.batch_size)
    rows = torch.empty_like(places)
    for epoch in torch.unique(places // len(data)).tolist():
        shuffle = torch.randperm(len(data), generator=_generator(recipe.seed, 0, epoch))
        inside = places // len(data) == epoch
        rows[inside] = shuffle[places[inside] % len(data)]
    torch.manual_seed(_seed(recipe.seed, 1, step, process))
    x0, given = _of(data, rows)
    if recipe.images:
        x0, beside = _joined(x0, data, recipe.images, _generator(recipe.seed, 3, step, process))
        given |= beside
    return _noisy(x0, given, path, _generator(recipe.seed, 2, step, process))


def fixed_draws(held: ImageSet, path: Any, seed: int, count: int) -> Draws:
    """`count` draws spread evenly over the held-out samples: a function of the seed alone."""
    rows = torch.arange(count) * len(held) // count  # (N,)
    return _noisy(*_of(held, rows), path, torch.Generator().manual_seed(seed))


def _of(data: ImageSet, rows: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Clean samples (B, ..., 3, H, W) and what is told of them."""
    style = {} if data.style is None else {"style": data.style[rows]}
    return to_model(data.x[rows]), {"y": data.y[rows], **style}


def _joined(x0: Tensor, data: ImageSet, images: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
    """Single frames of any clips behind each clip's own: the joint training of Latte (arXiv 2401.03048, sec. 3.4).

    Raises ValueError for a set of images.
    """
    if not isinstance(data, ClipSet):
        raise ValueError(f"recipe: images={images} are frames beside clips, but the data are images: set images=0")
    rows = torch.randint(len(data), (len(x0), images), generator=generator)  # (B, I)
    at = torch.randint(data.frames, (len(x0), images), generator=generator)  # (B, I)
    x0 = torch.cat([x0, to_model(data.x[rows, at])], dim=1)  # (B, F + I, 3, H, W)
    return x0, {"y_image": data.y[rows], "use_image_num": images}


def _noisy(x0: Tensor, given: dict[str, Any], path: Any, generator: torch.Generator) -> Draws:
    noise = torch.randn(x0.shape, generator=generator)
    return Draws(x0, noise, path.draw(len(x0), generator), given)


def _seed(*parts: int) -> int:
    """One 63-bit seed out of several numbers (SplitMix64), so that neighbouring steps draw unrelated noise."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & (2**64 - 1)
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        state ^= state >> 31
    return state >> 1


def _generator(*parts: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*parts))

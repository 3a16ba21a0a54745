"""Two small heads that put what EfficientNet-Lite0 sees and what MiniLM reads into one space.

They are ours and ship with the package: docs/image_text.py trains them, docs/metrics.md says on what, and what they
reach.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from skipdit.networks.minilm import WIDTH as READ
from skipdit.networks.minilm import read

SEEN, HIDDEN, SHARED = 1280, 512, 256
FILE = Path(__file__).parent / "weights" / "image_text.safetensors"


def _head(width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Dropout(dropout),
        nn.Linear(width, HIDDEN),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(HIDDEN, SHARED),
    )


class ImageText(nn.Module):
    """A head for images and one for texts; `scale` is the logarithm of what cosines are multiplied by in training."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.images, self.texts = _head(SEEN, dropout), _head(READ, dropout)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def see(self, features: Tensor) -> Tensor:
        """Features (N, 1280) of `networks.efficientnet.features` -> unit vectors (N, 256)."""
        return functional.normalize(self.images(features), dim=1)

    def read(self, sentences: Tensor) -> Tensor:
        """Sentences (M, 384) of `networks.minilm.read` -> unit vectors (M, 256)."""
        return functional.normalize(self.texts(sentences), dim=1)


@cache
def image_text() -> ImageText:
    """The heads with their weights, on the CPU, frozen."""
    net = ImageText()
    net.load_state_dict({name: tensor.float() for name, tensor in load_file(FILE).items()})
    return net.requires_grad_(False).eval()


@torch.no_grad()
def embedded_images(features: Tensor) -> Tensor:
    """What EfficientNet-Lite0 saw in images, (N, 1280) -> unit vectors (N, 256)."""
    return image_text().see(features.cpu().float())


@torch.no_grad()
def embedded_texts(
    texts: Sequence[str], device: str = "cpu", on_batch: Callable[[int], None] = lambda done: None
) -> Tensor:
    """Captions -> unit vectors (M, 256). Raises ValueError for none, Unavailable where MiniLM isn't there."""
    return image_text().read(read(texts, device, on_batch=on_batch))

"""The temporal shift of Latent-Shift (arXiv 2304.08477) and TSM (arXiv 1811.08383): frames mix without parameters."""

from collections.abc import Callable

import torch
from torch import Tensor

EDGES: dict[str, Callable[[Tensor], Tensor]] = {"replicate": lambda x: x, "zero": torch.zeros_like}


def temporal_shift(x: Tensor, portion: float = 0.25, edges: str = "replicate") -> Tensor:
    """Videos x (B, F, T, D), of which a share of the channels comes from the neighbouring frames.

    portion    share of the channels: half of it comes from the next frame, half from the frame before
    edges      what the last and the first frame get, which have no such neighbour: "replicate", their own channels, or
               "zero", as in TSM

    A single frame has no neighbours and stays as it is.
    """
    if x.shape[1] == 1:
        return x
    n = moved(x.shape[-1], portion)
    later, earlier, kept = x.split([n, n, x.shape[-1] - 2 * n], dim=-1)  # (B, F, T, n), the same, (B, F, T, D - 2n)
    later = torch.cat([later[:, 1:], EDGES[edges](later[:, -1:])], dim=1)  # frame f has what was frame f+1's
    earlier = torch.cat([EDGES[edges](earlier[:, :1]), earlier[:, :-1]], dim=1)  # frame f has what was frame f-1's
    return torch.cat([later, earlier, kept], dim=-1)  # (B, F, T, D)


def moved(width: int, portion: float) -> int:
    """Channels that move in each direction."""
    return int(width * portion / 2)


def check(width: int, portion: float, edges: str) -> None:
    """Raises ValueError for a portion that moves no channel or more than there are, and for unknown edges."""
    if not 0 < portion <= 1 or not moved(width, portion):
        raise ValueError(
            f"shift_portion={portion} of {width} channels: it must be at most 1 and move at least one each way"
        )
    if edges not in EDGES:
        raise ValueError(f"shift_edges={edges!r} is unknown: choose {', '.join(map(repr, EDGES))}")

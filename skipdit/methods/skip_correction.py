"""Skip-Cache with a linear correction: the held deep feature follows the change of the fresh shallow one.

Ours, on Skip-Cache (arXiv 2411.17616): y = y' + A (x - x'), with x the output of block K-1, fresh at every step, y the
output of block L-K-1, and x', y' those of the last full step. A is low-rank plus diagonal, fitted beforehand; A = 1 is
residual caching, A = 0 is Skip-Cache itself.
Held: two tensors (B, T, D) a stream, and A. A second stream (text) is held as it is.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from skipdit.core.check import whole
from skipdit.core.policy import Flow, Memory, Policy, Step, spell
from skipdit.core.when import Every, Window
from skipdit.core.where import Inner


def skip_correction(
    path: str, every: int = 2, branch: int = 1, hi: float | None = None, lo: float | None = None
) -> Policy:
    """Correct the output of block L-K-1 by the change of the output of block K-1.

    path      of the fitted A, see `Corrected`
    every     N: one full step, then N-1 corrected ones
    branch    K: blocks at either end that run at every step
    hi, lo    full steps at timesteps at or above `hi` and at or below `lo`; below 1: fractions of the run
    """
    spelling = spell(skip_correction, locals())
    whole("skip_correction", "every", every, low=1)
    whole("skip_correction", "branch", branch, low=1)
    when = Every(every) if hi is None and lo is None else Window(Every(every), hi, lo)
    return Policy(Inner(branch, branch), when, Corrected(path), spelling)


@dataclass(frozen=True)
class Corrected:
    """The last output plus A times the change of the input. A comes from a safetensors file that holds any of

    diagonal    () or (D,), or with one for each step of the run (S, 1) or (S, D)
    down, up    (r, D) and (D, r), or (S, r, D) and (S, D, r): A x = up (down x) + diagonal x

    Raises ValueError, by name, for a file that isn't there or holds something else; for a step beyond S.
    """

    path: str

    def __post_init__(self) -> None:
        _loaded(self.path)

    def observe(self, memory: Memory, step: Step, x: Flow, y: Flow) -> None:
        memory["x"], memory["y"] = x[0], y
        if "map" not in memory:
            memory["map"] = {name: each.to(x[0].device, x[0].dtype) for name, each in _loaded(self.path).items()}

    def predict(self, memory: Memory, step: Step, x: Flow) -> Flow:
        change, parts = x[0] - memory["x"], memory["map"]  # (B, T, D)
        y = memory["y"][0]
        if "diagonal" in parts:
            y = y + change * self._at(parts["diagonal"], 1, step)
        if "down" in parts:
            down, up = self._at(parts["down"], 2, step), self._at(parts["up"], 2, step)  # (r, D), (D, r)
            y = y + change @ down.T @ up.T
        return (y, *memory["y"][1:])

    def _at(self, part: Tensor, dimensions: int, step: Step) -> Tensor:
        """What holds at a step: the one for all, or that step's own."""
        if part.ndim <= dimensions:
            return part
        if step.index >= len(part):
            raise ValueError(f"{self} is fitted for {len(part)} steps, but step {step.index} came: fit it for this run")
        return part[step.index]


@lru_cache(maxsize=8)
def _loaded(path: str) -> dict[str, Tensor]:
    """The file's tensors, checked."""
    if not Path(path).is_file():
        raise ValueError(f"skip_correction: there is no file {path!r}: fit a correction first")
    try:
        parts = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"skip_correction: {path!r} is no safetensors file: {error}") from error
    if not parts or set(parts) - {"diagonal", "down", "up"} or ("down" in parts) != ("up" in parts):
        raise ValueError(f"skip_correction: {path!r} holds {sorted(parts)}: it needs diagonal, or down and up, or all")
    if "down" in parts and parts["down"].mT.shape != parts["up"].shape:
        shapes = tuple(parts["down"].shape), tuple(parts["up"].shape)
        raise ValueError(f"skip_correction: {path!r} has down {shapes[0]} and up {shapes[1]}, not transposes in shape")
    bad = [name for name, part in parts.items() if not torch.isfinite(part).all()]
    if bad:
        raise ValueError(f"skip_correction: {bad[0]} in {path!r} is not finite: fit it anew")
    return parts

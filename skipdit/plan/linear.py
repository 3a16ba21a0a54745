"""The correction A of `skip_correction`, fitted in closed form: what leaves a span follows what enters it.

    y_t - y_s ~ A (x_t - x_s)    with s the last computed step before t

A minimises sum |dy - A dx|^2 + ridge mean(diag S) |A|^2 over all tokens of a calibration batch and all steps that are
stood in for: A = C (S + ridge mean(diag S) I)^-1 with S = sum dx dx', C = sum dy dx'. Then it is cut to a diagonal and
a rank, by the SVD of what the diagonal leaves, weighted by how dx varies: the best of its rank for that error.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from skipdit.aside import written_aside
from skipdit.core.check import whole
from skipdit.core.policy import Flow, Memory, Moment, Site, Step


class Differences:
    """A schedule that always computes and watches: attach it to Inner(k, k), sample, then read `moments`.

    computed    the steps that will be computed; the others lean on the last of them

    moments     (S, C): sums of dx dx' and of dy dx' (D, D), float64, over all tokens and steps to be stood in for
    """

    gate: ClassVar[bool] = False

    def __init__(self, computed: Sequence[int]):
        self.computed = frozenset(computed) | {0}
        self.moments: tuple[Tensor, Tensor] | None = None

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        return True

    def observe(self, memory: Memory, step: Step, site: Site, x: Flow, y: Flow) -> None:
        now = tuple(flow[0].detach().float().flatten(0, -2) for flow in (x, y))  # (B, T, D) -> (B T, D)
        if step.index in self.computed:
            memory["then"] = now
            return
        dx, dy = (after - before for after, before in zip(now, memory["then"], strict=True))
        found = (dx.T @ dx).double().cpu(), (dy.T @ dx).double().cpu()  # (D, D)
        if self.moments is None:
            self.moments = found
        else:
            self.moments = self.moments[0] + found[0], self.moments[1] + found[1]


def fit(moments: tuple[Tensor, Tensor], rank: int = 16, ridge: float = 1e-3) -> dict[str, Tensor]:
    """{"diagonal": (D,), "down": (r, D), "up": (D, r)}: A x = up (down x) + diagonal x.

    Raises ValueError for a rank above D.
    """
    s, c = moments
    whole("linear", "rank", rank)
    if rank > len(s):
        raise ValueError(f"linear: rank={rank} is above the width {len(s)}")
    eye = torch.eye(len(s), dtype=s.dtype)
    s = s + ridge * s.diagonal().mean() * eye
    full = torch.linalg.solve(s, c.T).T  # (D, D)
    diagonal = c.diagonal() / s.diagonal()
    root = torch.linalg.cholesky(s)  # s = root root': the error of dA is |dA root|
    u, sigma, v = torch.linalg.svd((full - diagonal.diag()) @ root)
    up = u[:, :rank] * sigma[:rank]  # (D, r)
    down = torch.linalg.solve_triangular(root.T, v[:rank].T, upper=True).T  # (r, D)
    return {"diagonal": diagonal.float(), "down": down.float(), "up": up.float()}


def left_over(moments: tuple[Tensor, Tensor], energy: float, parts: dict[str, Tensor]) -> float:
    """|dy - A dx|^2 / |dy|^2 over the calibration batch; 1 is holding. `energy` is the sum of |dy|^2."""
    s, c = moments
    a = (parts["up"] @ parts["down"] + parts["diagonal"].diag()).double()
    return ((a @ s * a).sum() - 2 * (a * c).sum() + energy).item() / energy


def save(parts: dict[str, Any], path: Path) -> None:
    """A file for `skip_correction`."""
    with written_aside(path) as aside:
        save_file({name: part.contiguous() for name, part in parts.items()}, aside)

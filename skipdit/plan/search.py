"""Search for the steps to compute: shortest path where the cost is additive, then annealing and hill climbing.

The shortest path over pairs of anchors is DPCache's (arXiv 2602.22654): what stands in at step t leans on the last two
computed steps, so the cost of a gap depends on where it starts and on the anchor before. Annealing on the final image
and hill climbing after it are BudCache's (arXiv 2606.13496).
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from skipdit.core.check import whole

Mask = tuple[int, ...]  # the computed steps, in rising order
Loss = Callable[[Mask], float]


class Spent(Exception):
    """Raised by a loss when no time is left: the search ends with the best it has."""


# ---- the additive surrogate -----------------------------------------------------------------------------------------


def gap_costs(gram: Tensor, kind: str, ridge: float = 1e-6, tilt: float = 0.0) -> Tensor:
    """C[h, i, j]: what standing in at steps i+1 ... j-1 costs, with anchors h < i and the next one at j (T, T, T + 1).

    kind    "hold", "polynomial" (order 1 from both anchors) or "fitted" (the best weights of both)
    tilt    the relative squared error at step t counts ((t + 1) / T)^tilt times

    The first step has no anchor before it: there h = i = 0, and only holding is possible.
    """
    if kind not in ("hold", "polynomial", "fitted"):
        raise ValueError(f"gap_costs: kind={kind!r} must be 'hold', 'polynomial' or 'fitted'")
    steps = len(gram)
    at = torch.arange(steps)
    h, i, t = at[:, None, None], at[None, :, None], at[None, None, :]
    error = _two_anchor_errors(gram, kind, ridge) / gram.diagonal()  # (h, i, t)
    error[0, 0] = (gram[0, 0] - 2 * gram[0] + gram.diagonal()) / gram.diagonal()
    error = error.clamp(min=0) * ((at + 1) / steps) ** tilt
    total = error.masked_fill(t <= i, 0.0).cumsum(2)  # at t: the cost with the next anchor at t + 1
    costs = torch.cat([torch.zeros(steps, steps, 1, dtype=total.dtype), total], 2)  # (h, i, j)
    j = torch.arange(steps + 1)[None, None, :]
    return costs.masked_fill((j <= i) | ((h >= i) & ~((h == 0) & (i == 0))), math.inf)


def _two_anchor_errors(gram: Tensor, kind: str, ridge: float) -> Tensor:
    """|a y_i + b y_h - y_t|^2 for all h, i, t (T, T, T)."""
    at = torch.arange(len(gram), dtype=gram.dtype)
    norm = gram.diagonal()
    hh, ii, tt = norm[:, None, None], norm[None, :, None], norm[None, None, :]
    hi, ht, it = gram[:, :, None], gram[:, None, :], gram[None, :, :]
    a, b = torch.ones_like(gram[None]), torch.zeros_like(gram[None])
    if kind == "polynomial":
        gap = (at[None, :, None] - at[:, None, None]).clamp(min=1)
        ahead = (at[None, None, :] - at[None, :, None]) / gap
        a, b = 1 + ahead, -ahead
    elif kind == "fitted":  # the two-by-two system of `fitted.solve`, by Cramer's rule
        more = ridge * (hh + ii) / 2
        determinant = (ii + more) * (hh + more) - hi.square()
        a = (it * (hh + more) - ht * hi) / determinant
        b = (ht * (ii + more) - it * hi) / determinant
    return a * a * ii + b * b * hh + 2 * a * b * hi + tt - 2 * a * it - 2 * b * ht


def shortest(costs: Tensor, computed: int) -> Mask:
    """The mask with that many computed steps, the first among them, whose gaps cost least together.

    D[m][i, j] = min_h D[m-1][h, i] + C[h, i, j]. Raises ValueError for more steps than there are, or none.
    """
    steps = costs.shape[0]
    whole("shortest", "computed", computed, low=1)
    if computed > steps:
        raise ValueError(f"shortest: computed={computed} of {steps} steps")
    best = torch.full((steps, steps), math.inf, dtype=torch.float64)
    best[0, 0] = 0.0
    backs = []
    for _ in range(computed - 1):
        found, back = (best[:, :, None] + costs[:, :, :steps]).min(0)  # (i, j)
        best = found.masked_fill(torch.ones_like(found).tril().bool(), math.inf)  # j must lie after i
        backs.append(back)
    place = int((best + costs[:, :, steps]).argmin())
    before, last = divmod(place, steps)
    path = [last]
    for back in reversed(backs):
        path.append(before)
        before, last = int(back[before, last]), before
    return tuple(sorted(path))


# ---- the final image ------------------------------------------------------------------------------------------------


def anneal(
    start: Mask,
    loss: Loss,
    steps: int,
    tries: int,
    seed: int = 0,
    hot: float = 1.0,
    cold: float = 0.02,
    on_try: Callable[[int, Mask, float], None] | None = None,
) -> tuple[Mask, float]:
    """Simulated annealing from `start`, then hill climbing, as many new masks as `tries`: the best mask and its loss.

    loss       of a mask, memoised here; it may raise Spent
    hot, cold  temperature at the beginning and at the end, in units of the loss
    on_try     (masks tried, best mask, its loss)

    Never worse than `start`; the same seed gives the same search. Step 0 stays.
    """
    rng = random.Random(seed)
    known: dict[Mask, float] = {}
    best: tuple[float, Mask] = (math.inf, start)

    def ask(mask: Mask) -> float:
        nonlocal best
        if mask not in known:
            if len(known) > tries:
                raise Spent
            known[mask] = loss(mask)
            best = min(best, (known[mask], mask))
            if on_try:
                on_try(len(known) - 1, best[1], best[0])
        return known[mask]

    try:
        here, value = start, ask(start)
        if 1 < len(start) < steps:
            turns = round(0.5 * tries)
            for turn in range(turns):
                mask = moved(here, steps, rng)
                found = ask(mask)
                heat = hot * (cold / hot) ** (turn / max(1, turns - 1))
                if found <= value or rng.random() < math.exp((value - found) / heat):
                    here, value = mask, found
            climb(best[1], ask, steps, rng)
    except Spent:
        pass
    if not known:
        raise Spent
    return best[1], best[0]


def climb(mask: Mask, ask: Loss, steps: int, rng: random.Random, radius: int = 3) -> Mask:
    """Move one computed step at a time by up to `radius`, whatever is better at once, until nothing is."""
    improved = True
    while improved:
        improved = False
        for step in rng.sample(mask[1:], len(mask) - 1):
            for other in sorted(_near(step, mask, steps, radius), key=lambda o: abs(o - step)):
                neighbour = _swap(mask, step, other)
                if ask(neighbour) < ask(mask):
                    mask, improved = neighbour, True
                    break
    return mask


def moved(mask: Mask, steps: int, rng: random.Random) -> Mask:
    """One computed step elsewhere, seven times of ten within three steps; one time of ten two of them."""
    for _ in range(2 if rng.random() < 0.1 else 1):
        step = rng.choice(mask[1:])
        near = list(_near(step, mask, steps, 3 if rng.random() < 0.7 else steps))
        if near:
            mask = _swap(mask, step, rng.choice(near))
    return mask


def _near(step: int, mask: Sequence[int], steps: int, radius: int) -> Iterator[int]:
    taken = set(mask)
    return (o for o in range(max(1, step - radius), min(steps, step + radius + 1)) if o not in taken)


def _swap(mask: Mask, step: int, other: int) -> Mask:
    return tuple(sorted({*mask} - {step} | {other}))

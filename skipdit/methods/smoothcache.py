"""SmoothCache: each kind of part has a schedule made once from how much its output changes from step to step.

Joseph Liu et al., "SmoothCache: A Universal Inference Acceleration Technique", arXiv 2411.10510, sec. 3.2.
Held: one tensor (B, T, D) a part, from before the block's own gate.
DiT-XL/2 256, DDIM-50, FID as published: none 2.28, alpha 0.18 2.65 (24 of 50 steps computed), alpha 0.22 3.14.
"""

from collections.abc import Mapping, Sequence

from skipdit.core.check import number
from skipdit.core.policy import Policy, When, spell
from skipdit.core.what import hold
from skipdit.core.when import ByKind, Mask
from skipdit.core.where import Parts


def smoothcache(schedule: str | dict[str, str]) -> Policy:
    """Hold each kind of part by a schedule of its own.

    schedule    one bit a step, 1 is computed: {"attn": "10100...", "mlp": "10010..."}; one string serves both.
                `smoothcache.schedule` makes one from error curves
    """
    spelling = spell(smoothcache, locals())
    kinds = {"attn": schedule, "mlp": schedule} if isinstance(schedule, str) else schedule
    if not isinstance(kinds, dict) or not kinds:
        raise ValueError(f"smoothcache: schedule={schedule!r} must be bits such as '1010', or bits by kind of part")
    named: tuple[tuple[str, When], ...] = tuple((kind, Mask(bits)) for kind, bits in sorted(kinds.items()))
    return Policy(Parts(tuple(kind for kind, _ in named)), ByKind(named), hold(), spelling)


def schedule(errors: Sequence[Sequence[float]], threshold: float, steps: int) -> str:
    """The published search: from each computed step on, the longest gap whose error is at most the threshold.

    errors       row g-1: for every step i, the error of giving step i's output at step i+g, averaged over depths and
                 samples: |y_i - y_i+g| / |y_i+g| in L1. Rows may be shorter than the run
    threshold    alpha
    steps        of the run

    Gives one bit a step; the first and the last are computed. Raises ValueError for no rows, or a bad threshold.
    """
    number("smoothcache", "threshold", threshold)
    if not errors or steps < 1:
        raise ValueError(
            f"smoothcache: {len(errors)} rows of errors for {steps} steps: give a row for each gap, 1 first"
        )
    bits, step = ["1"] * steps, 0
    while step < steps:
        gaps = [g for g, row in enumerate(errors, start=1) if step < len(row) and row[step] <= threshold]
        gap = max(gaps, default=0)
        bits[step + 1 : step + 1 + gap] = ["0"] * len(bits[step + 1 : step + 1 + gap])
        step += gap + 1
    bits[-1] = "1"
    return "".join(bits)


def averaged(curves: Mapping[str, Sequence[Sequence[float]]]) -> list[list[float]]:
    """The curves of one kind's parts at all depths as one: the mean, where a curve reaches that far."""
    rows = max(len(curve) for curve in curves.values())
    mean = []
    for row in range(rows):
        each = [curve[row] for curve in curves.values() if row < len(curve)]
        at = [[one[i] for one in each if i < len(one)] for i in range(max(len(one) for one in each))]
        mean.append([sum(values) / len(values) for values in at])
    return mean


smoothcache.schedule = schedule  # type: ignore[attr-defined]
smoothcache.averaged = averaged  # type: ignore[attr-defined]

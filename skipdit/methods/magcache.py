"""MagCache: how fast residuals grow or shrink is calibrated once; steps are spared while the error it implies is small.

Zehong Ma et al., "MagCache: Fast Video Generation with Magnitude-Aware Cache", arXiv 2506.09045, eq. 5-7: with ratios
g_t = mean over tokens of |r_t| / |r_t-1|, acc = product of g since the last full step, err = sum of |1 - acc|.
Held: one tensor (B, T, D) a stream, what all blocks added. The ratios don't depend on the input, so this is a schedule.
Defaults: diffusers'. Wan 1.3B as its authors published: 2.1x at PSNR 23.4.
"""

from skipdit.core.check import number, whole
from skipdit.core.policy import Policy, spell
from skipdit.core.what import residual
from skipdit.core.when import Mask
from skipdit.core.where import Inner


def magcache(ratios: tuple[float, ...], threshold: float = 0.06, most: int = 3, retention: float = 0.2) -> Policy:
    """Add what all blocks last added.

    ratios       g of every step of the run, measured on an uncached one; the first is not used
    threshold    err at which a step is computed again
    most         K: cached steps in a row, at most
    retention    the fraction of the run, at its start, that is full

    Raises ValueError for no ratios, or ones that aren't positive numbers.
    """
    spelling = spell(magcache, locals())
    return Policy(Inner(0, 0), Mask(mask(ratios, threshold, most, retention)), residual(), spelling)


def mask(ratios: tuple[float, ...], threshold: float, most: int, retention: float) -> str:
    """One bit a step: 1 is computed. The error begins anew after every computed step."""
    if not ratios:
        raise ValueError("magcache: ratios=() is empty: give one ratio a step, measured on an uncached run")
    for ratio in ratios:
        number("magcache", "ratios", ratio, strict=True)
    number("magcache", "threshold", threshold)
    number("magcache", "retention", retention)
    whole("magcache", "most", most, low=1)
    kept = int(retention * len(ratios) + 0.5)
    bits, acc, err, row = "", 1.0, 0.0, 0
    for step, ratio in enumerate(ratios):
        acc, row = acc * ratio, row + 1
        err += abs(1 - acc)
        spared = step >= max(1, kept) and err <= threshold and row <= most
        bits += "0" if spared else "1"
        if not spared:
            acc, err, row = 1.0, 0.0, 0
    return bits


def rescaled(ratios: tuple[float, ...], steps: int) -> tuple[float, ...]:
    """The ratios for another number of steps: those of the nearest steps, as the authors do it; the last for one."""
    whole("magcache", "steps", steps, low=1)
    if steps == 1:
        return ratios[-1:]
    scale = (len(ratios) - 1) / (steps - 1)
    return tuple(ratios[round(step * scale)] for step in range(steps))


magcache.rescaled = rescaled  # type: ignore[attr-defined]

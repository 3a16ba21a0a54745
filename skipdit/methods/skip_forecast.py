"""Skip-Cache with a forecast: the deep feature is extrapolated from the last full steps instead of held.

Ours: the spans of Skip-Cache (arXiv 2411.17616), with the polynomial through the last order+1 full steps, exact on
uneven steps too. The branches bring the fresh shallow features to the last blocks, as in Skip-Cache.
Held: order+1 tensors (B, T, D) a stream.
"""

from skipdit.core.check import whole
from skipdit.core.policy import Policy, spell
from skipdit.core.what import forecast
from skipdit.core.when import Every, Window
from skipdit.core.where import Inner


def skip_forecast(
    every: int = 3, order: int = 1, branch: int = 1, hi: float | None = None, lo: float | None = None
) -> Policy:
    """Forecast the output of block L-K-1.

    every     N: one full step, then N-1 forecast ones, after order+1 full ones
    order     of the forecast; 1 is a line
    branch    K: blocks at either end that run at every step
    hi, lo    full steps at timesteps at or above `hi` and at or below `lo`; below 1: fractions of the run
    """
    spelling = spell(skip_forecast, locals())
    whole("skip_forecast", "every", every, low=1)
    whole("skip_forecast", "branch", branch, low=1)
    whole("skip_forecast", "order", order, low=1)
    inside = Every(every, warmup=order + 1)
    when = inside if hi is None and lo is None else Window(inside, hi, lo)
    return Policy(Inner(branch, branch), when, forecast(order), spelling)

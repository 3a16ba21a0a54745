"""DBCache: first-block caching with several blocks as probe, and the last ones run again to correct.

cache-dit's dual block cache (no paper): the first Fn blocks always run and are the probe, the last Bn always run.
Held: what the blocks between added and what the first Fn added, two tensors (B, T, D); `order` more for a forecast.
Defaults: cache-dit's. FLUX, 50 steps on an L20, as its authors published: F8 B0 and a forecast, PSNR 36.7 at 1.7x.
"""

from skipdit.core.check import whole
from skipdit.core.policy import Policy, spell
from skipdit.core.what import forecast, residual, taylor
from skipdit.core.when import Drift, Guarded
from skipdit.core.where import Inner


def dbcache(
    threshold: float = 0.08, front: int = 8, back: int = 0, warmup: int = 8, most: int | None = None, order: int = 0
) -> Policy:
    """Add what the middle blocks last added, or a forecast of it, while the first blocks say that little has changed.

    threshold      relative L1 change of what the first blocks add
    front, back    Fn, Bn: blocks at either end that run at every step
    warmup         steps at the start that are full
    most           cached steps in a row, at most; None: no bound
    order          0 adds the last change; above 0: Taylor's forecast of it (TaylorSeer's rule)
    """
    spelling = spell(dbcache, locals())
    whole("dbcache", "front", front, low=1)
    whole("dbcache", "order", order)
    what = forecast(order, change=True, rule=taylor) if order else residual()
    return Policy(Inner(front, back), Guarded(Drift(threshold), warmup, most=most), what, spelling)

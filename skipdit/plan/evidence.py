"""What a plan gives on labels and seeds that it was not tuned on, beside the same time spent on fewer steps."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import ceil
from statistics import fmean
from typing import Any

from skipdit.core.policy import Policy
from skipdit.plan.study import Study
from skipdit.results import Provenance


def interval(values: Sequence[float], draws: int = 2000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The bootstrap's confidence interval of a mean (percentiles). Raises ValueError for no values."""
    if not values:
        raise ValueError("interval: no values")
    rng = random.Random(seed)
    means = sorted(fmean(rng.choices(values, k=len(values))) for _ in range(draws))
    out = int(draws * (1 - level) / 2)
    return means[out], means[-1 - out]


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean and 95 % interval of figures, as evidence says them."""
    low, high = interval(values)
    return {"mean": fmean(values), "ci95": [low, high], "pictures": len(values)}


def speedup(study: Study, policy: Policy, rounds: int = 3) -> float:
    """How many times as fast a policy is as uncached on the study's pictures, by the best round of each."""
    full, spent = study.least(None, policy, rounds=rounds)
    return full / spent


def checked(study: Study, policy: Policy, rounds: int, tell: Callable[[str], None] | None = None) -> dict[str, Any]:
    """PSNR on held-out labels and seeds, measured speed-up, FLOPs, and what fewer steps give in the same time."""
    say = tell or (lambda text: None)
    say("held-out pictures, uncached")
    study.reference = study.draw()
    say("held-out pictures, with the plan")
    found = study.decibels(study.draw(policy))
    assert study.run is not None
    report = study.run.report()
    say("timing")
    timed_on = study.first(min(len(study.labels), 8))
    faster = speedup(timed_on, policy, rounds)
    fewer = min(study.steps, ceil(study.steps / faster))  # in doubt for the rival
    say(f"the same time spent on {fewer} steps")
    rival = study.decibels(study.draw(steps=fewer))
    return {
        "measured_speedup": faster,
        "ideal_speedup": report.ideal_speedup,
        "held_out_psnr": summary(found),
        "fewer_steps": {"steps": fewer, "psnr": summary(rival)},
        "ahead_of_fewer_steps": summary([a - b for a, b in zip(found, rival, strict=True)]),
        "provenance": asdict(Provenance.here(study.model.dtype, len(timed_on.labels), study.steps, study.seed)),
    }

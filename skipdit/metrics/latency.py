"""Wall-clock time of several candidates, interleaved, so that a noisy machine treats all of them alike."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

import torch


class Latency(NamedTuple):
    """Seconds of one candidate's runs."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, over the median."""
        ordered = sorted(self.seconds)
        quarter = len(ordered) // 4
        return (ordered[-1 - quarter] - ordered[quarter]) / 2 / self.median


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    repeats: int = 5,
    warmup: int = 1,
    on_round: Callable[[int, int], None] | None = None,
) -> dict[str, Latency]:
    """Time each candidate `repeats` times, one after the other in every round, after `warmup` rounds uncounted."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(warmup + repeats):
        for name, call in candidates.items():
            _wait()
            start = time.perf_counter()
            call()
            _wait()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
        if on_round:
            on_round(turn + 1, warmup + repeats)
    return {name: Latency(values) for name, values in seconds.items()}


def ratio(of: Latency, to: Latency) -> float:
    """How many times as fast `to` is as `of`: the median of the ratios of each round."""
    return median(a / b for a, b in zip(of.seconds, to.seconds, strict=True))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()

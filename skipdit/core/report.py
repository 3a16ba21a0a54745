"""What a run did and what it spared, in words and as a dict."""

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skipdit.core.run import Run


@dataclass(frozen=True)
class Report:
    """Figures of one run. FLOPs count the model's matrix products, two a multiply-add, over the whole batch and all
    steps; what a policy spends by itself (a probe's, a correction's) is not among them."""

    steps: int  # denoising steps
    computed: int  # steps at which nothing was stood in for
    stood_in: int  # steps at which something was
    passes: int  # passes through the model: more than steps where guidance runs in two; a batch of steps counts each
    blocks_run: int
    blocks_in_full: int  # blocks that an uncached run would have run
    flops: int  # spent
    spared_flops: int
    ideal_speedup: float | None  # (flops + spared_flops) / flops: of a machine bound by arithmetic; None: not countable
    bytes_held: int  # the most that was held between steps at once

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        blocks = (
            f"{self.steps} steps: {self.computed} computed, {self.stood_in} stood in; "
            f"{self.blocks_run} of {self.blocks_in_full} blocks run; "
        )
        if self.ideal_speedup is None:
            return f"{blocks}FLOPs not countable here; at most {self.bytes_held / 1e6:.2f} MB held"
        share = self.spared_flops / max(1, self.flops + self.spared_flops)
        return (
            f"{blocks}{self.spared_flops / 1e9:.2f} of {(self.flops + self.spared_flops) / 1e9:.2f} GFLOPs spared "
            f"({share:.0%}), "
            f"ideal speed-up {self.ideal_speedup:.2f}x; at most {self.bytes_held / 1e6:.2f} MB held"
        )


def report(run: "Run") -> Report:
    """The figures of a run so far. Blocks of a model whose shapes were never seen cost nothing."""
    steps: dict[int, bool] = {step.index: True for step, _, _ in run.passes}
    for event in run.trace:
        steps[event.step] = steps[event.step] and event.computed
    flops = run.flops()
    full = flops.get("", 0) * len(run.passes)
    cost = {site: sum(flops.get(path, 0) for path in paths) for site, paths in run.sites.items()}
    spared = sum(cost[event.site] for event in run.trace if not event.computed)
    computed = sum(steps.values())
    return Report(
        steps=len(steps),
        computed=computed,
        stood_in=len(steps) - computed,
        passes=len(run.passes),
        blocks_run=sum(ran for _, _, ran in run.passes),
        blocks_in_full=run.blocks_in_full,
        flops=full - spared,
        spared_flops=spared,
        ideal_speedup=full / (full - spared) if full > spared else None,
        bytes_held=run.bytes_held,
    )


def combined(reports: list[Report]) -> Report:
    """The figures of several models that took turns in one loop. Raises ValueError where there are none."""
    if not reports:
        raise ValueError("nothing has run since the policy was attached")
    counts = [f.name for f in fields(Report) if f.name != "ideal_speedup"]
    summed = {name: sum(getattr(report, name) for report in reports) for name in counts}
    spent = 0 if any(report.ideal_speedup is None for report in reports) else summed["flops"]
    return Report(**summed, ideal_speedup=(spent + summed["spared_flops"]) / spent if spent else None)

"""One policy rehearsed on a model: what was computed at each step, block by block, read from the run's own trace."""

import re
from dataclasses import dataclass, replace
from typing import Any

import torch

from skipdit.core.attach import attach
from skipdit.core.backbone import Backbone
from skipdit.core.policy import Leaf, Policy
from skipdit.core.report import Report
from skipdit.core.run import Run
from skipdit.core.what import Estimate
from skipdit.core.where import Parts
from skipdit.diffusion import SAMPLERS, path_of
from skipdit.sample import sample, shape_of

GUIDANCE = 2.0  # of the picture that a gate is measured on, where the model knows guidance
LARGE = 50_000_000  # parameters: with fewer, a pass takes less time than working out its shapes does


@dataclass(frozen=True)
class Rehearsal:
    """What a policy did in one run.

    policy      as it is spelled
    stand_in    for what isn't computed: "held", "residual", "forecast", or the name of what isn't an Estimate
    pictures    that a gate was measured on; 0 for a schedule, which looks at none
    times       of the sampler, from noise to image
    rows        (block, part), first block first; the part is "" where blocks are spared as a whole
    computed    row by row, step by step: whether it was computed
    report      the run's figures, for one image in one branch of guidance
    """

    policy: str
    stand_in: str
    pictures: int
    times: tuple[float, ...]
    rows: tuple[tuple[int, str], ...]
    computed: tuple[tuple[bool, ...], ...]
    report: Report

    @property
    def plan(self) -> list[float]:
        """The share that is computed at each step, of the rows that are ever stood in for."""
        spared = [row for row in self.computed if not all(row)]
        return [sum(column) / len(spared) for column in zip(*spared, strict=True)] or [1.0] * len(self.times)

    @property
    def share(self) -> float:
        """The mean of the plan."""
        return sum(self.plan) / len(self.plan)

    def as_dict(self) -> dict[str, Any]:
        bits = ["".join("01"[done] for done in row) for row in self.computed]
        figures = {"plan": self.plan, "share": self.share, "rows": self.rows, "computed": bits}
        made = {"policy": self.policy, "stand_in": self.stand_in, "pictures": self.pictures}
        return {**made, **figures, "report": self.report.as_dict()}


def rehearse(model: Any, policy: Policy, steps: int, sampler: str | None = None) -> Rehearsal:
    """Run a policy once. A schedule looks at nothing, so it is given zeros, or shapes alone where the model is large.
    A gate decides by what it sees, so one picture is drawn: the first class in the first style, seed 0.

    Raises ValueError or TypeError, as attaching and running do, where the policy doesn't fit the model or the steps.
    """
    run = (_drawn if policy.when.gate else _walked)(model, policy, steps, sampler)
    rows = _rows(model, run)
    return Rehearsal(
        policy=str(policy),
        stand_in=stand_in(policy.what),
        pictures=int(policy.when.gate),
        times=tuple(step.t or 0.0 for step, _, _ in run.passes),
        rows=tuple(rows.values()),
        computed=tuple(_computed(run, path) for path in rows),
        report=_of_one_image(run.report(), 2 if policy.when.gate and _guided(model) else 1),
    )


def timesteps(model: Any, steps: int, sampler: str | None = None) -> list[float]:
    """Of a sampler of the model. Raises ValueError for one that it doesn't have."""
    prediction = model.config.prediction
    scheduler = path_of(prediction, model.config.learn_sigma).scheduler(sampler or SAMPLERS[prediction][0])
    scheduler.set_timesteps(steps)
    return [float(t) for t in scheduler.timesteps]


def one_image(model: Any) -> tuple[torch.Tensor, ...]:
    """The arguments of one pass over one image or video of zeros, on the model's device and in its dtype."""
    config, one = model.config, next(model.parameters())
    x = torch.zeros(1, *shape_of(config), device=one.device, dtype=one.dtype)
    number = torch.zeros(1, dtype=torch.long, device=one.device)
    return (x, number.float(), number, *([number] if getattr(config, "num_styles", 0) else []))


def brief(spelling: str) -> str:
    """A policy's spelling for a heading: long values left out, "adacache(codebook=..., block=3)"."""
    return re.sub(r"=[(\[{].*?[)\]}](?=, \w+=|\)$)", "=...", spelling)


def stand_in(what: Any) -> str:
    """What stands in, in a word."""
    if not isinstance(what, Estimate):
        return type(what).__name__.lower()
    if what.keep > 1:
        return "forecast"
    return "residual" if what.change else "held"


# ---- the run --------------------------------------------------------------------------------------------------------


def _walked(model: Any, policy: Policy, steps: int, sampler: str | None) -> Run:
    """A schedule's run."""
    stage, times = _stage(model), timesteps(model, steps, sampler)
    given = one_image(stage)
    with attach(stage, policy) as run, torch.no_grad():
        for index, t in enumerate(times):
            run.begin(index, t, "cond", len(times))
            stage(*given)
    return run


def _stage(model: Any) -> Any:
    """The model itself, or its shapes where it is large."""
    if sum(p.numel() for p in model.parameters()) < LARGE:
        return model
    with torch.device("meta"):
        return type(model).from_config(model.config).eval()


def _drawn(model: Any, policy: Policy, steps: int, sampler: str | None) -> Run:
    """A gate's run, while a picture is drawn."""
    style = 0 if getattr(model.config, "num_styles", 0) else None
    with attach(model, policy) as run:
        sample(model, 0, style, steps, GUIDANCE if _guided(model) else 1.0, seed=0, sampler=sampler)
    return run


def _guided(model: Any) -> bool:
    return bool(model.config.num_classes and model.config.class_dropout_prob)


# ---- what it left ---------------------------------------------------------------------------------------------------


def _rows(model: Any, run: Run) -> dict[str, tuple[int, str]]:
    """{module path: (block, part)}: blocks, or all parts of every block where the policy spares parts."""
    backbone = Backbone.of(model)
    blocks = {place.path: number for number, place in enumerate(backbone.order(model))}
    if not any(isinstance(site, Leaf) for site in run.sites):
        return {path: (number, "") for path, number in blocks.items()}
    leaves = [leaf for leaf in Parts(tuple(backbone.parts))(model, backbone) if isinstance(leaf, Leaf)]
    return {
        leaf.path: (number, leaf.kind)
        for path, number in blocks.items()
        for leaf in leaves
        if leaf.path.startswith(f"{path}.")
    }


def _computed(run: Run, path: str) -> tuple[bool, ...]:
    """Step by step, whether a module was computed: no site that holds it was stood in for."""
    sites = {site for site, paths in run.sites.items() if any(f"{path}.".startswith(f"{each}.") for each in paths)}
    spared = {event.step for event in run.trace if event.site in sites and not event.computed}
    return tuple(step.index not in spared for step, _, _ in run.passes)


def _of_one_image(report: Report, batch: int) -> Report:
    shares = {name: getattr(report, name) // batch for name in ("flops", "spared_flops", "bytes_held")}
    return replace(report, **shares)

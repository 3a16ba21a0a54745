"""A plan: which steps of one sampler are computed on one model, and what stands in at the others. A value, and JSON."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from skipdit.aside import written_aside
from skipdit.catalog import PLAN
from skipdit.core.backbone import Backbone
from skipdit.core.policy import Memory, Moment, Policy, Site, Step
from skipdit.core.what import Estimate, adams_bashforth, last, polynomial, taylor
from skipdit.core.where import Inner, Parts
from skipdit.plan.curves import kind_of
from skipdit.plan.fingerprint import fingerprint, same
from skipdit.plan.fitted import Fitted

FORM = 1  # of the file
RULES = {rule.__name__: rule for rule in (last, polynomial, taylor, adams_bashforth)}
SHIPPED = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class Plan:
    """What was found for one model, sampler and number of steps.

    model          its name, and `fingerprint`, by which another is refused
    timesteps      of the sampler, from noise to image
    where          Inner or Parts
    computed       the computed steps of each kind of site: {"span": (0, 1, 3, ...)} or {"attn": ..., "mlp": ...}
    what           an Estimate
    evidence       how it was found and what it gave; plans are equal without it

    Raises ValueError by name for steps outside the run and for a first step that is not computed.
    """

    model: str
    fingerprint: str
    sampler: str
    timesteps: tuple[float, ...]
    guidance: float
    where: Inner | Parts
    computed: Mapping[str, tuple[int, ...]]
    what: Estimate
    evidence: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for kind, steps in self.computed.items():
            object.__setattr__(self, "computed", {**self.computed, kind: tuple(sorted(set(steps)))})
            if not steps or min(steps) != 0 or max(steps) >= self.steps:
                raise ValueError(f"plan for {self.model}: {kind} steps must begin with 0 and lie below {self.steps}")

    @property
    def steps(self) -> int:
        return len(self.timesteps)

    def policy(self, spelling: str = "") -> Policy:
        """The plan as a policy; it refuses another model, sampler or number of steps by name when it is used."""
        when = Planned(self.model, self.sampler, self.timesteps, tuple(self.computed.items()))
        return Policy(Bound(self.where, self.model, self.fingerprint), when, self.what, spelling or f"plan({self})")

    def rescaled(self, steps: int, timesteps: tuple[float, ...]) -> "Plan":
        """The same shares of another run, evidence dropped: a guess, not a tuned plan.

        Raises ValueError where the weights were fitted step by step: those can't be carried over.
        """
        if isinstance(self.what.rule, Fitted):
            raise ValueError(
                f"plan for {self.model}: its weights were fitted to each of {self.steps} steps and can't be rescaled "
                f"to {steps}: tune anew with --steps {steps}"
            )
        if len(timesteps) != steps:
            raise ValueError(f"plan for {self.model}: {len(timesteps)} timesteps for {steps} steps")
        moved = {k: tuple(sorted({i * steps // self.steps for i in at})) for k, at in self.computed.items()}
        return replace(self, timesteps=timesteps, computed=moved, evidence={"rescaled_from": self.steps})

    def __str__(self) -> str:
        counts = ", ".join(f"{len(steps)} of {self.steps} {kind}" for kind, steps in self.computed.items())
        return f"{self.model}, {self.sampler}, {counts}, {self.what!r}"

    # ---- the file

    def as_dict(self) -> dict[str, Any]:
        where = self.where
        return {
            "form": FORM,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "sampler": self.sampler,
            "timesteps": list(self.timesteps),
            "guidance": self.guidance,
            "where": {"inner": [where.head, where.tail]} if isinstance(where, Inner) else {"parts": list(where.names)},
            "computed": {kind: list(steps) for kind, steps in self.computed.items()},
            "what": _said(self.what),
            "evidence": dict(self.evidence),
        }

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> "Plan":
        """Raises ValueError, by name, for what is missing or unknown."""
        if not isinstance(said, Mapping):
            raise ValueError(f"a plan is a JSON object, and this is a {type(said).__name__}")
        if said.get("form") != FORM:
            raise ValueError(f"a plan of form {said.get('form')!r}: this version reads form {FORM}")
        try:
            where = said["where"]
            return cls(
                model=said["model"],
                fingerprint=said["fingerprint"],
                sampler=said["sampler"],
                timesteps=tuple(said["timesteps"]),
                guidance=said["guidance"],
                where=Inner(*where["inner"]) if "inner" in where else Parts(tuple(where["parts"])),
                computed={kind: tuple(steps) for kind, steps in said["computed"].items()},
                what=_heard(said["what"]),
                evidence=said.get("evidence", {}),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"a plan lacks or garbles {error}") from error

    def save(self, path: Path) -> None:
        with written_aside(path) as aside:
            aside.write_text(json.dumps(self.as_dict(), ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> "Plan":
        """A plan from its file; "emoji-skip/plan-2x.json" also names a shipped one. Raises ValueError, OSError."""
        path = located(path)
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path} is no plan: {error}") from error


def located(name: Path | str) -> Path:
    """The file of that name, or else the shipped one, where there is one."""
    path = Path(name)
    return SHIPPED / path if not os.path.exists(path) and os.path.exists(SHIPPED / path) else path


def files_print(policy: str) -> str:
    """A hash of the plan or the weights that a policy's spelling names, "" for none: what lies there may change."""
    plan = PLAN.fullmatch(policy)
    named = [plan[1]] if plan else re.findall(r"['\"]([^'\"]+)['\"]", policy)
    held = [path.read_bytes() for path in map(located, named) if os.path.isfile(path)]  # Path's raises for long names
    return hashlib.sha256(b"".join(held)).hexdigest()[:16] if held else ""


def spelled(spelling: str) -> Policy:
    """The policy of "plan.json", or, for another number of steps, of "plan.json@25". Raises ValueError, OSError."""
    path, steps = PLAN.fullmatch(spelling).groups()  # type: ignore[union-attr]
    plan = Plan.load(path)
    if steps is None:
        return plan.policy(spelling)
    if not steps.isdecimal() or not int(steps):
        raise ValueError(f"policy {spelling!r}: after @ stands the number of steps to rescale the plan to")
    return plan.rescaled(int(steps), times_like(plan.timesteps, int(steps))).policy(spelling)


def times_like(timesteps: tuple[float, ...], steps: int) -> tuple[float, ...]:
    """The timesteps of the same sampler for another number of steps, where they are evenly spaced from the last one.

    Raises ValueError where they are not.
    """
    first, final = timesteps[0], timesteps[-1]
    gap = (first - final) / max(1, len(timesteps) - 1)
    if any(abs(first - i * gap - t) > 1 for i, t in enumerate(timesteps)):
        raise ValueError("this plan's timesteps are unevenly spaced: use Plan.rescaled(steps, timesteps)")
    span = first - final + gap  # from pure noise to none
    return tuple(first - i * span / steps for i in range(steps))


# ---- what refuses ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bound:
    """A where that belongs to one model."""

    where: Inner | Parts
    model: str
    fingerprint: str

    def __call__(self, model: nn.Module, backbone: Backbone) -> list[Site]:
        found = fingerprint(model)
        if not same(found, self.fingerprint):
            raise ValueError(
                f"plan for {self.model} ({self.fingerprint}): this {type(model).__name__} is another model ({found}): "
                "tune one for it with skipdit tune"
            )
        return self.where(model, backbone)


@dataclass(frozen=True)
class Planned:
    """A schedule that belongs to one sampler and number of steps."""

    model: str
    sampler: str
    timesteps: tuple[float, ...]
    computed: tuple[tuple[str, tuple[int, ...]], ...]
    gate: ClassVar[bool] = False

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        self._check(step)
        at = dict(self.computed)
        kind = kind_of(site)
        return step.index in at[kind] if kind in at else True

    def refuse(self, sampler: str, steps: int) -> None:
        """Raises ValueError for another sampler or number of steps: asked by a loop that knows them, before it runs."""
        if sampler != self.sampler:
            raise ValueError(
                f"plan for {self.model} with {self.sampler}: it can't be used with {sampler}; "
                f"sample with {self.sampler}, or tune one with --sampler {sampler}"
            )
        self._check(Step(0, steps))

    def _check(self, step: Step) -> None:
        steps = len(self.timesteps)
        if step.index >= steps or (step.total is not None and step.total != steps):
            raise ValueError(
                f"plan for {self.model} with {steps} steps: this run has {step.total or 'more'}; "
                f"sample with steps={steps}, tune anew, or rescale it by plan.json@STEPS"
            )
        if step.t is not None and abs(step.t - self.timesteps[step.index]) > 1:
            raise ValueError(
                f"plan for {self.model} with {self.sampler}: step {step.index} is at t = "
                f"{self.timesteps[step.index]:g} there and at {step.t:g} here: another sampler or number of steps"
            )


def _said(what: Estimate) -> dict[str, Any]:
    rule: Any = what.rule
    if isinstance(rule, Fitted):
        return {
            "rule": "fitted",
            "keep": what.keep,
            "change": what.change,
            "weights": {str(t): list(row) for t, row in rule.weights},
        }
    name = rule.func.__name__ if isinstance(rule, partial) else rule.__name__
    if RULES.get(name) is not rule:
        raise ValueError(f"a plan can't say {what!r}: its rule must be one of {', '.join(RULES)}, or fitted")
    return {"rule": name, "keep": what.keep, "change": what.change}


def _heard(said: Mapping[str, Any]) -> Estimate:
    if said["rule"] == "fitted":
        rule: Any = Fitted.of({int(t): row for t, row in said["weights"].items()})
    elif said["rule"] in RULES:
        rule = RULES[said["rule"]]
    else:
        raise ValueError(f"unknown rule {said['rule']!r}: choose {', '.join(RULES)} or fitted")
    return Estimate(rule, keep=said["keep"], change=said["change"])

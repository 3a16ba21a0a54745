"""Tune a plan: watch one run, choose what stands in, search the steps on the final picture, check on held-out ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from skipdit.plan.book import Book
from skipdit.plan.evidence import checked, summary
from skipdit.plan.fingerprint import fingerprint
from skipdit.plan.gram import curve
from skipdit.plan.plan import Plan
from skipdit.plan.shapes import Goal
from skipdit.plan.study import Study
from skipdit.plan.tuning import Tell, Tuning


def tune(
    model: Any,
    name: str,
    goal: Goal,
    out: Path | None = None,
    steps: int = 50,
    guidance: float = 2.0,
    sampler: str | None = None,
    seed: int = 0,
    pictures: int = 8,
    held_out: int = 32,
    tries: int = 150,
    minutes: float = 10.0,
    rounds: int = 3,
    tell: Tell | None = None,
) -> Plan:
    """The plan found within `tries` schedules and `minutes`, whichever is spent first; the check at the end included.

    out          where the plan goes; all that was tried lies beside it, in out.tried.jsonl: the same call goes on there
    pictures     to calibrate on, and `held_out` others to check with: other labels, other seeds
    rounds       each timing is repeated

    Raises ValueError for goals that can't be met and for a file that belongs to another search.
    """
    ours, others = Study.of(model, steps, guidance, sampler, seed, pictures, held_out)
    about = {
        "model": fingerprint(model),
        **{k: getattr(ours, k) for k in ("sampler", "steps", "guidance", "labels", "styles", "seed")},
    }
    book = Book(out and out.with_suffix(".tried.jsonl"), about)
    tuning = Tuning(ours, goal, book, tries, 60 * minutes * (0.6 if held_out >= pictures else 0.75), rounds, tell)
    shape, mask = tuning.found()
    tuning.say("checking on held-out labels and seeds")
    policy = shape.policy(tuning.grams[shape.where], mask)
    evidence = {
        "goal": {k: v for k, v in vars(goal).items() if v is not None},
        "seed": seed,
        "shape": str(shape),
        "share_of_a_step_stood_in_for": tuning.shares[shape.where],
        "predicted_speedup": tuning.predicted(shape.where, len(mask)),
        "calibration_psnr": summary(tuning.tried(shape, mask, pictures)["psnr"]),
        **checked(others, policy, rounds, tuning.say),
        "tried": tuning.pareto(),
        "curves": {str(gap): curve(tuning.grams[shape.where], gap) for gap in (1, 2, 3)},
        "masks_tried": len(book.tried),
        "seconds": book.seconds,
    }
    plan = Plan(
        model=name,
        fingerprint=about["model"],
        sampler=ours.sampler,
        timesteps=ours.timesteps,
        guidance=guidance,
        where=shape.where,
        computed={"span": mask},
        what=shape.estimate(tuning.grams[shape.where], mask),
        evidence=evidence,
    )
    if out:
        plan.save(out)
    return plan


def check(model: Any, plan: Plan, held_out: int = 32, rounds: int = 3, tell: Tell | None = None) -> Plan:
    """The plan with its evidence measured anew, here, on the held-out labels and seeds of its search.

    Raises ValueError for a plan of another model.
    """
    others = Study.of(model, plan.steps, plan.guidance, plan.sampler, plan.evidence.get("seed", 0), 2, held_out)[1]
    say = (lambda text: tell(0, 1, text)) if tell else None
    return replace(plan, evidence={**plan.evidence, **checked(others, plan.policy(), rounds, say)})

"""Turns: one candidate on one batch. Called, a turn draws; what that left is then asked for."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from skipdit.bench.candidates import Candidate
from skipdit.bench.peers_here import ideal, made_ready, plan_of
from skipdit.bench.quality import judged
from skipdit.core.policy import Policy
from skipdit.core.run import Run
from skipdit.plan.study import Study


class Turn:
    """Of the model itself: uncached, with a policy, with passes, in fewer steps."""

    def __init__(self, study: Study, candidate: Candidate, policy: Policy | None = None):
        self.study, self.candidate, self.policy = study, candidate, policy
        self.images: Tensor = torch.empty(0)

    def __call__(self) -> None:
        try:
            self.images = self.study.draw(self.policy, self.candidate.steps, self.candidate.passes or None)
        except ValueError as error:  # a fitted plan with passes that leave out a branch, say
            raise ValueError(f"bench: {self.candidate}: {error}") from error

    def figures(self, full: "Turn", names: Sequence[str]) -> dict[str, Any]:
        """What was spared (the ideal speed-up over the uncached turn, bytes held, plan), how near the pictures are."""
        tally, run = self.study.tally, self.study.run
        report = run.report() if run else None
        ideal: float | None = full.candidate.steps / tally.steps * tally.passes_in_full / tally.passes
        if report is not None:
            ideal = ideal * report.ideal_speedup if ideal and report.ideal_speedup else None
        return {
            "ideal_speedup": ideal,
            "bytes_held": report.bytes_held if report else 0,
            "plan": _plan(run) if run else [],
            **judged(names, self.images, full.images),
        }


class PlainTurn(Turn):
    """Of the twin without branches, whose pictures are its own."""

    def __init__(self, study: Study, candidate: Candidate, ideal_speedup: float):
        super().__init__(study, candidate)
        self.ideal_speedup = ideal_speedup  # over the model with branches

    def figures(self, full: Turn, names: Sequence[str]) -> dict[str, Any]:
        return {"ideal_speedup": self.ideal_speedup, "bytes_held": 0, "plan": []}


class PeerTurn(Turn):
    """Of a copy that caches as a peer does, from now until `exits` close: its users put it on once, too.

    counted    whether FLOPs are counted, in a draw of its own
    """

    def __init__(self, study: Study, candidate: Candidate, exits: ExitStack, counted: bool):
        copy = exits.enter_context(made_ready(study.model, candidate.policy, plan_of(candidate.steps)))
        super().__init__(study.on(copy), candidate)
        self.uncached, self.counted = study, counted

    def figures(self, full: Turn, names: Sequence[str]) -> dict[str, Any]:
        spared = ideal(self.uncached, self.candidate.policy, self.candidate.steps) if self.counted else None
        return {"ideal_speedup": spared, "bytes_held": None, "plan": [], **judged(names, self.images, full.images)}


def _plan(run: Run) -> list[float]:
    """The share of the policy's sites that is computed, step by step."""
    verdicts: dict[int, list[bool]] = {}
    for event in run.trace:
        verdicts.setdefault(event.step, []).append(event.computed)
    return [round(sum(each) / len(each), 4) for _, each in sorted(verdicts.items())]

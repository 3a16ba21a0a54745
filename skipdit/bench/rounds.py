"""Rounds: in each, every candidate draws the same batch in turn. All is written down, so that a bench goes on."""

import base64
import io
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skipdit.bench.candidates import PEER, PLAIN, UNCACHED, Candidate, Setting
from skipdit.bench.peers_here import ideal, made_ready, plan_of
from skipdit.bench.quality import judged
from skipdit.catalog import parse
from skipdit.core.flops import count_flops
from skipdit.core.run import Run
from skipdit.metrics.latency import interleaved
from skipdit.pictures import grid
from skipdit.plan.fingerprint import fingerprint
from skipdit.plan.study import Study
from skipdit.rehearse.rehearsal import one_image
from skipdit.results import Provenance, Record, append, resumed

SHOWN = 8  # pictures that a record keeps
Tell = Callable[[str, int], None]  # what was drawn or is known, and by how many draws that brings the end nearer


class Turn:
    """One candidate on one batch. Called, it draws; what that left is then asked for."""

    def __init__(self, study: Study, candidate: Candidate):
        self.study, self.candidate = study, candidate
        self.policy = parse(candidate.policy) if candidate.policy and candidate.kind != PEER else None
        self.images: Tensor = torch.empty(0)

    def __call__(self) -> None:
        try:
            self.images = self.study.draw(self.policy, self.candidate.steps, self.candidate.passes or None)
        except ValueError as error:  # a fitted plan with passes that leave out a branch, say
            raise ValueError(f"bench: {self.candidate}: {error}") from error

    def figures(self, full_steps: int) -> dict[str, Any]:
        """What was spared: the ideal speed-up over the uncached run of the same model, bytes held, the plan."""
        tally, run = self.study.tally, self.study.run
        report = run.report() if run else None
        ideal: float | None = full_steps / tally.steps * tally.passes_in_full / tally.passes
        if report is not None:
            ideal = ideal * report.ideal_speedup if ideal and report.ideal_speedup else None
        return {
            "ideal_speedup": ideal,
            "bytes_held": report.bytes_held if report else 0,
            "plan": _plan(run) if run else [],
        }


class Rounds:
    """All rounds of one model, in a .jsonl file: a record a candidate and batch."""

    def __init__(self, path: Path, model: Any, plain: Any, names: Sequence[str]):
        self.path, self.model, self.plain, self.names = path, model, plain, tuple(names)
        self.model_print = fingerprint(model)
        self.plain_print = fingerprint(plain) if plain is not None else ""
        self.known = {_key(record): record for record in resumed(path)}
        self.warm = False
        self.over_plain = _flops(model) / _flops(plain) if plain is not None else None

    def draw(self, setting: Setting, candidates: Sequence[Candidate], tell: Tell) -> dict[Candidate, list[Record]]:
        """The records of each candidate, batch by batch; what isn't known yet is drawn, the uncached run always with
        it: a speed-up compares neighbours in time."""
        found: dict[Candidate, list[Record]] = {candidate: [] for candidate in candidates}
        for number, study in enumerate(setting.batches(self.model)):
            keys = {c: self._line(setting, c, number, len(study.labels), {}) for c in candidates}
            todo = [c for c, line in keys.items() if _key(line) not in self.known]
            if todo:
                self._round(setting, todo, number, study, tell)
            for candidate, line in keys.items():
                found[candidate].append(self.known[_key(line)])
                if candidate not in todo:
                    tell(str(candidate), 1)
        return found

    def _round(self, setting: Setting, todo: Sequence[Candidate], number: int, study: Study, tell: Tell) -> None:
        """Draw one batch with the uncached model and with each candidate in turn, and write it down in one piece."""
        full = Candidate(UNCACHED, setting.steps)
        with ExitStack() as exits:  # peers are put on before time is taken: their users do so once
            turns = {c: Turn(self._study(study, c, exits), c) for c in dict.fromkeys([full, *todo])}
            self._warm_up(study, turns)
            calls = {str(c): _told(turn, tell, int(c in todo)) for c, turn in turns.items()}
            times = [latency.seconds[0] for latency in interleaved(calls, repeats=1, warmup=0).values()]
        lines = []
        for (candidate, turn), seconds in zip(turns.items(), times, strict=True):
            if candidate in todo:
                figures = {"seconds": seconds, "speedup": times[0] / seconds, **turn.figures(setting.steps)}
                if candidate.kind == PEER:  # FLOPs are counted in a draw of its own, of the first batch alone
                    spared = ideal(study, candidate.policy, candidate.steps) if number == 0 else None
                    figures |= {"ideal_speedup": spared, "bytes_held": None}
                if candidate.kind == PLAIN:
                    figures["ideal_speedup"] = self.over_plain
                else:
                    figures |= judged(self.names, turn.images, turns[full].images)
                figures["strip"] = strip(turn.images) if number == 0 else ""
                lines.append(self._line(setting, candidate, number, len(study.labels), figures))
        append(self.path, lines)
        self.known |= {_key(line): line for line in lines}

    def _study(self, study: Study, candidate: Candidate, exits: ExitStack) -> Study:
        model = self.plain if candidate.kind == PLAIN else self.model
        if candidate.kind == PEER:
            model = exits.enter_context(made_ready(model, candidate.policy, plan_of(candidate.steps)))
        return Study(model, study.labels, study.styles, study.steps, study.guidance, study.sampler, study.seed)

    def _warm_up(self, study: Study, candidates: Iterable[Candidate]) -> None:
        """The first draws of a process are slow: two steps of each model, uncounted."""
        for kind in {c.kind for c in candidates} & {UNCACHED, PLAIN} if not self.warm else ():
            self._study(study, Candidate(kind, 2), ExitStack()).draw(steps=2)
        self.warm = True

    def _line(self, setting: Setting, candidate: Candidate, number: int, rows: int, figures: dict[str, Any]) -> Record:
        own = self.plain_print if candidate.kind == PLAIN else ""
        key = {**setting.as_dict(), **asdict(candidate), "of_steps": setting.steps, "number": number, "rows": rows}
        key |= {"model": self.model_print, "plain": own, "figures": list(self.names)}
        dtype, device = str(self.model.dtype).removeprefix("torch."), str(self.model.device)
        where = Provenance.here(dtype, setting.batch, candidate.steps, setting.seed, device)
        return Record("round", candidate.policy, {"key": key, **figures}, where)


def strip(images: Tensor) -> str:
    """The first pictures, or middle frames of clips, side by side, a PNG as base64; "" for latents."""
    if images.ndim == 5:  # (N, F, C, H, W)
        images = images[:, images.shape[1] // 2]
    if images.shape[1] not in (1, 3):
        return ""
    page, file = grid(images[:SHOWN].cpu(), SHOWN, gap=0), io.BytesIO()
    page.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _told(turn: Turn, tell: Tell, counts: int) -> Callable[[], None]:
    def call() -> None:
        turn()
        tell(str(turn.candidate), counts)

    return call


def _key(record: Record) -> str:
    """What decides a round, and where it was timed: equal keys are the same measurement."""
    where = record.provenance
    timed = [where.machine, where.torch, where.threads, where.dtype]
    return json.dumps([record.figures.get("key"), timed], sort_keys=True)


def _plan(run: Run) -> list[float]:
    """The share of the policy's sites that is computed, step by step."""
    verdicts: dict[int, list[bool]] = {}
    for event in run.trace:
        verdicts.setdefault(event.step, []).append(event.computed)
    return [round(sum(each) / len(each), 4) for _, each in sorted(verdicts.items())]


def _flops(model: Any) -> int:
    """Of one pass over one picture."""
    return count_flops(model, (one_image(model), {}))[""]

"""Rounds: in each, every candidate draws the same batch in turn. All is written down, so that a bench goes on."""

import base64
import io
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from skipdit.bench.candidates import PEER, PLAIN, UNCACHED, Candidate, Setting
from skipdit.bench.peers_here import version
from skipdit.bench.turns import PeerTurn, PlainTurn, Turn
from skipdit.catalog import parse
from skipdit.core.flops import count_flops
from skipdit.metrics.latency import interleaved
from skipdit.pictures import grid
from skipdit.plan.fingerprint import fingerprint
from skipdit.plan.plan import files_print
from skipdit.plan.study import Study
from skipdit.rehearse.rehearsal import one_image
from skipdit.results import Provenance, Record, append, resumed

SHOWN = 8  # pictures that a record keeps
Tell = Callable[[str, int], None]  # what was drawn or is known, and by how many draws that brings the end nearer


class Rounds:
    """All rounds of one model, in a .jsonl file: a record a candidate and batch."""

    def __init__(self, path: Path, model: Any, plain: Any, names: Sequence[str]):
        self.path, self.model, self.plain, self.names = path, model, plain, tuple(names)
        self.model_print = fingerprint(model)
        self.plain_print = fingerprint(plain) if plain is not None else ""
        self.known = {_key(record): record for record in resumed(path)}
        self.warm = False
        self.over_plain = _flops(model) / _flops(plain) if plain is not None else 1.0

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
        with ExitStack() as exits:
            turns = {c: self._turn(study, c, number, exits) for c in dict.fromkeys([full, *todo])}
            self._warm_up(turns.values())
            calls = {str(c): _told(turn, tell, int(c in todo)) for c, turn in turns.items()}
            times = [latency.seconds[0] for latency in interleaved(calls, repeats=1, warmup=0).values()]
        lines = []
        for (candidate, turn), seconds in zip(turns.items(), times, strict=True):
            if candidate in todo:
                figures = {"seconds": seconds, "speedup": times[0] / seconds, **turn.figures(turns[full], self.names)}
                figures["strip"] = strip(turn.images) if number == 0 else ""
                lines.append(self._line(setting, candidate, number, len(study.labels), figures))
        append(self.path, lines)
        self.known |= {_key(line): line for line in lines}

    def _turn(self, study: Study, candidate: Candidate, number: int, exits: ExitStack) -> Turn:
        if candidate.kind == PLAIN:
            return PlainTurn(study.on(self.plain), candidate, self.over_plain)
        if candidate.kind == PEER:
            return PeerTurn(study, candidate, exits, counted=number == 0)
        return Turn(study.on(self.model), candidate, parse(candidate.policy) if candidate.policy else None)

    def _warm_up(self, turns: Iterable[Turn]) -> None:
        """The first draws of a process are slow: two steps of each model, uncounted."""
        for turn in turns if not self.warm else ():
            if turn.candidate.kind in (UNCACHED, PLAIN):
                turn.study.draw(steps=2)
        self.warm = True

    def _line(self, setting: Setting, candidate: Candidate, number: int, rows: int, figures: dict[str, Any]) -> Record:
        own = self.plain_print if candidate.kind == PLAIN else ""
        key = {**setting.as_dict(), **asdict(candidate), "of_steps": setting.steps, "number": number, "rows": rows}
        key |= {"model": self.model_print, "plain": own, "figures": list(self.names)}
        if candidate.kind == PEER:
            key["version"] = version(candidate.policy)
        elif files := files_print(candidate.policy):
            key["files"] = files
        device = str(self.model.device)
        where = Provenance.here(self.model.dtype, setting.batch, candidate.steps, setting.seed, device)
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


def _flops(model: Any) -> int:
    """Of one pass over one picture."""
    return count_flops(model, (one_image(model), {}))[""]

"""Model x policy x sampler x steps -> records: speed and nearness, and always the same time spent on fewer steps."""

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from statistics import fmean, median
from typing import Any

from skipdit.bench.candidates import FEWER, PEER, PLAIN, UNCACHED, Candidate, Setting, of_grid
from skipdit.bench.quality import judges
from skipdit.bench.rounds import Rounds
from skipdit.catalog import parse
from skipdit.core.attach import attach
from skipdit.diffusion import path_of
from skipdit.metrics.latency import Latency
from skipdit.plan.evidence import summary
from skipdit.results import Record, resumed, write

Tell = Callable[[int, int, str], None]  # (draws done, draws in all, what was drawn)
Found = dict[Candidate, list[Record]]  # each candidate's rounds


def compare(
    name: str,
    model: Any,
    settings: Sequence[Setting],
    policies: Sequence[str],
    out: Path,
    passes: Sequence[str] = (),
    plain: tuple[str, Any] | None = None,
    tell: Tell = lambda done, total, what: None,
    peers: Sequence[str] = (),
) -> list[Record]:
    """Draw the same pairs with every candidate of every setting; the records, which are also written to `out`.

    policies, passes    as they are spelled: each alone, and each policy with each of the passes
    plain               (name, model) to compare the time with, too
    peers               names of peers_here.PEERS that fit the model

    What is drawn is kept beside `out`, in out.rounds.jsonl: the same call goes on where it stopped, and more pairs or
    policies cost only what is new. Other records in `out` stay.

    Raises ValueError, by name, for what doesn't fit the model, the sampler or the plain model.
    """
    grid = [
        (setting, of_grid(setting.steps, policies, passes) + [Candidate(PEER, setting.steps, peer) for peer in peers])
        for setting in settings
    ]
    _check(name, model, settings, policies, plain)
    rounds = Rounds(out.with_suffix(".rounds.jsonl"), model, plain and plain[1], judges(model))
    count = _Counted(grid, plain is not None, tell)
    records: list[Record] = []
    for setting, cached in grid:
        alone = [Candidate(UNCACHED, setting.steps), *([Candidate(PLAIN, setting.steps)] if plain else [])]
        found = rounds.draw(setting, [*alone, *cached], count)
        rivals = {c: Candidate(FEWER, fewer(setting.steps, _speedup(found[c]))) for c in cached}
        wanted = dict.fromkeys(r for r in rivals.values() if r.steps < setting.steps)
        count.settle(len(rivals) - len(wanted), setting)
        found |= rounds.draw(setting, list(wanted), count)
        made = [_record(name, plain and plain[0], setting, c, found, rivals.get(c)) for c in found]
        write(out, [*(old for old in resumed(out) if _same(old) not in map(_same, made)), *made])
        records += made
    return records


def fewer(steps: int, speedup: float) -> int:
    """Steps that the uncached model draws in the same time: in doubt one more, for the rival."""
    return max(1, min(steps, ceil(steps / speedup - 1e-9)))


# ---- before ---------------------------------------------------------------------------------------------------------


def _check(name: str, model: Any, settings: Sequence[Setting], policies: Sequence[str], plain: Any) -> None:
    """Refuse now what would be refused after an hour."""
    if plain is not None and plain[1].config.num_classes != model.config.num_classes:
        counts = f"{plain[1].config.num_classes} classes, and {name} {model.config.num_classes}"
        raise ValueError(f"bench: {plain[0]} knows {counts}: a plain twin draws the same pairs")
    for setting in settings:
        if setting.pairs < 1 or setting.batch < 1:
            raise ValueError(f"bench: pairs={setting.pairs} and batch={setting.batch} must be at least 1")
        path_of(model.config.prediction, model.config.learn_sigma).scheduler(setting.sampler)  # or refused
        for policy in map(parse, policies):
            if hasattr(policy.when, "refuse"):  # a plan belongs to one sampler and number of steps
                policy.when.refuse(setting.sampler, setting.steps)
            with attach(model, policy):
                pass


class _Counted:
    """Counts draws for the bar: as many rivals with fewer steps are expected as there are candidates."""

    def __init__(self, grid: Sequence[tuple[Setting, list[Candidate]]], plain: bool, tell: Tell):
        self.done, self.tell = 0, tell
        self.total = sum(_batches(setting) * (1 + plain + 2 * len(cached)) for setting, cached in grid)

    def __call__(self, what: str, count: int) -> None:
        self.done += count
        self.tell(self.done, self.total, what)

    def settle(self, less: int, setting: Setting) -> None:
        """So many of the rivals aren't needed: two candidates are as fast, or one is no faster than uncached."""
        self.total -= less * _batches(setting)
        self("fewer steps", 0)


def _batches(setting: Setting) -> int:
    return -(-setting.pairs // setting.batch)


# ---- after ----------------------------------------------------------------------------------------------------------


def _record(
    name: str, plain: str | None, setting: Setting, candidate: Candidate, found: Found, rival: Candidate | None
) -> Record:
    """All rounds of a candidate in one record."""
    lines = found[candidate]
    ratios, seconds = _values(lines, "speedup"), Latency(_values(lines, "seconds"))
    ideals, held = _known(lines, "ideal_speedup"), _known(lines, "bytes_held")  # peers': one count, and nothing
    ideal = fmean(ideals) if ideals else None
    twin = found.get(Candidate(PLAIN, setting.steps))
    figures = {
        "kind": candidate.kind,
        "passes": candidate.passes,
        "sampler": setting.sampler,
        "steps": candidate.steps,
        "of_steps": setting.steps,
        "guidance": setting.guidance,
        "pairs": setting.pairs,
        "seconds": seconds.median,  # of a batch
        "spread": seconds.spread,
        "speedup": median(ratios),
        "speedup_quartiles": [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]],
        "ideal_speedup": ideal,
        "of_ideal": median(ratios) / ideal if ideal else None,
        "plain": plain,
        "over_plain": median(ratios) / _speedup(twin) if twin else None,
        "ideal_over_plain": ideal / twin[0].figures["ideal_speedup"] if twin and ideal else None,
        **{judge: summary(values) if values else None for judge, values in _judged(lines).items()},
        "bytes_held": max(held, default=None),
        "plan": lines[0].figures["plan"],
        "fewer_steps": _against(lines, found, rival) if rival else None,
        "strip": lines[0].figures["strip"],
    }
    return Record(f"bench {name}", candidate.policy, figures, lines[-1].provenance)


def _against(lines: list[Record], found: Found, rival: Candidate) -> dict[str, Any]:
    """The same time spent on fewer steps, pair by pair; no faster than uncached: there is nothing to spend."""
    if rival not in found:
        return {"steps": rival.steps, "speedup": 1.0, "psnr": None, "ahead": None}
    ours, theirs = (_judged(each)["psnr"] for each in (lines, found[rival]))
    ahead = summary([a - b for a, b in zip(ours, theirs, strict=True)])
    return {"steps": rival.steps, "speedup": _speedup(found[rival]), "psnr": summary(theirs), "ahead": ahead}


def _judged(lines: list[Record]) -> dict[str, list[float]]:
    """{figure: a value a pair}, of all rounds; none of a plain model, whose pictures are its own."""
    names = ("psnr", "ssim", "lpips")
    return {name: [value for line in lines for value in line.figures.get(name, ())] for name in names}


def _values(lines: list[Record], figure: str) -> list[float]:
    return sorted(line.figures[figure] for line in lines)


def _known(lines: list[Record], figure: str) -> list[float]:
    return [line.figures[figure] for line in lines if line.figures[figure] is not None]


def _speedup(lines: list[Record]) -> float:
    return median(_values(lines, "speedup"))


def _same(record: Record) -> tuple[Any, ...]:
    """What a record is the latest measurement of."""
    where, keys = record.provenance, ("kind", "passes", "sampler", "steps", "of_steps", "guidance")
    told = [record.figures.get(key) for key in keys]
    return record.name, record.policy, *told, where.seed, where.batch, where.machine, where.threads, where.dtype

"""The demo: the same seeds from a plain DiT, a Skip-DiT and Skip-Cache, timed together, compared and drawn."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skipdit import pictures
from skipdit.aside import written_aside
from skipdit.backbones.dit import DiT
from skipdit.core.attach import attach
from skipdit.core.policy import Policy
from skipdit.core.run import Run
from skipdit.methods.skip_cache import skip_cache
from skipdit.metrics.latency import Latency, interleaved, ratio
from skipdit.metrics.psnr import psnr
from skipdit.results import Provenance, Record
from skipdit.sample import sample

PLAIN, SKIP = "emoji-plain", "emoji-skip"  # the shipped twins: the same size, data and training
LABELS = ("red apple", "rocket", "sunflower", "penguin", "tropical fish", "strawberry", "octopus", "sun with face")
STYLES = ("noto", "twemoji", "fluent3d", "noto-v1")
EVERY = (2, 3, 5)
HI = 950  # the first steps, t >= 950, are all computed: there the layout of a picture is decided

Progress = Callable[[int, int, str], None]  # (draws done, draws in all, what is drawn)


class Row:
    """One line of the table: a model, a number of steps, a policy or none, and what its last draw left."""

    def __init__(self, name: str, model: DiT, steps: int, policy: Policy | None = None, note: str = ""):
        self.name, self.model, self.steps, self.policy, self.note = name, model, steps, policy, note
        self.images: Tensor = torch.empty(0)
        self.run: Run | None = None

    def draw(self, said: Mapping[str, Any]) -> None:
        with attach(self.model, self.policy) if self.policy else nullcontext() as run:
            self.images, self.run = sample(self.model, steps=self.steps, batch_size=len(said["labels"]), **said), run


def demo(
    out: Path,
    labels: Sequence[str] = LABELS,
    styles: Sequence[str] = STYLES,
    steps: int = 50,
    guidance: float = 2.0,
    seed: int = 0,
    repeats: int = 3,
    threads: int | None = None,
    every: Sequence[int] = EVERY,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Draw, time and compare; write `out`/demo.png and `out`/demo.json, and return what the latter holds.

    labels, styles    one picture a label, all in one batch; styles take turns
    repeats           rounds that are timed; one more warms up
    threads           of torch; all processors when left out
    every             the N of Skip-Cache; each gets a twin without cache, with as many steps as fit into the same time
    """
    if steps < 1 or repeats < 1:
        raise ValueError(f"demo: steps={steps} and repeats={repeats} must be at least 1")
    said = dict(labels=list(labels), styles=list(islice(cycle(styles), len(labels))), guidance=guidance, seed=seed)
    with _threads(threads or os.cpu_count() or 1):
        plain, skip = (DiT.from_pretrained(name).eval() for name in (PLAIN, SKIP))
        full = [Row("DiT", plain, steps), Row("Skip-DiT", skip, steps)]
        cached = [Row(f"Skip-Cache, N = {n}", skip, steps, skip_cache(every=n, hi=HI)) for n in every]
        total = 3 * (1 + len(cached)) + (1 + repeats) * (2 + 2 * len(cached))
        timed = _timer(said, total, on_progress)
        tried = timed([full[1], *cached], 2)
        fewer = [_fitted(full[1], row, ratio(tried["Skip-DiT"], tried[row.name])) for row in cached]
        rows = [*full, *(row for pair in zip(cached, fewer, strict=True) for row in pair)]
        records = _records(rows, timed(rows, repeats), said)
    return _written(Path(out), rows, records, {**said, "steps": steps, "repeats": repeats})


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _timer(said: Mapping[str, Any], total: int, on_progress: Progress | None) -> Callable[..., dict[str, Latency]]:
    """(rows, repeats) -> the time of each, and a count of the draws over all calls."""
    done = 0

    def draw(row: Row) -> None:
        nonlocal done
        row.draw(said)
        done += 1
        if on_progress:
            on_progress(done, total, row.name)

    def timed(rows: Sequence[Row], repeats: int) -> dict[str, Latency]:
        return interleaved({row.name: partial(draw, row) for row in rows}, repeats, warmup=1)

    return timed


def _fitted(full: Row, cached: Row, speedup: float) -> Row:
    """The uncached model with as many steps as fit into a cached row's time."""
    steps = max(1, int(full.steps / speedup))
    n = cached.name.partition(", ")[2]
    return Row(f"Skip-DiT, {steps} steps ({n})", full.model, steps, note=f"as long as {n} takes")


def _flops(model: DiT, said: Mapping[str, Any]) -> int:
    """FLOPs of one uncached step of the whole batch, guidance included."""
    with attach(model, skip_cache(every=1)) as run:
        sample(model, steps=1, batch_size=len(said["labels"]), **said)
    return run.report().flops


# ---- what comes out -------------------------------------------------------------------------------------------------


def _records(rows: Sequence[Row], times: Mapping[str, Latency], said: Mapping[str, Any]) -> list[Record]:
    """A record a row. PSNR is to the uncached pictures of the same model, mean of those that differ at all."""
    plain, skip, *_ = rows
    step = {row.model: _flops(row.model, said) for row in (plain, skip)}
    reports = [row.run.report() if row.run else None for row in rows]
    spent = [report.flops if report else row.steps * step[row.model] for row, report in zip(rows, reports, strict=True)]
    records = []
    for row, report, flops in zip(rows, reports, spent, strict=True):
        over_skip, ideal = ratio(times[skip.name], times[row.name]), spent[1] / flops
        near = None if row in (plain, skip) else psnr(row.images, skip.images)  # (N,)
        figures = {
            "steps": row.steps,
            "computed": report.computed if report else row.steps,
            "stood_in": report.stood_in if report else 0,
            "seconds": times[row.name].median,
            "spread": times[row.name].spread,
            "over_plain": ratio(times[plain.name], times[row.name]),
            "over_skip": over_skip,
            "ideal_over_plain": spent[0] / flops,
            "ideal_over_skip": ideal,
            "of_ideal": None if row in (plain, skip) else over_skip / ideal,
            "psnr": None if near is None or not near.isfinite().any() else near[near.isfinite()].mean().item(),
            "identical": torch.equal(row.images, skip.images),
            "gflops": flops / 1e9,
            "all_seconds": times[row.name].seconds,
        }
        dtype = str(row.model.dtype).removeprefix("torch.")
        provenance = Provenance.here(dtype, len(row.images), row.steps, said["seed"])
        records.append(Record(row.name, str(row.policy or ""), figures, provenance))
    return records


def _written(out: Path, rows: Sequence[Row], records: Sequence[Record], settings: dict[str, Any]) -> dict[str, Any]:
    """The sheet and the figures, each aside and then renamed."""
    where = records[0].provenance
    result = {"settings": settings, "models": [PLAIN, SKIP], "records": [asdict(record) for record in records]}
    side = rows[0].images.shape[-1]
    sheet = pictures.contact_sheet(
        [_pictured(row, record, rows[1]) for row, record in zip(rows, records, strict=True)],
        [f"{label}, {style}" for label, style in zip(settings["labels"], settings["styles"], strict=True)],
        title="The same seeds, uncached and cached",
        subtitle=f"{PLAIN} and {SKIP}: {side} x {side} pixels, DDIM, guidance {settings['guidance']:g}, seed "
        f"{settings['seed']}; Skip-Cache computes every step at t >= {HI}, then the first of every N",
        footer=f"{where.machine}, threads: {where.threads}, torch {where.torch}, {where.dtype}, "
        f"{where.batch} pictures at once, medians of {settings['repeats']}, {where.commit}",
        scale=max(1, 96 // side),
    )
    pictures.save(sheet, out / "demo.png")
    with written_aside(out / "demo.json") as aside:
        aside.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return result


def _pictured(row: Row, record: Record, skip: Row) -> pictures.Row:
    """A row of the sheet: the figures that matter beside its pictures."""
    f = record.figures
    if row.policy:
        notes = [f"{f['computed']} of {f['steps']} steps computed"]
    else:
        notes = [row.note or f"{row.steps} steps"]
    notes.append(f"{f['seconds']:.2f} s")
    if row.policy or row.note:
        decibels = "the same pictures" if f["identical"] else f"{f['psnr']:.1f} dB to {skip.steps} steps"
        notes += [f"{f['over_skip']:.2f}x Skip-DiT, {f['over_plain']:.2f}x DiT", decibels]
        return pictures.Row(row.name.partition(" (")[0], row.images, notes, skip.images)
    if row is skip:
        notes.append(f"{f['over_plain']:.2f}x DiT")
    return pictures.Row(row.name, row.images, notes)

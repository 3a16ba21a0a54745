"""The demo: the same seeds from a plain model, its twin with skips, and Skip-Cache, timed together and compared."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skipdit import films, pictures
from skipdit.aside import written_aside
from skipdit.convert import from_pretrained
from skipdit.core.attach import attach
from skipdit.core.policy import Policy
from skipdit.core.run import Run
from skipdit.methods.skip_cache import skip_cache
from skipdit.metrics.latency import Latency, interleaved, ratio
from skipdit.metrics.psnr import psnr
from skipdit.results import Provenance, Record
from skipdit.sample import sample

HI = 950  # the first steps, t >= 950, are all computed: there the layout of a picture is decided


@dataclass(frozen=True)
class Twins:
    """A pair of models of the same size, data and training, one of them with skip branches, and what they draw."""

    kind: str  # what the plain one is called
    plain: str  # its shipped name, or folder
    skip: str
    labels: Sequence[str]
    styles: Sequence[str] | None
    every: Sequence[int]  # the N of Skip-Cache
    steps: int
    file: str  # name of what is written, without suffix


IMAGES = Twins(
    "DiT",
    "emoji-plain",
    "emoji-skip",
    ("red apple", "rocket", "sunflower", "penguin", "tropical fish", "strawberry", "octopus", "sun with face"),
    ("noto", "twemoji", "fluent3d", "noto-v1"),
    (2, 3, 5),
    50,
    "demo",
)
VIDEO = Twins(
    "Latte",
    "emoji-video-plain",
    "emoji-video-skip",
    ("rocket", "penguin", "fire engine", "cat"),
    None,
    (2, 3, 4),
    30,
    "demo-video",
)

FITTED = 3  # rounds by which the rivals' steps are chosen: one that something else disturbed doesn't count
Progress = Callable[[int, int, str], None]  # (draws done, draws in all, what is drawn)


class Row:
    """One line of the table: a model, a number of steps, a policy or none, and what its last draw left."""

    def __init__(self, name: str, model: Any, steps: int, policy: Policy | None = None, note: str = ""):
        self.name, self.model, self.steps, self.policy, self.note = name, model, steps, policy, note
        self.images: Tensor = torch.empty(0)
        self.run: Run | None = None

    def draw(self, said: Mapping[str, Any]) -> None:
        with attach(self.model, self.policy) if self.policy else nullcontext() as run:
            self.images, self.run = sample(self.model, steps=self.steps, batch_size=len(said["labels"]), **said), run


def demo(
    out: Path,
    twins: Twins = IMAGES,
    steps: int | None = None,
    guidance: float = 2.0,
    seed: int = 0,
    repeats: int = 3,
    threads: int | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Draw, time and compare; write the pictures and the figures into `out`, and return what the JSON file holds.

    Images make `demo.png`; videos make `demo-video.webp`, where all clips play side by side, and `demo-video.png` with
    the frames of the first.

    twins      the models and what they draw: a picture a label, all in one batch; styles take turns. Each N of
               Skip-Cache gets an uncached row beside it with as many steps as fit into the same time
    repeats    rounds that are timed; one more warms up
    threads    of torch; all processors when left out
    """
    steps = twins.steps if steps is None else steps
    if steps < 1 or repeats < 1:
        raise ValueError(f"demo: steps={steps} and repeats={repeats} must be at least 1")
    styles = twins.styles and list(islice(cycle(twins.styles), len(twins.labels)))
    said = dict(labels=list(twins.labels), styles=styles, guidance=guidance, seed=seed)
    with _threads(threads or os.cpu_count() or 1):
        plain, skip = (from_pretrained(name).eval() for name in (twins.plain, twins.skip))
        full = [Row(twins.kind, plain, steps), Row(f"Skip-{twins.kind}", skip, steps)]
        cached = [Row(f"Skip-Cache, N = {n}", skip, steps, skip_cache(every=n, hi=HI)) for n in twins.every]
        total = (1 + FITTED) * (1 + len(cached)) + (1 + repeats) * (2 + 2 * len(cached))
        timed = _timer(said, total, on_progress)
        tried = timed([full[1], *cached], FITTED)
        fewer = [_fitted(full[1], row, ratio(tried[full[1].name], tried[row.name])) for row in cached]
        rows = [*full, *(row for pair in zip(cached, fewer, strict=True) for row in pair)]
        records = _records(rows, timed(rows, repeats), said)
    return _written(Path(out), twins, rows, records, {**said, "steps": steps, "repeats": repeats})


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
    return Row(f"{full.name}, {steps} steps ({n})", full.model, steps, note=f"as long as {n} takes")


def _flops(model: Any, said: Mapping[str, Any]) -> int:
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
        provenance = Provenance.here(row.model.dtype, len(row.images), row.steps, said["seed"])
        records.append(Record(row.name, str(row.policy or ""), figures, provenance))
    return records


def _written(
    out: Path, twins: Twins, rows: Sequence[Row], records: Sequence[Record], settings: dict[str, Any]
) -> dict[str, Any]:
    """The sheets and the figures, each aside and then renamed."""
    result = {
        "settings": settings,
        "models": [twins.plain, twins.skip],
        "records": [asdict(record) for record in records],
    }
    where, side = records[0].provenance, rows[0].images.shape[-1]
    pictured = [_pictured(row, record, rows) for row, record in zip(rows, records, strict=True)]
    sheet = partial(
        pictures.contact_sheet,
        title="The same seeds, uncached and cached",
        subtitle=f"{twins.plain} and {twins.skip}: {side} x {side} pixels, DDIM, guidance {settings['guidance']:g}, "
        f"seed {settings['seed']}; Skip-Cache computes every step at t >= {HI}, then the first of every N",
        footer=f"{where.machine}, threads: {where.threads}, torch {where.torch}, {where.dtype}, "
        f"{where.batch} at once, medians of {settings['repeats']}, {where.commit}",
        scale=max(1, 96 // side),
    )
    columns, file = _columns(settings), out / twins.file
    if rows[0].images.ndim == 5:
        count = rows[0].images.shape[1]
        moments = [_taken(pictured, (slice(None), frame)) for frame in range(count)]
        films.save([sheet(moment, columns) for moment in moments], file.with_suffix(".webp"))
        pictured = _taken(pictured, 0)
        columns = [f"{columns[0]}, frame {number + 1}" for number in range(count)]
    pictures.save(sheet(pictured, columns), file.with_suffix(".png"))
    with written_aside(file.with_suffix(".json")) as aside:
        aside.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return result


def _columns(settings: Mapping[str, Any]) -> list[str]:
    labels, styles = settings["labels"], settings["styles"]
    return labels if styles is None else [f"{a}, {b}" for a, b in zip(labels, styles, strict=True)]


def _taken(rows: Sequence[pictures.Row], at: Any) -> list[pictures.Row]:
    """Rows of clips (N, F, C, H, W) -> rows of what lies at an index."""
    return [
        replace(row, images=row.images[at], reference=None if row.reference is None else row.reference[at])
        for row in rows
    ]


def _pictured(row: Row, record: Record, rows: Sequence[Row]) -> pictures.Row:
    """A row of the sheet: the figures that matter beside its pictures."""
    plain, skip, f = rows[0], rows[1], record.figures
    if row.policy:
        notes = [f"{f['computed']} of {f['steps']} steps computed"]
    else:
        notes = [row.note or f"{row.steps} steps"]
    notes.append(f"{f['seconds']:.2f} s")
    if row.policy or row.note:
        decibels = "the same pictures" if f["identical"] else f"{f['psnr']:.1f} dB to {skip.steps} steps"
        notes += [f"{f['over_skip']:.2f}x {skip.name}, {f['over_plain']:.2f}x {plain.name}", decibels]
        return pictures.Row(row.name.partition(" (")[0], row.images, notes, skip.images)
    if row is skip:
        notes.append(f"{f['over_plain']:.2f}x {plain.name}")
    return pictures.Row(row.name, row.images, notes)

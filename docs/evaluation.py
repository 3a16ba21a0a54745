"""What caching costs a set of pictures: FID and its kin of thousands of images a method, on the shipped models.

    skipdit data emoji
    skipdit weights fetch
    python docs/evaluation.py data/emoji --images 2000    # into out/evaluation; goes on where it was stopped
    python docs/evaluation.py report                      # docs/evaluation.md, of docs/records/evaluation.jsonl

Every row draws the same labels, styles and seeds, those of the data set in a shuffled order, in batches of 8 (a gate's
verdict is one for the batch, and thresholds were chosen so). Its record is appended when it is finished; images are
kept in shards. --list names the rows. At 2,000 images it takes about 10 hours of one core: see docs/evaluation.md.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from grid import study_of
from grid_candidates import fit_corrections
from kept import by_efficientnet, by_inception
from pages import fill, machine, markdown
from pages import rows as table
from torch import Tensor

from skipdit.attach import attach
from skipdit.backbones.dit import DiT
from skipdit.catalog import parse
from skipdit.data.images import ImageSet, read_images
from skipdit.evaluate.generate import SHARD, Drawing, generate
from skipdit.evaluate.images import Images, of_data, open_images
from skipdit.evaluate.scores import pooled, scores_of_captions, scores_of_concepts, scores_of_pairs, seen
from skipdit.metrics.fid import fid
from skipdit.metrics.precision_recall import precision_recall
from skipdit.metrics.sfid import sfid
from skipdit.metrics.statistics import Statistics, statistics
from skipdit.plan.fingerprint import fingerprint
from skipdit.results import Provenance, Record, append, read, resumed
from skipdit.sample import sample

HERE, OUT = Path(__file__).parent, Path("out/evaluation")
RECORDS, GRID, PAGE = HERE / "records" / "evaluation.jsonl", HERE / "records" / "grid.jsonl", HERE / "evaluation.md"
SKIP, PLAIN = "emoji-skip", "emoji-plain"
STEPS, FEWER, BATCH, GUIDANCE, SEED = 50, 25, 8, 2.0, 0
LEAST = 2000  # images that are worth publishing
BUDGET, REACHED = 2.0, 0.97  # as docs/grid_report.py has it
PAIRED = ("psnr", "lpips")
PREFIX = "evaluation: "


@dataclass(frozen=True)
class Row:
    """One way to draw."""

    name: str
    model: str = SKIP
    policy: str = ""
    steps: int = STEPS

    @property
    def full(self) -> bool:
        return not self.policy and self.steps == STEPS

    @property
    def folder(self) -> Path:
        return OUT / self.model / re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-")


def rows() -> list[Row]:
    """Everything that is drawn; a model's uncached pictures come before what is held against them."""
    cached = [
        Row(f"Skip-Cache N = {n}", policy=f"skip_cache(every={n}, branch=1, hi=1000, lo=20)") for n in range(2, 7)
    ]
    plans = [Row(f"tuned plan {budget}x", policy=f"{SKIP}/plan-{budget}x.json") for budget in ("1.5", "2", "3")]
    fewer = [Row(f"{model}, {FEWER} DDIM steps", model, steps=FEWER) for model in (PLAIN, SKIP)]
    methods = [Row(f"{name}, at {BUDGET:g}x", policy=policy) for name, policy in best_of_grid()]
    return [Row(PLAIN, PLAIN), Row(SKIP), *fewer, *cached, *plans, *methods]


def best_of_grid() -> Iterator[tuple[str, str]]:
    """(method, the setting nearest to the uncached pictures of those that reached twice the speed), of our records."""
    best: dict[str, Record] = {}
    for record in read(GRID):
        model, _, name = record.name.partition(": ")
        if model != SKIP or not record.policy or record.figures["speedup"] < REACHED * BUDGET:
            continue
        if name not in best or record.figures["psnr"]["mean"] > best[name].figures["psnr"]["mean"]:
            best[name] = record
    return ((name, one.policy) for name, one in best.items() if name not in ("skip_cache", "tuned plan"))


# ---- references -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class References:
    """What drawn sets are held against: the pairs of label and style that were trained on, those held out, and all."""

    known: ImageSet
    training: Statistics
    held_out: Statistics
    pictures: Images
    features: Tensor  # of all, (N, 1280)


def references(folder: Path) -> References:
    """Looked at once and kept."""
    config = DiT.from_pretrained(SKIP).config
    known = read_images(folder).resized(config.input_size)
    known = known.only(sorted(set(known.class_names) & set(config.class_names)))
    pictures = of_data(folder, known)
    training, held_out = (of_data(folder, part) for part in known.split())
    parts = {"training": training, "held-out": held_out}
    both = [by_inception(OUT / f"{name}.safetensors", part) for name, part in parts.items()]
    found = by_efficientnet(OUT / "features.safetensors", pictures)
    return References(known, *(statistics(s.pool, s.spatial) for s in both), pictures, found)


# ---- draw and score -------------------------------------------------------------------------------------------------


def evaluate(folder: Path, images: int, out: Path, wanted: Sequence[Row], tell: Any = print) -> None:
    """Append a record for each row that has none yet."""
    prints = {model: fingerprint(DiT.from_pretrained(model)) for model in (PLAIN, SKIP)}
    done = {
        (name_of(record), record.policy, *map(record.figures.get, ("images", "weights"))) for record in resumed(out)
    }
    todo = [row for row in wanted if (row.name, row.policy, images, prints[row.model]) not in done]
    if not todo:
        return tell(f"all {len(wanted)} rows are in {out}: python docs/evaluation.py report")
    against = references(folder)
    for number, row in enumerate(todo, start=1):
        tell(f"{number} of {len(todo)}: {row.name}")
        fit(row)
        figures = {"images": images, "weights": prints[row.model], **scored(row, against, images)}
        where = Provenance.here("float32", BATCH, row.steps, SEED)
        append(out, [Record(PREFIX + row.name, row.policy, figures, where)])


def fit(row: Row) -> None:
    """A correction of the held feature is fitted as the grid fits it, where it isn't there."""
    if (named := re.search(r"'(.+\.safetensors)'", row.policy)) and not Path(named[1]).exists():
        fit_corrections(study_of(row.model, BATCH)[0], Path(named[1]).parent)


def name_of(record: Record) -> str:
    return record.name.removeprefix(PREFIX)


def scored(row: Row, against: References, images: int) -> dict[str, Any]:
    """All figures of a row; its images are drawn where they aren't there."""
    drawn = drawn_by(row, against, images)
    found = seen(drawn)
    candidate = statistics(found.pool, found.spatial, kept=images)
    figures: dict[str, Any] = {"model": row.model, "ideal_speedup": ideal(row, against)}
    for name, reference in (("training", against.training), ("held_out", against.held_out)):
        figures |= {
            f"fid_{name}": fid(candidate.pool, reference.pool),
            f"sfid_{name}": sfid(candidate.spatial, reference.spatial),
            f"{name}_images": reference.count,
        }
        near = precision_recall(candidate.features, reference.features)
        figures |= {f"precision_{name}": near.precision, f"recall_{name}": near.recall}
    features = pooled(drawn)
    figures |= scores_of_concepts(drawn, features, against.pictures, against.features)
    figures |= scores_of_captions(drawn, features, against.pictures, against.features)
    if row.full:
        return figures | dict.fromkeys(PAIRED)
    full = next(other for other in rows() if other.full and other.model == row.model)
    return figures | scores_of_pairs(drawn, drawn_by(full, against, images), PAIRED)


def drawn_by(row: Row, against: References, images: int) -> Images:
    model = DiT.from_pretrained(row.model).eval()
    drawing = Drawing(row.policy, row.steps, GUIDANCE, SEED, "ddim", "", BATCH)
    shards = -(-images // SHARD)
    generate(
        model, row.folder, images, drawing, against.known,
        on_image=lambda done, total: print(f"  {done} of {total} images, {shards} shards", flush=True),
    )  # fmt: skip
    return open_images(row.folder).first(images)


def ideal(row: Row, against: References) -> float:
    """FLOPs of the model's uncached run over the row's, of one batch; that of other steps is their ratio."""
    if not row.policy:
        return STEPS / row.steps
    model = DiT.from_pretrained(row.model).eval()
    labels = [against.known.class_names[label] for label in against.known.y[:BATCH]]
    styles = None
    if against.known.style is not None:
        styles = [against.known.style_names[style] for style in against.known.style[:BATCH]]
    with attach(model, parse(row.policy)) as run:
        sample(model, labels, styles, steps=row.steps, guidance=GUIDANCE, seed=SEED, sampler="ddim")
    return run.report().ideal_speedup


# ---- the page -------------------------------------------------------------------------------------------------------

# arXiv 2411.17616v1, tables 7 and 8: ImageNet 256 x 256, 250 DDPM steps, guidance 1.5, 50,000 images, one A100.
# method: (FID, sFID, precision %, recall %, speed-up)
PAPER = {
    "DiT-XL/2": (2.30, 4.71, 82.68, 57.65, 1.00),
    "FORA": (2.45, 5.44, 81.21, 58.36, 1.57),
    "Delta-DiT": (2.47, 5.61, 81.05, 58.83, 1.45),
    "Skip-DiT": (2.29, 4.58, 82.88, 57.53, 1.00),
    "Skip-Cache N = 2": (2.31, 4.76, 82.52, 58.06, 1.46),
    "Skip-Cache N = 3": (2.40, 4.98, 82.14, 57.86, 1.73),
    "Skip-Cache N = 4": (2.54, 5.31, 81.60, 58.31, 1.93),
}
TWIN = {"DiT-XL/2": PLAIN, "FORA": "fora, at 2x", "Delta-DiT": "delta_dit, at 2x", "Skip-DiT": SKIP}
COLUMNS = {
    "ideal": ("ideal_speedup", ".2f"), "measured": ("measured", ".2f"),
    "FID": ("fid_training", ".2f"), "sFID": ("sfid_training", ".2f"),
    "precision": ("precision_training", ".3f"), "recall": ("recall_training", ".3f"),
    "FID, held out": ("fid_held_out", ".2f"), "sFID, held out": ("sfid_held_out", ".2f"),
    "precision, held out": ("precision_held_out", ".3f"), "recall, held out": ("recall_held_out", ".3f"),
    "concept top-1": ("concept_top1", ".3f"), "top-5": ("concept_top5", ".3f"), "text R@1": ("text_r1", ".3f"),
    "PSNR, dB": ("psnr", ".1f"), "LPIPS": ("lpips", ".4f"),
}  # fmt: skip
OURS = [COLUMNS[name] for name in ("ideal", "FID", "sFID", "precision", "recall")]  # beside the paper's


def report(records: Sequence[Record]) -> None:
    """Put both tables between their marks in the page."""
    fill(PAGE, {"ours": ours(records), "paper": beside_the_paper(records)})


def ours(records: Sequence[Record]) -> str:
    lines = table(with_speed(records), COLUMNS, name_of, _short)
    first = records[0]
    where, f = first.provenance, first.figures
    if absent := sorted({row.name for row in rows()} - {name_of(record) for record in records}):
        lines.append(f"\nNot drawn: {', '.join(absent)}.")
    lines.append(
        f"\n{f['images']:,} images a row; {f['training_images']:,} pairs trained on, {f['held_out_images']} held out;"
        f" real pictures among themselves have concept top-1 {f['concept_real_top1']:.3f}, text R@1"
        f" {f['text_real_r1']:.3f}."
        f" {machine(where)}, seed {where.seed};"
        f" commits {', '.join(dict.fromkeys(record.provenance.commit for record in records))}."
    )
    return "\n".join(lines) + "\n"


def with_speed(records: Sequence[Record]) -> list[Record]:
    """With the speed-up that was measured on the grid, where the row stands there."""
    grid = {
        (record.name.partition(": ")[0], record.policy, record.provenance.steps): record.figures["speedup"]
        for record in read(GRID)
        if "dpm++" not in record.name
    }
    found = []
    for record in records:
        measured = grid.get((record.figures["model"], record.policy, record.provenance.steps))
        found.append(replace(record, figures={**record.figures, "measured": measured}))
    return found


def beside_the_paper(records: Sequence[Record]) -> str:
    """The paper's class-to-image figures beside ours of the same method."""
    found = {name_of(record): record.figures for record in records}
    kinds = ("FID", "sFID", "precision", "recall")
    rows = []
    for name, (theirs_fid, theirs_sfid, precision, recall, speedup) in PAPER.items():
        theirs = [f"{speedup:.2f}", f"{theirs_fid:.2f}", f"{theirs_sfid:.2f}"]
        theirs += [f"{precision / 100:.3f}", f"{recall / 100:.3f}"]
        f = found.get(TWIN.get(name, name))
        own = [f"{f[key]:{form}}" for key, form in OURS] if f else [""] * 5
        rows.append([name, *theirs, *own])
    return "\n".join(markdown(["", "theirs: speed-up", *kinds, "ours: ideal", *kinds], rows)) + "\n"


def _short(policy: str) -> str:
    """Long lists cut, and paths to the file's name: the whole stands in the records."""
    policy = re.sub(r"'[^']*/([^'/]*)'", r"'\1'", policy)
    return policy if len(policy) <= 80 else policy[:77] + "…"


# ---- main -----------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the folder that skipdit data emoji built, or: report")
    parser.add_argument("--images", type=int, default=LEAST)
    parser.add_argument("--only", nargs="*", default=[], help="rows, by name")
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--list", action="store_true", help="name the rows and draw nothing")
    said = parser.parse_args()
    torch.set_num_threads(1)
    wanted = [row for row in rows() if not said.only or row.name in said.only]
    if said.list:
        return print("\n".join(f"{row.name}: {row.policy or f'{row.steps} steps'}" for row in wanted))
    if said.data == "report":
        records = [record for record in resumed(said.records) if record.figures["images"] == said.images]
        if not records:
            parser.error(
                f"{said.records} holds no records of {said.images} images yet: python docs/evaluation.py data/emoji"
            )
        return report(records)
    if said.images < LEAST and said.records == RECORDS:
        parser.error(f"--images {said.images} are too few to publish: {LEAST} or more, or --records elsewhere")
    evaluate(Path(said.data), said.images, said.records, wanted)


if __name__ == "__main__":
    main()

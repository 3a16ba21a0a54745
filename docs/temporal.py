"""What mixes the frames of a clip best? Attention, shift, nothing, at equal steps, equal size, equal time; two seeds.

    skipdit data animation && skipdit weights fetch i3d
    python docs/temporal.py run data/animation    # runs/temporal, and a record a run and mark; goes on where it was
    python docs/temporal.py report                # the table in docs/video.md

Every run starts as emoji-plain in one style, and sees the same clips, noise and timesteps at every step. "attention"
has a temporal block behind each of the DiT's; "attention, half" as many blocks in all as "shift" and "none" have, so
that half of the DiT's are left out. At equal time, the others take as many steps as fit into those of "attention".
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from kept import by_i3d
from pages import fill, machine, markdown
from trained import DTYPES, told, trained

from skipdit.backbones.latte import Latte
from skipdit.core.flops import count_flops
from skipdit.data import open_clips, to_model
from skipdit.metrics.flicker import flicker
from skipdit.metrics.fvd import fvd
from skipdit.metrics.kvd import kvd
from skipdit.networks.resize import eight_bits
from skipdit.rehearse.rehearsal import one_image
from skipdit.results import Provenance, Record, append, resumed
from skipdit.sample import sample

HERE, RUNS, OUT = Path(__file__).parent, Path("runs/temporal"), Path("out/temporal")
RECORDS, PAGE = HERE / "records" / "temporal.jsonl", HERE / "video.md"
LABELS, INIT = HERE / "records" / "video_labels.txt", ("emoji-plain", "fluent3d")
SEEDS, STEPS, BATCH, SIDE, FRAMES = (0, 1), 200, 8, 32, 8
DRAWN, GUIDANCE, DRAWN_SEED = 10, 2.0, 7  # DDIM steps of a clip of each label, and its seed
PREFIX = "temporal: "


@dataclass(frozen=True)
class Mixing:
    """One way to mix the frames."""

    name: str
    temporal: str
    blocks: str = "0,1,2,3,4,5,6,7"  # of the DiT to start from


WAYS = (
    Mixing("attention", "attention"),
    Mixing("attention, half", "attention", "0,1,6,7"),
    Mixing("shift", "shift"),
    Mixing("none", "none"),
)


def run(folder: Path, precision: str) -> None:
    """Train every way to the same step and judge it there; then, where it is cheaper, to the same time."""
    real = open_clips(folder, SIDE, FRAMES).only(LABELS.read_text(encoding="utf-8").splitlines()).x
    for seed in SEEDS:
        for way in WAYS:
            at_mark(folder, way, seed, STEPS, precision, real)
        for way in WAYS:
            at_mark(folder, way, seed, in_the_same_time(resumed(RECORDS), way, seed), precision, real)


def at_mark(folder: Path, way: Mixing, seed: int, mark: int, precision: str, real: Any) -> None:
    """Append a record, unless there is one."""
    name = f"{PREFIX}{way.name}, seed {seed}"
    dtype = DTYPES[precision]
    done = ((record.name, record.figures["step"], record.provenance.dtype) for record in resumed(RECORDS))
    if (name, mark, dtype) in done:
        return
    print(f"{name}: to step {mark}", flush=True)
    words = ["--data", folder, "--labels", LABELS, "--seed", seed, "--precision", precision, "--batch-size", BATCH]
    words += ["--warmup", 50, "--lr", 8e-4, "--ema", 0.99]
    first = ["--frames", FRAMES, "--temporal", way.temporal, "--skips", "none"]
    first += ["--init", INIT[0], "--init-style", INIT[1], "--init-blocks", way.blocks]
    at = trained(RUNS / precision / f"{way.name.replace(', ', '-')}-{seed}", mark, words, first)
    model = Latte.from_pretrained(at / "ema", torch_dtype=getattr(torch, dtype)).eval()
    figures = {"way": way.name, "step": mark, **told(at.parent, mark, BATCH), **priced(model)}
    figures |= judged(model, OUT / at.parent.name / f"{mark}.safetensors", real)
    where = Provenance.here(dtype, BATCH, DRAWN, seed)
    append(RECORDS, [Record(name, "", figures, where)])


def in_the_same_time(records: Sequence[Record], way: Mixing, seed: int) -> int:
    """Steps that a way makes while "attention" makes STEPS."""
    here = [r.figures for r in records if r.provenance.seed == seed and r.figures["step"] == STEPS]
    seconds = {figures["way"]: figures["seconds_a_step"] for figures in here}
    return round(STEPS * max(1.0, seconds[WAYS[0].name] / seconds[way.name]))


def priced(model: Latte) -> dict[str, float]:
    """Parameters, and multiply-adds of one pass over one clip."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "macs": count_flops(model, (one_image(model), {}))[""] / 2}


def judged(model: Latte, path: Path, real: Any) -> dict[str, float]:
    """A clip of each label, against the real ones."""
    labels = list(range(model.config.num_classes))
    drawn = sample(model, labels, steps=DRAWN, guidance=GUIDANCE, seed=DRAWN_SEED, batch_size=BATCH)
    clips = eight_bits(drawn).to(torch.uint8)  # (N, F, 3, H, W)
    seen, known = by_i3d(path, clips), by_i3d(OUT / "real.safetensors", real)
    moves = flicker(to_model(clips)).mean().item()
    return {"fvd": fvd(seen, known), "kvd": kvd(seen, known).mean, "flicker": moves, "clips": len(clips)}


# ---- the page -------------------------------------------------------------------------------------------------------

COLUMNS = {
    "parameters, M": ("parameters", 1e-6, ".2f"), "G multiply-adds a clip": ("macs", 1e-9, ".2f"),
    "s a step": ("seconds_a_step", 1, ".2f"), "loss": ("loss", 1, ".4f"), "FVD": ("fvd", 1, ".0f"),
    "KVD": ("kvd", 1, ".2f"), "flicker": ("flicker", 1, ".2f"),
}  # fmt: skip


def report(records: Sequence[Record]) -> None:
    fill(PAGE, {"temporal": table(records)})


def table(records: Sequence[Record]) -> str:
    lines = markdown(["", "steps", *COLUMNS], rows(records))
    where, f = records[-1].provenance, records[-1].figures
    lines.append(
        f"\nSeeds {' / '.join(map(str, SEEDS))}. {f['clips']} clips, {where.steps} DDIM steps, guidance {GUIDANCE:g}."
        f" {machine(where)}, batches of {where.batch}, {where.commit}."
    )
    return "\n".join(lines) + "\n"


def rows(records: Sequence[Record]) -> Iterator[list[str]]:
    """At equal steps, then at equal time; seeds side by side."""
    for longer in (False, True):
        for way in WAYS:
            found = [r for r in records if r.figures["way"] == way.name and (r.figures["step"] > STEPS) == longer]
            if len(found) == len(SEEDS):
                yield _row(way.name, found)


def _row(name: str, found: Sequence[Record]) -> list[str]:
    cells = [" / ".join(dict.fromkeys(f"{r.figures['step']}" for r in found))]
    for key, scale, form in COLUMNS.values():
        cells.append(" / ".join(dict.fromkeys(f"{r.figures[key] * scale:{form}}" for r in found)))
    return [name, *cells]


# ---- main -----------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("data", nargs="?", type=Path, default=Path("data/animation"))
    parser.add_argument("--precision", default="no", choices=("bf16", "no"), help="of training and drawing")
    said = parser.parse_args()
    torch.set_num_threads(1)
    if said.what == "report":
        records = resumed(RECORDS)
        if not records:
            parser.error(f"{RECORDS} holds no records yet: python docs/temporal.py run")
        return report(records)
    run(said.data, said.precision)


if __name__ == "__main__":
    main()

"""What caching costs a set of clips: FVD and its kin on the shipped video twins, every method at 1.7 times the speed.

    skipdit data animation && skipdit weights fetch alexnet inception i3d
    python docs/clips.py choose                  # the best setting of each method at 1.7 times the speed, on 4 clips
    python docs/clips.py draw                    # all of them, into out/clips; goes on where it was stopped. A second
                                                 # process with --backwards meets it in the middle
    python docs/clips.py report data/animation   # docs/records/clips.jsonl and the table in docs/video.md

80 of the 105 labels are drawn once, in batches of 5, bfloat16, with seeds that no setting was chosen on. Time is the
processor's, one thread: every batch is drawn uncached and in every other way in turn, and a speed-up is the median of
the ratios.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from grid import best_of, draw_one, tried, write_json
from grid_candidates import CODEBOOK
from grid_report import read_drawn
from kept import by_i3d, by_inception_of_frames
from pages import fill, machine, rows
from torch import Tensor
from tqdm import tqdm

from skipdit import from_pretrained
from skipdit.bench.quality import judged, judges
from skipdit.data import open_clips, to_model
from skipdit.metrics.fid import fid
from skipdit.metrics.flicker import flicker
from skipdit.metrics.fvd import fvd
from skipdit.metrics.kvd import kvd
from skipdit.networks.resize import eight_bits
from skipdit.plan.study import Study
from skipdit.results import Provenance, Record, write

HERE, OUT = Path(__file__).parent, Path("out/clips")
RECORDS, PAGE = HERE / "records" / "clips.jsonl", HERE / "video.md"
SKIP, PLAIN = "emoji-video-skip", "emoji-video-plain"
DTYPE, BATCH, STEPS, GUIDANCE, SEED, CHOSEN_ON = torch.bfloat16, 5, 50, 2.0, 1000, 4
LABELS = 80  # that are drawn: the first ones in alphabetical order
BUDGET = 1.7  # every second step saves so much, every third 2.6 times
FEWER = {PLAIN: (), SKIP: (28, 25)}
SHOWN = {n: f"skip_cache(every={n}, branch=1, hi=1000, lo=20)" for n in (2, 3, 4)}  # whatever their speed
SCALED = [tuple((round(t * scale, 4), n) for t, n in CODEBOOK) for scale in (0.01, 0.02, 0.04, 0.08)]
TRIED = {  # method: settings
    "skip_forecast": [f"skip_forecast(every={n}, order=1)" for n in (2, 3, 4)],
    "fora": [f"fora(every={n})" for n in (2, 3, 4)],
    "pab": [f"pab(spatial={s}, temporal={t}, mlp={s}, hi=950, lo=20)" for s, t in ((2, 2), (2, 4), (3, 4), (4, 6))],
    "adacache with MoReg": [f"adacache({codebook}, block=3, frame=1)" for codebook in SCALED],
    "taylorseer lite": [f"taylorseer(every={n}, order=1, lite=True)" for n in (2, 3)],
    "delta_dit": [f"delta_dit(every={n}, blocks=7)" for n in (2, 3)],
    "first_block": [f"first_block(threshold={t})" for t in (0.06, 0.1, 0.15, 0.22, 0.32)],
    "dbcache": [f"dbcache(threshold={t}, front=1, warmup=4, order=1)" for t in (0.06, 0.1, 0.15, 0.22, 0.32)],
    "teacache": [f"teacache(threshold={t})" for t in (0.03, 0.06, 0.1, 0.15)],
}


def study_of(model: Any, labels: list[int], seed: int) -> Study:
    return Study(model, labels, None, STEPS, GUIDANCE, "ddim", seed)


# ---- choose ---------------------------------------------------------------------------------------------------------


def choose() -> None:
    """Write {method: spelling} to out/clips/chosen.json: of the settings that reach the budget, the nearest one."""
    model = from_pretrained(SKIP, torch_dtype=DTYPE).eval()
    classes = model.config.num_classes
    study = study_of(model, [k * classes // CHOSEN_ON for k in range(CHOSEN_ON)], 0)
    found = {method: tried(study, settings) for method, settings in tqdm(TRIED.items(), desc="methods")}
    chosen = best_of(found, (BUDGET,))
    write_json(OUT / "tried.json", found)
    write_json(OUT / "chosen.json", {method: spelling for method, best in chosen.items() for spelling in best.values()})


# ---- draw -----------------------------------------------------------------------------------------------------------


def cells(model: str) -> Iterator[dict[str, Any]]:
    """All that is drawn of a model, the uncached clips first."""

    def cell(name: str, slug: str, policy: str = "", steps: int = STEPS) -> dict[str, Any]:
        return {"name": name, "slug": slug, "policy": policy, "steps": steps, "sampler": "ddim"}

    yield cell("uncached", "uncached")
    yield from (cell(f"{steps} steps", f"ddim-{steps}", steps=steps) for steps in FEWER[model])
    if model == SKIP:
        yield from (cell(f"Skip-Cache N = {n}", f"n-{n}", policy) for n, policy in SHOWN.items())
        chosen = json.loads((OUT / "chosen.json").read_text())
        yield from (cell(method, method.replace(" ", "-"), policy) for method, policy in chosen.items())


def draw(backwards: bool = False) -> None:
    """A file a cell and batch; both models take turns, too."""
    models = {name: from_pretrained(name, torch_dtype=DTYPE).eval() for name in (SKIP, PLAIN)}
    labels = range(models[SKIP].config.num_classes)[:LABELS]
    numbers = range(-(-len(labels) // BATCH))
    for number in tqdm(numbers[::-1] if backwards else numbers, desc=f"batches of {BATCH}"):
        mine = list(labels[number * BATCH : (number + 1) * BATCH])
        for name, model in models.items():
            for cell in cells(name):
                path = OUT / name / cell["slug"] / f"{number:03}.safetensors"
                draw_one(study_of(model, mine, SEED + number), cell, path)


# ---- report ---------------------------------------------------------------------------------------------------------

COLUMNS = {
    "measured": ("speedup", ".2f"), "ideal": ("ideal_speedup", ".2f"), "FVD": ("fvd", ".0f"), "KVD": ("kvd", ".2f"),
    "FID by frame": ("frame_fid", ".1f"), "flicker": ("flicker", ".2f"), "PSNR, dB": ("psnr", ".1f"),
    "LPIPS": ("lpips", ".4f"),
}  # fmt: skip


def report(folder: Path) -> None:
    """Score what was drawn, write the records and put the table into the page."""
    model = from_pretrained(SKIP)
    config, names = model.config, judges(model)
    known = list(config.class_names)[:LABELS]
    real = open_clips(folder, config.input_size, config.num_frames).only(known).x
    records = []
    for name in (PLAIN, SKIP):
        full = read_all(OUT / name / "uncached")
        for cell in cells(name):
            found = read_all(OUT / name / cell["slug"])
            if (count := sum(len(clips) for clips, _ in found)) != len(known):
                undone = f"{name}, {cell['name']}: {count} of {len(known)} clips are drawn"
                raise SystemExit(f"{undone}: python docs/clips.py draw")
            figures = {"model": name, "clips": count, **of_set(OUT / name / cell["slug"], found, real)}
            figures |= against(found, full, names) if cell["slug"] != "uncached" else dict.fromkeys(("psnr", "lpips"))
            ratios = [a["seconds"] / b["seconds"] for (_, a), (_, b) in zip(full, found, strict=True)]
            figures |= {"speedup": median(ratios), "ideal_speedup": fmean(said["ideal"] for _, said in found)}
            where = Provenance(**found[0][1]["provenance"])
            records.append(Record(f"{name}: {cell['name']}", cell["policy"], figures, where))
    write(RECORDS, records)
    fill(PAGE, {"clips": table(records, flicker(to_model(real)).mean().item())})


def read_all(folder: Path) -> list[tuple[Tensor, dict[str, Any]]]:
    """(clips, what is said of them), batch by batch."""
    return [read_drawn(path) for path in sorted(folder.glob("[0-9][0-9][0-9].safetensors"))]


def of_set(folder: Path, drawn: list[tuple[Tensor, Any]], real: Tensor) -> dict[str, float]:
    clips = eight_bits(torch.cat([clips for clips, _ in drawn])).to(torch.uint8)  # (N, F, 3, H, W)
    motion, known = by_i3d(folder / "i3d", clips), by_i3d(OUT / "real-i3d", real)
    frames = by_inception_of_frames(folder / "frames", clips[:, ::2])
    stills = by_inception_of_frames(OUT / "real-frames", real[:, ::2])
    return {
        "fvd": fvd(motion, known),
        "kvd": kvd(motion, known).mean,
        "frame_fid": fid(frames, stills),
        "flicker": flicker(to_model(clips)).mean().item(),
    }


def against(drawn: list[tuple[Tensor, Any]], full: list[tuple[Tensor, Any]], names: Any) -> dict[str, float | None]:
    """PSNR and LPIPS to the uncached clips, the mean over frames and clips."""
    found = [judged(names, a, b) for (a, _), (b, _) in zip(drawn, full, strict=True)]
    return {name: fmean(v for one in found for v in one[name]) if name in names else None for name in ("psnr", "lpips")}


def table(records: list[Record], real_flicker: float) -> str:
    lines = rows(records, COLUMNS, lambda record: record.name)
    where = records[0].provenance
    lines.append(
        f"\n{records[0].figures['clips']} clips a row; the real ones flicker by {real_flicker:.2f}."
        f" {machine(where)}, batches of {where.batch}, {where.commit}."
    )
    return "\n".join(lines) + "\n"


# ---- main -----------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("choose", "draw", "report"))
    parser.add_argument("data", nargs="?", type=Path, default=Path("data/animation"))
    parser.add_argument("--backwards", action="store_true", help="draw the last batch first")
    said = parser.parse_args()
    if said.what == "report":
        return report(said.data)
    torch.set_num_threads(1)
    choose() if said.what == "choose" else draw(said.backwards)


if __name__ == "__main__":
    main()

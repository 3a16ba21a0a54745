"""Every method at 1.5, 2 and 3 times the speed, beside fewer steps, on pairs of label and seed not tuned on.

    python docs/grid.py choose emoji-skip            # which setting of each method is its best at each budget
    python docs/grid.py draw emoji-skip --pairs 256  # every picture, into out/grid; goes on where it was stopped
    python docs/grid.py report                       # records, table and plot, in docs/

A setting is chosen on 4 calibration pictures: of those that reach the budget, the one nearest to the uncached pictures.
Time is the processor's, one thread: every batch of 8 pairs is drawn uncached and with every method in turn, and the
speed-up is the median over batches of the ratio.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from grid_candidates import candidates, fit_corrections
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from skipdit import parse
from skipdit.aside import written_aside
from skipdit.backbones.dit import DiT
from skipdit.core.policy import Leaf
from skipdit.plan.study import Study
from skipdit.results import Provenance, read

OUT, RECORDS = Path("out/grid"), Path(__file__).parent / "records" / "grid.jsonl"
BUDGETS = (1.5, 2.0, 3.0)
CHOSEN_ON, BATCH, STEPS, GUIDANCE = 4, 8, 50, 2.0
FEWER = {"ddim": (33, 28, 25, 21, 18, 16, 14), "dpm++": (33, 25, 16)}


def study_of(model: str, pairs: int) -> tuple[Study, Study]:
    """Calibration and held-out pictures: labels split as `skipdit tune` splits them, with seeds of their own."""
    loaded = DiT.from_pretrained(model).eval()
    chosen, judged = Study.of(loaded, STEPS, GUIDANCE, "ddim", 0, CHOSEN_ON, pairs)
    judged.seed = 1000
    return chosen, judged


# ---- choose ---------------------------------------------------------------------------------------------------------


def choose(model: str) -> None:
    """Write {method: {budget: spelling}} to out/grid/MODEL/chosen.json, and all that was tried beside it."""
    study, _ = study_of(model, BATCH)
    folder = OUT / model
    folder.mkdir(parents=True, exist_ok=True)
    spellings = candidates(study, folder)
    found = {m: tried(study, settings) for m, settings in tqdm(spellings.items(), desc=f"{model}: methods")}
    write_json(folder / "tried.json", found)
    choose_again(model)


def choose_again(model: str) -> None:
    """From what was tried."""
    found: dict[str, list[dict[str, Any]]] = json.loads((OUT / model / "tried.json").read_text())
    write_json(OUT / model / "chosen.json", best_of(found, BUDGETS))


def best_of(found: dict[str, list[dict[str, Any]]], budgets: Sequence[float]) -> dict[str, dict[str, str]]:
    """{method: {budget: spelling}}: of the settings that reach a budget, the one nearest to the uncached pictures.

    What a setting reaches of its ideal speed-up is the median over all settings that spare the same kind of thing,
    parts or spans of blocks: one short draw is timed too roughly to go by.
    """
    every = [one for settings in found.values() for one in settings]
    shares = {k: median(one["share"] for one in every if one["kind"] == k) for k in {one["kind"] for one in every}}
    chosen: dict[str, dict[str, str]] = {}
    for method, settings in found.items():
        speed = {one["policy"]: one["ideal"] * shares[one["kind"]] for one in settings}
        reach = {budget: [one for one in settings if speed[one["policy"]] >= budget] for budget in budgets}
        best = {b: max(there, key=lambda one: one["psnr"]) for b, there in reach.items() if there}
        chosen[method] = {str(b): one["policy"] for b, one in best.items()}
        print(f"{method:18}" + "".join(f"  {b}x {speed[e['policy']]:.2f} {e['psnr']:.1f} dB" for b, e in best.items()))
    return chosen


def tried(study: Study, spellings: list[str]) -> list[dict[str, Any]]:
    """PSNR of a method's settings, and how much of the ideal speed-up they reach."""
    full, study.reference = _timed(study)
    found = []
    for spelling in spellings:
        policy = parse(spelling)
        seconds, images = _timed(study, policy)
        assert study.run is not None
        kind = "parts" if any(isinstance(site, Leaf) for site in study.run.sites) else "spans"
        ideal, near = study.run.report().ideal_speedup, fmean(study.decibels(images))
        found.append({"policy": spelling, "kind": kind, "ideal": ideal, "share": full / seconds / ideal, "psnr": near})
    return found


def write_json(path: Path, said: Any) -> None:
    with written_aside(path) as aside:
        aside.write_text(json.dumps(said, indent=1))


def _timed(study: Study, policy: Any = None, steps: int | None = None) -> tuple[float, torch.Tensor]:
    start = time.process_time()
    images = study.draw(policy, steps)
    return time.process_time() - start, images


# ---- draw -----------------------------------------------------------------------------------------------------------


def draw(model: str, pairs: int, only: list[str]) -> None:
    """Every cell's pictures, a file a batch: images (8, C, H, W), and in its metadata the seconds and what it is."""
    chosen_on, study = study_of(model, pairs)
    cells = [cell for cell in _cells(model) if not only or cell["name"] in only or cell["name"] == "uncached"]
    if any("skip_correction" in cell["policy"] for cell in cells):
        fit_corrections(chosen_on, OUT / model)
    for number in tqdm(range(pairs // BATCH), desc=f"{model}: batches of {BATCH}"):
        for cell in cells:
            path = OUT / model / cell["slug"] / f"{number:03}.safetensors"
            draw_one(_batch(study, number, cell["sampler"]), cell, path)


def _cells(model: str) -> Iterator[dict[str, Any]]:
    """All that is drawn of a model: once each, though a setting may be the best at two budgets."""
    yield {"name": "uncached", "slug": "uncached", "policy": "", "steps": STEPS, "sampler": "ddim"}
    for sampler, counts in FEWER.items():
        for steps in counts:
            yield {
                "name": f"{sampler}, fewer steps", "slug": f"{sampler}-{steps}", "policy": "", "steps": steps,
                "sampler": sampler,
            }  # fmt: skip
    for budget in ("1.5", "2", "3"):
        spelling = f"{model}/plan-{budget}x.json"
        yield {"name": "tuned plan", "slug": f"plan-{budget}x", "policy": spelling, "steps": STEPS, "sampler": "ddim"}
    for method, spellings in _settings(model).items():
        for number, spelling in enumerate(spellings):
            slug = f"{method}-{number}".replace(" ", "-")
            yield {"name": method, "slug": slug, "policy": spelling, "steps": STEPS, "sampler": "ddim"}


def _settings(model: str) -> dict[str, list[str]]:
    """{method: spellings, mild to strong}: those that were chosen here, or else the published ones."""
    path = OUT / model / "chosen.json"
    if path.exists():
        return {method: list(dict.fromkeys(best.values())) for method, best in json.loads(path.read_text()).items()}
    found: dict[str, list[str]] = {}
    for record in read(RECORDS):
        of, _, method = record.name.partition(": ")
        if of == model and record.policy and method != "tuned plan":
            found.setdefault(method, []).append(record.policy)
    return found


def _batch(study: Study, number: int, sampler: str) -> Study:
    rows = slice(number * BATCH, (number + 1) * BATCH)
    styles = study.styles and study.styles[rows]
    return Study(study.model, study.labels[rows], styles, STEPS, GUIDANCE, sampler, study.seed + number)


def draw_one(study: Study, cell: dict[str, Any], path: Path) -> None:
    """A batch drawn in one way, unless it is there already. Raises ValueError where it was drawn in another."""
    if path.exists():
        return refuse_another(path, cell)
    policy = parse(cell["policy"]) if cell["policy"] else None
    seconds, images = _timed(study, policy, cell["steps"])
    ideal = study.run.report().ideal_speedup if study.run is not None else study.steps / cell["steps"]
    said = {**cell, "seconds": seconds, "ideal": ideal, "labels": study.labels, "styles": study.styles}
    where = Provenance.here(study.model.dtype, len(study.labels), cell["steps"], study.seed)
    said["provenance"] = asdict(where)
    with written_aside(path) as aside:
        save_file({"images": images}, aside, metadata={"cell": json.dumps(said)})


def refuse_another(path: Path, cell: dict[str, Any]) -> None:
    with safe_open(path, "pt") as file:
        said = json.loads(file.metadata()["cell"])
    for key in ("policy", "steps", "sampler"):
        if said[key] != cell[key]:
            raise ValueError(f"{path} was drawn with {key}={said[key]!r}, not {cell[key]!r}: delete {path.parent}")


# ---- main -----------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("choose", "draw", "report"))
    parser.add_argument("model", nargs="?")
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--only", nargs="*", default=[], help="methods, by name; uncached is drawn in any case")
    said = parser.parse_args()
    torch.set_num_threads(1)
    if said.what == "choose":
        again = (OUT / said.model / "tried.json").exists()
        (choose_again if again else choose)(said.model)
    elif said.what == "draw":
        draw(said.model, said.pairs, said.only)
    else:
        import grid_report

        grid_report.main()


if __name__ == "__main__":
    main()

"""Plans against Skip-Cache and fewer steps, on labels and seeds they were not tuned on: docs/records/plans.jsonl.

    python docs/plans.py emoji-skip/plan-1.5x.json emoji-skip/plan-2x.json emoji-skip/plan-3x.json    # of one model

Every row: PSNR to the model's own uncached pictures and speed-up over them. Time is the processor's, one thread, the
least of all rounds on 16 pictures. Fewer steps get the better of two counts; the larger takes at least as long.
Their speed-up is the ideal one.
"""

import sys
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from skipdit.backbones.dit import DiT
from skipdit.core.policy import Policy
from skipdit.methods.skip_cache import skip_cache
from skipdit.plan.evidence import summary
from skipdit.plan.plan import Plan
from skipdit.plan.study import Study
from skipdit.results import Provenance, Record, append

PAIRS, BATCH, ROUNDS = 64, 16, 3
EVERY = (2, 3, 5)


def drawn(study: Study, policy: Policy | None = None, steps: int | None = None) -> Tensor:
    """All pairs, a batch at a time."""
    return torch.cat([part.draw(policy, steps) for part in batches(study)])


def batches(study: Study) -> list[Study]:
    cuts = range(0, len(study.labels), BATCH)
    return [
        Study(
            study.model,
            study.labels[i : i + BATCH],
            study.styles and study.styles[i : i + BATCH],
            study.steps,
            study.guidance,
            study.sampler,
            study.seed + i,
        )
        for i in cuts
    ]


def rows(spellings: Sequence[str], seed: int) -> Iterator[Record]:
    """Records of one model: each plan, the same time spent on fewer steps, and Skip-Cache."""
    plans = {spelling: Plan.load(spelling) for spelling in spellings}
    first = next(iter(plans.values()))
    model = DiT.from_pretrained(first.model).eval()
    _, study = Study.of(model, first.steps, first.guidance, first.sampler, first.evidence["seed"], 2, PAIRS)
    study.seed = seed
    timed, study.reference = batches(study)[0], drawn(study)
    provenance = Provenance.here(str(model.dtype).removeprefix("torch."), BATCH, first.steps, seed)

    def record(name: str, policy: Policy | None, steps: int, faster: float, images: Tensor) -> Record:
        figures: dict[str, Any] = {"steps": steps, "speedup": faster, "psnr": summary(study.decibels(images))}
        return Record(f"{first.model}: {name}", str(policy or ""), figures, provenance)

    policies = {f"plan {Path(s).stem}": plan.policy(s) for s, plan in plans.items()}
    policies |= {f"Skip-Cache, N = {n}": skip_cache(every=n) for n in EVERY}
    least = timed.least(None, *policies.values(), rounds=ROUNDS)
    for (name, policy), seconds in zip(policies.items(), least[1:], strict=True):
        faster = least[0] / seconds
        yield record(name, policy, first.steps, faster, drawn(study, policy))
        if name.startswith("Skip-Cache"):
            continue
        most = ceil(first.steps / faster)
        found = {steps: drawn(study, steps=steps) for steps in (most, most - 1)}
        steps = max(found, key=lambda n: fmean(study.decibels(found[n])))
        yield record(f"{steps} steps, for {name}", None, steps, first.steps / steps, found[steps])


def main(spellings: list[str]) -> None:
    torch.set_num_threads(1)
    for record in rows(spellings, seed=1000):
        append(Path(__file__).parent / "records" / "plans.jsonl", [record])
        figures = record.figures
        low, high = figures["psnr"]["ci95"]
        found = f"{figures['psnr']['mean']:6.2f} dB ({low:.2f} to {high:.2f})"
        print(f"{record.name:44} {figures['speedup']:5.2f}x  {found}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

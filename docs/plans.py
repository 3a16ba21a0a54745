"""Plans against Skip-Cache and fewer steps, on labels and seeds they were not tuned on: docs/records/plans.jsonl.

    python docs/plans.py emoji-skip/plan-2x.json emoji-plain/plan-2x.json

Every row: PSNR to the model's own uncached pictures and speed-up over them. Time is the processor's, one thread, the
least of all rounds on 16 pictures. Fewer steps get the best of three counts; the largest takes at least as long.
"""

import sys
from math import ceil
from pathlib import Path
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


def rows(plan: Plan, spelling: str, seed: int) -> list[Record]:
    """A record for the plan, for Skip-Cache and for fewer steps."""
    model = DiT.from_pretrained(plan.model).eval()
    tuned = plan.evidence["seed"]  # splits the labels
    _, study = Study.of(model, plan.steps, plan.guidance, plan.sampler, tuned, 2, PAIRS)
    study.seed = seed
    timed, study.reference = batches(study)[0], drawn(study)
    provenance = Provenance.here(str(model.dtype).removeprefix("torch."), BATCH, plan.steps, seed)

    def record(name: str, policy: Policy | None, steps: int, faster: float, images: Tensor) -> Record:
        figures: dict[str, Any] = {"steps": steps, "speedup": faster, "psnr": summary(study.decibels(images))}
        return Record(f"{plan.model}: {name}", str(policy or ""), figures, provenance)

    chosen = plan.policy(spelling)
    policies = {"plan": chosen} | {f"Skip-Cache, N = {n}": skip_cache(every=n) for n in EVERY}
    least = timed.least(None, *policies.values(), rounds=ROUNDS)
    speedups = [least[0] / seconds for seconds in least[1:]]
    found = [
        record(name, policy, plan.steps, faster, drawn(study, policy))
        for (name, policy), faster in zip(policies.items(), speedups, strict=True)
    ]
    most = ceil(plan.steps / speedups[0])
    fewer = [
        record(f"{steps} steps", None, steps, plan.steps / steps, drawn(study, steps=steps))
        for steps in range(most, max(1, most - 3), -1)
    ]
    return [*found, max(fewer, key=lambda r: r.figures["psnr"]["mean"])]


def main(spellings: list[str]) -> None:
    torch.set_num_threads(1)
    for spelling in spellings:
        records = rows(Plan.load(spelling), spelling, seed=1000)
        append(Path(__file__).parent / "records" / "plans.jsonl", records)
        for record in records:
            figures = record.figures
            low, high = figures["psnr"]["ci95"]
            print(
                f"{record.name:32} {figures['speedup']:5.2f}x  {figures['psnr']['mean']:6.2f} dB ({low:.2f}-{high:.2f})"
            )


if __name__ == "__main__":
    main(sys.argv[1:])

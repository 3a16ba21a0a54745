"""What sparing passes costs the shipped Skip-DiT, as PSNR to plain sampling.

python docs/guidance.py           # docs/records/guidance.jsonl, then as below
python docs/guidance.py report    # the table in docs/guidance.md
"""

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from pages import cells, fill, machine, markdown
from torch import Tensor

import skipdit
from skipdit.backbones.dit import DiT
from skipdit.branches import Tally
from skipdit.metrics.psnr import psnr
from skipdit.results import Provenance, Record, read, write

HERE = Path(__file__).parent
RECORDS, PAGE = HERE / "records" / "guidance.jsonl", HERE / "guidance.md"
PICTURES, STEPS = 16, 50
FEWER = (38, 33, 25)  # steps of plain sampling, for the same number of passes
ROWS = [  # passes, policy
    ("reuse(every=2)", ""),
    ("reuse(every=2, keep='uncond')", ""),
    ("reuse(every=3)", ""),
    ("reuse(every=5, hi=641)", ""),
    ("faster_cache(every=5)", ""),
    ("faster_cache(every=2, hi=1001)", ""),
    ("t_gate(gate=20)", ""),
    ("interval(hi=5.42, lo=0.28)", ""),
    ("interval(hi=5.42, lo=None)", ""),
    ("", "skip_cache(every=2)"),
    ("reuse(every=2)", "skip_cache(every=2)"),
    ("", "faster_diffusion(blocks=5, keys=4)"),
    ("parallel()", "faster_diffusion(blocks=5, keys=4)"),
    ("", "faster_diffusion(blocks=5)"),
    ("parallel()", "faster_diffusion(blocks=5)"),
    ("parallel(prior=0.003)", "faster_diffusion(blocks=5)"),
]
COLUMNS = {
    "passes made": ("passes_made", "d"), "calls": ("calls", "d"), "blocks run": ("blocks_run", ".0%"),
    "PSNR, dB": ("psnr", ".1f"),
}  # fmt: skip


def draw() -> None:
    torch.set_num_threads(1)
    model = DiT.from_pretrained("emoji-skip").eval()
    plain, _ = drawn(model, STEPS)
    records = []
    for steps, passes, spelling in [*((fewer, "", "") for fewer in FEWER), *((STEPS, *row) for row in ROWS)]:
        images, figures = drawn(model, steps, passes, spelling)
        figures["psnr"] = psnr(images, plain).mean().item()
        where = Provenance.here(model.dtype, PICTURES, steps, 0)
        records.append(Record("guidance", spelling, {"passes": passes, **figures}, where))
        print(f"{steps} steps {passes} {spelling}: {figures['psnr']:.1f} dB", flush=True)
    write(RECORDS, records)
    report(records)


def drawn(model: DiT, steps: int, passes: str = "", spelling: str = "") -> tuple[Tensor, dict[str, Any]]:
    """(pictures, what was spared): blocks run are a share of all blocks of all passes of the full run."""
    names, styles = model.config.class_names, model.config.style_names
    labels = names[::15][:PICTURES]
    tally = Tally()
    with skipdit.attach(model, skipdit.parse(spelling)) if spelling else nullcontext() as run:
        images = skipdit.sample(
            model, labels, [styles[i % len(styles)] for i in range(PICTURES)],
            steps=steps, guidance=2.0, seed=0, passes=passes or None, tally=tally,
        )  # fmt: skip
    share = run.report().blocks_run / run.report().blocks_in_full if run else 1.0
    blocks = share * tally.passes / tally.passes_in_full * steps / STEPS
    return images, {"passes_made": tally.passes, "calls": tally.calls, "blocks_run": blocks}


def report(records: list[Record]) -> None:
    fill(PAGE, {"guidance": table(records)})


def table(records: list[Record]) -> str:
    where = records[-1].provenance
    lines = markdown(["passes", "policy", *COLUMNS], ([*ways(r), *cells(r.figures, COLUMNS)] for r in records))
    return "\n".join([*lines, "", f"{machine(where)}, commit {where.commit}."]) + "\n"


def ways(record: Record) -> list[str]:
    """What was spared: passes, blocks, or steps."""
    if not (record.figures["passes"] or record.policy):
        return [f"{record.provenance.steps} steps", ""]
    return [f"`{way}`" if way else "" for way in (record.figures["passes"], record.policy)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["report"])
    if parser.parse_args().what:
        report(read(RECORDS))
    else:
        draw()

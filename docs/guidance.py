"""Print the table of docs/guidance.md: what sparing passes costs the shipped Skip-DiT, as PSNR to plain sampling.

python docs/guidance.py
"""

from contextlib import nullcontext

import skipdit
from skipdit.backbones.dit import DiT
from skipdit.branches import Tally
from skipdit.metrics.psnr import psnr

FEWER = (38, 33, 25)  # steps of plain sampling, for the same number of passes
ROWS = [  # passes, policy
    ("reuse(every=2)", None),
    ("reuse(every=2, keep='uncond')", None),
    ("reuse(every=3)", None),
    ("reuse(every=5, hi=641)", None),
    ("faster_cache(every=5)", None),
    ("faster_cache(every=2, hi=1001)", None),
    ("t_gate(gate=20)", None),
    ("interval(hi=5.42, lo=0.28)", None),
    ("interval(hi=5.42, lo=None)", None),
    (None, "skip_cache(every=2)"),
    ("reuse(every=2)", "skip_cache(every=2)"),
    (None, "faster_diffusion(blocks=5, keys=4)"),
    ("parallel()", "faster_diffusion(blocks=5, keys=4)"),
    (None, "faster_diffusion(blocks=5)"),
    ("parallel()", "faster_diffusion(blocks=5)"),
    ("parallel(prior=0.003)", "faster_diffusion(blocks=5)"),
]


def main() -> None:
    model = DiT.from_pretrained("emoji-skip")
    names, styles = model.config.class_names, model.config.style_names
    labels = names[::15][:16]
    settings = dict(labels=labels, styles=[styles[i % len(styles)] for i in range(16)], steps=50, guidance=2.0, seed=0)
    plain = skipdit.sample(model, **settings)
    print("| passes | policy | passes made | calls | blocks run | PSNR |\n|---|---|---|---|---|---|")
    for steps in FEWER:
        images = skipdit.sample(model, **{**settings, "steps": steps})
        print(
            f"| {steps} steps | | {2 * steps} | {steps} | {steps / 50:.0%} | {psnr(images, plain).mean():.1f} |",
            flush=True,
        )
    for passes, spelling in ROWS:
        tally = Tally()
        with skipdit.attach(model, skipdit.parse(spelling)) if spelling else nullcontext() as run:
            images = skipdit.sample(model, **settings, passes=passes, tally=tally)
        share = run.report().blocks_run / run.report().blocks_in_full if run else 1.0
        blocks = share * tally.passes / tally.passes_in_full
        cells = [f"`{passes}`" if passes else "", f"`{spelling}`" if spelling else ""]
        cells += [str(tally.passes), str(tally.calls), f"{blocks:.0%}", f"{psnr(images, plain).mean():.1f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

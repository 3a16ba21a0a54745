"""Draw one picture uncached and with several policies, and print what each spared and how far it strayed.

python examples/compare.py
"""

import skipdit
from skipdit.backbones.dit import DiT
from skipdit.metrics.psnr import psnr


def main() -> None:
    model = DiT.from_pretrained("emoji-skip")
    settings = dict(labels=["red apple", "rocket"], styles="noto", steps=20, seed=0)
    uncached = skipdit.sample(model, **settings)
    for spelling in ("skip_cache(every=2)", "skip_cache(every=3, hi=900)", "N3-700-50"):
        with skipdit.attach(model, skipdit.parse(spelling)) as run:
            images = skipdit.sample(model, **settings)
        print(f"{spelling}: {psnr(images, uncached).mean():.1f} dB to the uncached pictures")
        print(f"    {run.report()}")


if __name__ == "__main__":
    main()

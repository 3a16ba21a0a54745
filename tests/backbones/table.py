"""Which laws hold for which transformer of diffusers: `python tests/backbones/table.py > docs/zoo.md`."""

import sys
import warnings
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "cases")]

import diffusers  # noqa: E402
import torch  # noqa: E402
from case import CASES  # noqa: E402
from laws import LAWS, NO_TIMESTEP  # noqa: E402
from laws_skips import skips  # noqa: E402
from laws_small import Small, small  # noqa: E402

ALL: dict[str, Callable[[Small], None]] = {**LAWS, "skips": skips}

# What does not hold, and why: (class, law) -> what the law says. Everything else must hold.
FAILS = {("TransformerTemporalModel", law): NO_TIMESTEP for law in ("clock", "guidance", "batch")}

HEAD = """\
# Every transformer of diffusers

Made by `python tests/backbones/table.py > docs/zoo.md` with diffusers {version}; `tests/backbones/test_zoo.py` tries
the same and holds this page to it. Each class is built small (4 to 9 blocks, random weights, CPU, float32), called as
its pipeline calls it over six steps, and held to {laws} laws. **{all_hold} of {classes} classes: all of them.**

| law | what holds |
|---|---|
{captions}

The references by hand are patched forwards and hooks (`tests/backbones/laws_reference.py`, `laws_skips.py`): they share
no code with `skipdit`, only the table's names of arguments and the places at which a span is cut.

| class | blocks, in running order | {columns} |
|---|---|{rule}|
"""

FOOT = """
{notes}
- Skips: `own` are the model's own long skips, on which Skip-Cache works without training, for every K; the others are
  given branches.
- Models that PyTorch cannot differentiate on a CPU (flex attention) are not tested for gradients in their branches:
  {no_gradient}.
- Not here, as they are no denoisers of their own: {absent}.
"""

NO_GRADIENT = ("AnyFlowFARTransformer3DModel", "Kandinsky6SRTransformer3DModel", "WanAnimate2Transformer3DModel")

# What diffusers keeps among its transformers and is no denoiser, and why.
ABSENT = {
    "DreamLiteTransformer2DModel": "a layer of DreamLite's U-Net, which holds many",
    "MiniMaxMusic3RVQDepthDecoder": "an autoregressive decoder of audio codes: it has no denoising steps",
}


def tried() -> dict[tuple[str, str], str]:
    """What each law says of each class where it does not hold: the laws are run."""
    said = {}
    for name in sorted(CASES):
        for law, check in ALL.items():
            try:
                check(small(name))
            except Exception as error:
                said[name, law] = str(error) or type(error).__name__
    return said


def blocks(it: Small) -> str:
    """The lists in running order with their lengths."""
    order = it.backbone.order(it.model)
    if it.backbone.zipped:
        return f"{it.backbone.depth(it.model)} rounds of {', '.join(f'`{path}`' for path in it.backbone.stacks)}"
    lists = [(path, len(list(places))) for path, places in groupby(place.stack for place in order)]
    return ", ".join(f"{length} `{path}`" for path, length in lists)


def page(said: Mapping[tuple[str, str], str]) -> str:
    """The page, from what the laws say."""
    rows = []
    for name in sorted(CASES):
        it = small(name)
        own = it.backbone.native(it.backbone.depth(it.model))
        cells = ["no" if (name, law) in said else "own" if law == "skips" and own else "✓" for law in ALL]
        rows.append(f"| {name} | {blocks(it)} | {' | '.join(cells)} |")
    reasons: dict[tuple[str, str], list[str]] = {}
    for (name, law), why in said.items():
        reasons.setdefault((name, why), []).append(law)
    captions = [f"| {law} | {(check.__doc__ or '').strip().splitlines()[0]} |" for law, check in ALL.items()]
    return (
        HEAD.format(
            version=diffusers.__version__,
            laws=len(ALL),
            all_hold=len(CASES) - len({name for name, _ in said}),
            classes=len(CASES),
            captions="\n".join(captions),
            columns=" | ".join(ALL),
            rule="|".join(["---"] * len(ALL)),
        )
        + "\n".join(rows)
        + "\n"
        + FOOT.format(
            notes="\n".join(f"- {name}: no {', '.join(laws)}, as it {why}." for (name, why), laws in reasons.items()),
            no_gradient=", ".join(NO_GRADIENT),
            absent="; ".join(f"{name} ({why})" for name, why in ABSENT.items()),
        )
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sys.stdout.write(page(tried()))

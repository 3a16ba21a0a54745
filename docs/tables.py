"""Put the tables that need nothing but records into their pages: python docs/tables.py

Of bench.md, similarity.md, conversion.md, metrics.md and the README. Pages of one script alone have it say
"report".
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from pages import Columns, cells, fill, markdown

from skipdit.report import tables as reported
from skipdit.results import Record, read

HERE = Path(__file__).parent


def main() -> None:
    for page, tables in PAGES.items():
        fill(HERE / page, {mark: table() for mark, table in tables.items()})


def records(name: str) -> list[Record]:
    return read(HERE / "records" / f"{name}.jsonl")


def table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column names."""
    return "\n".join(markdown(["", *headings], rows)) + "\n"


def columns(name: Callable[[Record], str], which: Iterable[Record], told: Columns) -> str:
    """A record a row, a figure a column."""
    return table(told, ([name(record), *cells(record.figures, told)] for record in which))


# ---- bench.md -------------------------------------------------------------------------------------------------------

SPEED = {
    "ms a step": ("ms_a_step", ".1f"), "speed-up": ("speedup", ".2f"), "FLOP-ideal": ("ideal", ".2f"),
    "of it": ("of_ideal", ".2f"), "over the model without branches": ("over_plain", ".2f"),
}  # fmt: skip


def speed(model: str) -> str:
    """Sampling loops against the FLOP-ideal."""
    mark = f"speed {model}"
    mine = [r for r in records("bench") if r.name in (mark, f"{mark} uncached", f"{mark} uncached, no branches")]
    return columns(lambda r: f"`{r.policy}`" if r.policy else r.name.removeprefix(f"{mark} "), mine, SPEED)


def peers(model: str) -> str:
    """Peers and ours on one model in one run."""
    mine = [r for r in records("bench_peers") if r.name == f"bench {model}"]
    return "\n".join(map(reported.markdown, reported.tables(mine)))


# ---- similarity.md --------------------------------------------------------------------------------------------------


def moves() -> str:
    """How far each block's output moves from step to step: the median of 1 - similarity, in 1/10,000."""
    found: dict[str, list[list[float]]] = {
        r.name.removeprefix("similarity of "): r.figures["similar_steps"] for r in records("similarity") if not r.policy
    }
    rows = ([f"`{model}`", *(f"{1e4 * (1 - median(s)):.1f}" for s in blocks)] for model, blocks in found.items())
    return table((f"block {number}" for number in range(len(next(iter(found.values()))))), rows)


# ---- conversion.md --------------------------------------------------------------------------------------------------


def conversion() -> str:
    """Each arm's losses, from the first step to the last."""
    return table(
        ["loss of the first batch", *(f"fixed {kind} draws, step 0 → 240" for kind in ("training", "held-out")),
         "first stage ends at"],
        map(_arm, ("plain", "join", "replace")),
    )  # fmt: skip


def _arm(arm: str) -> list[str]:
    """Its row: losses before and after, and where the rule ended the first stage."""
    steps, averages = (
        [r.figures for r in records("conversion") if r.name == f"conversion {arm} {what}"]
        for what in ("step", "average")
    )
    losses = [f"{averages[0][key]:.5f} → {averages[-1][key]:.5f}" for key in ("training_loss", "held_out_loss")]
    ends = [f"{f['step']}: {f['first_stage_ends']}" for f in steps if "first_stage_ends" in f]
    return [arm if arm == "plain" else f"`{arm.title()}`", repr(steps[0]["loss"]), *losses, *(ends or [""])]


# ---- metrics.md -----------------------------------------------------------------------------------------------------

RECALLS = {
    "pictures": ("pictures", ",d"), "R@1": ("recall1", ".3f"), "R@5": ("recall5", ".3f"), "R@10": ("recall10", ".3f"),
    "cosine": ("cosine", ".3f"),
}  # fmt: skip


def image_text() -> str:
    every = [r for r in records("image_text") if r.name.endswith(", all styles")]
    which = [r for kind in ("held out", "trained on") for r in every if f", {kind}, " in r.name]
    return columns(lambda r: r.name.removeprefix("image_text, ").removesuffix(", all styles"), which, RECALLS)


# ---- README.md ------------------------------------------------------------------------------------------------------

DEMO = {
    "steps computed": ("computed", "d"), "seconds": ("seconds", ".2f"), "x DiT": ("over_plain", ".2f"),
    "x Skip-DiT": ("over_skip", ".2f"), "FLOP-ideal": ("ideal_over_skip", ".2f"), "of it": ("of_ideal", ".0%"),
    "PSNR to 50 steps, dB": ("psnr", ".1f"),
}  # fmt: skip


def demo() -> str:
    told: dict[str, Any] = json.loads((HERE / "records" / "demo.json").read_text(encoding="utf-8"))
    return columns(lambda r: r.name, [Record.from_json(json.dumps(each)) for each in told["records"]], DEMO)


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "bench.md": {
        "speed": lambda: speed("narrow"), "speed of clips": lambda: speed("narrow-video"),
        "peers, plain": lambda: peers("emoji-plain"), "peers, skip": lambda: peers("emoji-skip"),
    },
    "similarity.md": {"moves": moves},
    "conversion.md": {"arms": conversion},
    "metrics.md": {"image-text": image_text},
    "../README.md": {"demo": demo},
}  # fmt: skip


if __name__ == "__main__":
    main()

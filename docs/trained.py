"""Training runs that go to a mark, are looked at, and go on: `skipdit train` in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

DTYPES = {"bf16": "bfloat16", "no": "float32"}  # of what --precision says
LOOK = 100  # last steps, whose mean loss is told


def trained(out: Path, mark: int, words: Sequence[object], first: Sequence[object] = ()) -> Path:
    """The checkpoint of a run at a mark, trained up to it where it isn't there; the learning rate stays what it is.

    words, first    of the command: what is said every time, and what only begins a run
    """
    at = out / f"checkpoint-{mark:07}"
    if not at.exists():
        begun = any(out.glob("checkpoint-???????"))  # a run that was killed before has metrics alone
        say = ["train", "--out", out, *words, "--resume", *([] if begun else first), "--steps", mark, "--decay", 0]
        say += ["--save-every", 10**6, "--threads", 1]
        subprocess.run([sys.executable, "-m", "skipdit.cli", *map(str, say)], check=True, stdout=subprocess.DEVNULL)
    return at


def told(out: Path, mark: int, batch: int) -> dict[str, float]:
    """Loss and seconds a step, of the steps up to a mark."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()[:mark]]
    seconds = median(batch / line["samples_per_s"] for line in lines[1:])  # the first one warms up
    return {"loss": fmean(line["loss"] for line in lines[-LOOK:]), "seconds_a_step": seconds}

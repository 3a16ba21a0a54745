"""DiT-XL/2 at 256 x 256 on a GPU: bfloat16, compiled blocks, 50 steps, one image and a batch."""

from dataclasses import replace

from skipdit.bench import speed
from skipdit.bench.options import Options
from skipdit.results import Record

GOALS = speed.GOALS


def measure(options: Options) -> list[Record]:
    """The speed bench at the size of the paper. Raises Skipped where there is no GPU."""
    return speed.measure(setting(options))


def setting(options: Options) -> Options:
    """The same options at the size of the paper."""
    return replace(options, model="DiT-XL/2", device="cuda", dtype="bf16", backend="inductor", batch=(1, 32), steps=50)

"""What is held between steps: one tensor (B, T, D) a stream, and no more."""

from dataclasses import replace

from skipdit.bench.options import DTYPES, Options, made
from skipdit.bench.table import Goal
from skipdit.core.attach import attach
from skipdit.methods.skip_cache import skip_cache
from skipdit.results import Record
from skipdit.sample import sample

GOALS = (Goal("tensors_a_stream", at_least=1, at_most=1),)
STEPS = 4


def measure(options: Options) -> list[Record]:
    """Bytes held by Skip-Cache in real sampling runs, guidance in one batch and in two passes, over B*T*D*itemsize."""
    options = replace(options, model="tiny")
    model = made(options)
    images, policy = options.batch[0], skip_cache(every=2)
    tokens = (model.config.input_size // model.config.patch_size) ** 2
    records = []
    for two_pass in (False, True):
        options.say(f"{images} images, guidance in {'two passes' if two_pass else 'one batch'}")
        with attach(model, policy) as run:
            sample(model, list(range(images)), steps=STEPS, two_pass=two_pass)
        streams = len({stream for _, stream, _ in run.passes})
        batch = images if two_pass else 2 * images  # of one pass: the branches of guidance share it or take turns
        one = batch * tokens * model.config.hidden_size * DTYPES[options.dtype].itemsize
        figures = {
            "guidance": "two passes" if two_pass else "one batch",
            "streams": streams,
            "bytes_held": run.bytes_held,
            "one_tensor": one,
            "tensors_a_stream": run.bytes_held / (streams * one),
        }
        records.append(options.record(f"held {options.model}", str(policy), figures, batch, STEPS))
    return records

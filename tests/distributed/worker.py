"""What each of two gloo processes runs: `python -m torch.distributed.run --nproc_per_node=2 worker.py TASK`."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "laws"), str(TESTS / "backbones" / "cases")]

from zoo import POLICIES, dit, inputs  # noqa: E402

from skipdit import attach  # noqa: E402
from skipdit.core.policy import Policy  # noqa: E402
from skipdit.core.what import hold, residual  # noqa: E402
from skipdit.core.when import Drift, Every  # noqa: E402
from skipdit.core.where import Inner  # noqa: E402

STEPS = 9
GATE = Policy(Inner(1, 0), Drift(1.25), residual())


def everyone(value):
    """Each process's value, in order."""
    found = [None, None]
    dist.all_gather_object(found, value)
    return found


@torch.no_grad()
def verdicts(model, policy, seed, **how):
    """Whether each step was computed, from inputs of this process alone."""
    with attach(model, policy, **how) as run:
        for step in range(STEPS):
            model(*inputs(step, seed=seed))
    return [event.computed for event in run.trace]


def gates_agree():
    alone = everyone(verdicts(dit(None), GATE, seed=dist.get_rank(), group=None))
    assert alone[0] != alone[1], f"the inputs must lead to different verdicts: {alone}"
    together = everyone(verdicts(dit(None), GATE, seed=dist.get_rank()))
    assert together[0] == together[1]
    assert not all(together[0]), together
    # any that computes makes all compute, at the first step where they differ
    first = next(i for i in range(STEPS) if alone[0][i] != alone[1][i])
    assert together[0][first]


def schedules_are_silent():
    called, reduce = [], dist.all_reduce
    dist.all_reduce = lambda *args, **kwargs: (called.append(args), reduce(*args, **kwargs))[1]
    try:
        for name in ("skip_cache", "forecast", "parts"):
            verdicts(dit("replace"), POLICIES[name], seed=0)
        assert not called
        verdicts(dit(None), GATE, seed=0)
        assert len(called) == STEPS - 1 or len(called) == STEPS, len(called)
    finally:
        dist.all_reduce = reduce


@torch.no_grad()
def context_parallel():
    """diffusers splits the tokens of one picture over both processes; the outputs are those of one process."""
    import image_a
    from case import CASES
    from diffusers import ContextParallelConfig

    torch.accelerator.device_count = lambda: 1  # diffusers divides by it, and a CPU has none
    image_a.TEXT = 6  # tokens that two processes can share evenly
    case = CASES["FluxTransformer2DModel"]
    split = case.model()
    split.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))

    def drawn(model, policy, **how):
        with attach(model, policy, **how) as run:
            outputs = [model(**case.call(i, 900.0 - 100 * i))[0] for i in range(6)]
        return torch.stack(outputs), [event.computed for event in run.trace]

    held = Policy(Inner(1, 1), Every(2), hold())
    (got, steps), (want, alone) = drawn(split, held), drawn(case.model(), held, group=None)
    assert steps == alone
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    seen = everyone(drawn(split, GATE)[1])  # each process sees half the tokens
    assert seen[0] == seen[1]


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    {"gates": gates_agree, "schedules": schedules_are_silent, "context": context_parallel}[sys.argv[1]]()
    dist.destroy_process_group()

"""Compiled blocks under every kind of policy: no graph breaks, no graphs that come with the steps, equal outputs."""

import importlib
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from skipdit import add_skips, attach, compile_blocks, methods
from skipdit.attach import Sampler
from skipdit.backbones.diffusers import backbone_of
from skipdit.core.policy import Policy
from skipdit.core.what import forecast, hold, residual
from skipdit.core.when import Drift, Every
from skipdit.core.where import Inner, Parts

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "backbones" / "cases"), str(HERE / "laws")]
from case import CASES  # noqa: E402
from zoo import dit, inputs  # noqa: E402

for name in ("image_a", "image_b", "video_a", "video_b"):
    importlib.import_module(name)

EAGER = dict(backend="eager", fullgraph=True)
POLICIES = {
    "hold": Policy(Inner(1, 1), Every(2), hold()),
    "residual": Policy(Inner(1, 1), Every(2), residual()),
    "forecast": Policy(Inner(1, 1), Every(2, warmup=2), forecast(1)),
    "forecast(2)": Policy(Inner(1, 1), Every(2, warmup=3), forecast(2)),
    "gate": Policy(Inner(1, 1), Drift(1.5), residual()),
}
ATTENTION = Policy(Parts(("attn",)), Every(2), hold())

REPEATED = [
    "FluxTransformer2DModel",
    "WanTransformer3DModel",
    "QwenImageTransformer2DModel",
    "ChromaTransformer2DModel",
]
OTHERS = [  # no _repeated_blocks: native skips, lists that take turns, a U, a dropped stream, a lone block
    "HunyuanDiT2DModel",
    "LatteTransformer3DModel",
    "UniDiffuserModel",
    "SD3Transformer2DModel",
    "PixArtTransformer2DModel",
    "CogVideoXTransformer3DModel",
]
THOROUGH = ("WanTransformer3DModel", "HunyuanDiT2DModel", "LatteTransformer3DModel")  # these get every policy


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    assert not counters["graph_break"], counters["graph_break"]
    return counters["stats"]["unique_graphs"]


def first(output):
    while not isinstance(output, torch.Tensor):
        output = output[0]
    return output


@torch.no_grad()
def sampled(case, model, policy, steps):
    """The outputs of every step, and the run."""
    with attach(model, policy) as run:
        outputs = [first(model(**case.call(step, 1000 - 75 * step))) for step in range(steps)]
    return torch.stack(outputs), run


def compared(case, plain, compiled, names):
    """Every policy over 6 and over 12 steps: as many graphs after the second as after the first, equal outputs."""
    for name in names:
        wanted, eager = sampled(case, plain, POLICIES[name], 12)
        outputs, run = sampled(case, compiled, POLICIES[name], 6)
        assert torch.equal(outputs, wanted[:6])
        early = graphs()
        outputs, run = sampled(case, compiled, POLICIES[name], 12)
        assert graphs() == early > 0
        assert torch.equal(outputs, wanted)
        assert run.trace == eager.trace
        assert name == "gate" or any(not event.computed for event in run.trace)


@pytest.mark.parametrize("name", REPEATED)
def test_the_blocks_that_diffusers_compiles(name):
    case = CASES[name]
    compiled = case.model()
    compiled.compile_repeated_blocks(**EAGER)
    compared(case, case.model(), compiled, POLICIES if name in THOROUGH else ("hold", "forecast(2)"))


@pytest.mark.parametrize("name", OTHERS)
def test_the_blocks_that_it_does_not(name):
    case = CASES[name]
    assert not case.model()._repeated_blocks
    compiled = compile_blocks(case.model(), **EAGER)
    compared(case, case.model(), compiled, POLICIES if name in THOROUGH else ("hold", "forecast(2)"))


@pytest.mark.parametrize("name", ["FluxTransformer2DModel", "PixArtTransformer2DModel"])
def test_skip_branches_are_compiled_too(name):
    def model():
        torch.manual_seed(1)
        made = case.model()
        add_skips(made, backbone=backbone_of(made))
        for branch in made.skip_branches.values():
            torch.nn.init.normal_(branch.linear.weight, std=0.1)
        return made

    case = CASES[name]
    compiled = compile_blocks(model(), **EAGER)
    assert all(branch._compiled_call_impl is not None for branch in compiled.skip_branches.values())
    compared(case, model(), compiled, ("hold", "gate"))


def test_the_gate_of_these_tests_does_stand_in_and_does_compute():
    _, run = sampled(CASES["LatteTransformer3DModel"], CASES["LatteTransformer3DModel"].model(), POLICIES["gate"], 12)
    assert {event.computed for event in run.trace} == {True, False}


def test_blocks_compiled_while_a_policy_is_attached():
    case = CASES["FluxTransformer2DModel"]
    wanted, _ = sampled(case, case.model(), POLICIES["hold"], 4)
    late = case.model()
    with torch.no_grad(), attach(late, POLICIES["hold"]):
        compile_blocks(late, **EAGER)
        outputs = [first(late(**case.call(step, 1000 - 75 * step))) for step in range(4)]
    assert torch.equal(torch.stack(outputs), wanted)
    assert graphs() > 0


# ---- policies on parts


@pytest.mark.parametrize("name", ["FluxTransformer2DModel", "LatteTransformer3DModel", "UniDiffuserModel"])
def test_a_policy_on_parts_over_compiled_parts(name):
    case = CASES[name]
    wanted, _ = sampled(case, case.model(), ATTENTION, 6)
    compiled = compile_blocks(case.model(), parts=("attn", "mlp"), **EAGER)
    called = {path: vars(part).get("_compiled_call_impl") for path, part in compiled.named_modules()}
    seen = []
    for _ in range(2):
        outputs, _ = sampled(case, compiled, ATTENTION, 6)
        assert torch.equal(outputs, wanted)
        seen.append(graphs())
    assert seen[0] == seen[1] > 0
    assert {path: vars(part).get("_compiled_call_impl") for path, part in compiled.named_modules()} == called
    sampled(case, compiled, POLICIES["hold"], 6)
    assert graphs() == seen[0]


def test_a_policy_on_parts_of_compiled_blocks_is_refused():
    model = compile_blocks(dit(None), **EAGER)
    with pytest.raises(ValueError, match=r"DiT's blocks\.0 is compiled as a whole.*parts=\('attn', 'mlp'\)"):
        attach(model, ATTENTION).__enter__()
    with attach(model, POLICIES["hold"]) as run, torch.no_grad():
        model(*inputs(0))
    assert run.passes


def test_parts_that_a_policy_decides_on_are_not_compiled_with_the_decision_in_them():
    model = dit(None)
    with attach(model, ATTENTION), pytest.raises(RuntimeError, match="compile before you attach"):
        compile_blocks(model)
    compile_blocks(model, **EAGER)
    assert all(block._compiled_call_impl is not None for block in model.blocks)


def test_what_cannot_be_compiled_is_refused():
    with pytest.raises(TypeError, match="carries no Backbone"):
        compile_blocks(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="has no part 'cross'"):
        compile_blocks(dit(None), parts=("cross",))


# ---- a model that is compiled as a whole


@pytest.mark.parametrize("enable", [False, True])
@pytest.mark.parametrize("policy", [POLICIES["hold"], ATTENTION], ids=["span", "parts"])
def test_a_model_compiled_as_a_whole_is_refused(policy, enable):
    inside, wrapped = dit("join"), torch.compile(CASES["PixArtTransformer2DModel"].model(), backend="eager")
    inside.compile(backend="eager")
    for model, name in ((inside, "DiT"), (wrapped, "PixArtTransformer2DModel"), (torch.compile(dit(None)), "DiT")):
        with pytest.raises(ValueError, match=rf"^{name} is compiled as a whole.*compile_blocks\(model\)"):
            attached = attach(model, policy)
            attached.enable() if enable else attached.__enter__()


def test_a_list_of_blocks_inside_something_compiled_is_refused():
    model = CASES["UniDiffuserModel"].model()
    model.transformer.compile(backend="eager")
    with pytest.raises(ValueError, match="UniDiffuserModel's transformer is compiled as a whole"):
        attach(model, POLICIES["hold"]).__enter__()


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("skips", [None, "join"])
def test_a_wrapper_that_the_policy_does_not_know_is_refused_at_the_first_pass(skips, fullgraph):
    """fullgraph: dynamo reports the refusal as the cause of an error of its own."""
    model = dit(skips)
    wanted, wrapped = model(*inputs(0)), torch.compile(model, backend="eager", fullgraph=fullgraph)
    assert torch.equal(wrapped(*inputs(0)), wanted)
    with attach(model, POLICIES["hold"]) as run, pytest.raises(RuntimeError) as refused:
        wrapped(*inputs(0))
    assert "DiT is compiled as a whole" in str(refused.value) + str(refused.value.__cause__)
    assert not run.passes
    assert torch.equal(wrapped(*inputs(0)), wanted)


def test_a_model_with_branches_trains_compiled_as_a_whole():
    plain, model = dit("join"), dit("join")
    whole = torch.compile(model, **EAGER)
    for each in (plain, whole):
        each(*inputs(0)).square().mean().backward()
    for name, parameter in plain.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad)
    for step in range(1, 4):
        assert torch.equal(whole(*inputs(step)), plain(*inputs(step)))
    assert graphs() <= 2


# ---- no waiting for the device


class Reads(TorchFunctionMode):
    """Counts what makes the host wait for a device: a number read from a tensor, or a tensor brought to the host."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.nonzero)
        return func(*args, **(kwargs or {}))

    def __enter__(self):
        self.below = Scalars(self)
        self.below.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.below.__exit__(*error)


class Scalars(TorchDispatchMode):
    """item(), float(), bool(), a comparison in an `if`: all are one operation below."""

    def __init__(self, reads):
        super().__init__()
        self.reads = reads

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.reads.count += func.overloadpacket is torch.ops.aten._local_scalar_dense
        return func(*args, **(kwargs or {}))


def reads(model, policy, announced, steps=6):
    with torch.no_grad(), attach(model, policy) as run:
        seen = []
        for step in range(steps):
            if announced:
                run.begin(step, 900.0 - 100 * step, total=steps)
            given = inputs(step)
            with Reads() as counter:
                model(*given)
            seen.append(counter.count)
    return seen


def test_the_counter_sees_every_way_to_read_a_number():
    x = torch.arange(3.0)
    ways = (torch.Tensor.item, float, bool, int, torch.Tensor.tolist, torch.Tensor.numpy)
    for read in [partial(way, x[0]) for way in ways]:
        with Reads() as counter:
            read()
        assert counter.count == 1


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "gate"])
@pytest.mark.parametrize("skips", [None, "join"])
def test_a_schedule_reads_no_tensor(name, skips):
    assert reads(dit(skips), POLICIES[name], announced=True) == [0] * 6


def test_parts_windows_and_kinds_read_no_tensor_either():
    for policy in (ATTENTION, methods.skip_cache(every=2, hi=0.7, lo=0.1), methods.skip_cache(every=2, paper=True)):
        assert reads(dit(None), policy, announced=True) == [0] * 6


def test_a_clock_that_nobody_announces_reads_the_timestep_once_a_pass():
    assert reads(dit(None), POLICIES["hold"], announced=False) == [1] * 6


def test_a_gate_reads_one_number_a_pass_once_it_has_something_to_compare():
    assert reads(dit(None), POLICIES["gate"], announced=True) == [0, 1, 1, 1, 1, 1]


class Elsewhere(torch.Tensor):
    """A tensor that says it lies on a GPU, and counts who reads it."""

    device = property(lambda self: torch.device("cuda"))
    read = 0

    def item(self):
        Elsewhere.read += 1
        return self.as_subclass(torch.Tensor).item()

    def tolist(self):
        Elsewhere.read += 1
        return self.as_subclass(torch.Tensor).tolist()

    __float__ = item


class Scheduler:
    """What a pipeline's scheduler shows: its timesteps and the step that it is at."""

    def __init__(self, times):
        self.timesteps, self._step_index = torch.tensor(times).as_subclass(Elsewhere), None


class Pipe:
    def __init__(self, times):
        self.scheduler = Scheduler(times)


@pytest.mark.parametrize("batched", ["a view of the list", "a copy"])
def test_a_pipeline_on_a_gpu_waits_once_a_run_and_not_once_a_pass(batched):
    """The stand-in lies on the CPU: what is shown is that nobody asks for its numbers, not that a GPU doesn't wait."""
    pipe, Elsewhere.read = Pipe([900.0, 600.0, 300.0]), 0
    sampler, seen = Sampler(pipe), []
    with sampler.watched():
        for index, t in enumerate(pipe.scheduler.timesteps):
            given = t.expand(2) if batched == "a view of the list" else t.repeat(2)
            assert given.device.type == "cuda"
            seen.append(sampler.read(given))
            pipe.scheduler._step_index = index + 1
    assert seen == [900.0, 600.0, 300.0]
    assert Elsewhere.read == 1

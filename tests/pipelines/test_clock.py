"""Steps that are hard to count: a start midway, second-order solvers, guidance that ends early, colliding timesteps."""

import pytest
import torch
from diffusers import (
    DPMSolverSinglestepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
)
from small import PIPELINES, output
from watch import held, inner, same

import skipdit
from skipdit import methods
from skipdit.core.policy import Policy
from skipdit.core.what import hold
from skipdit.core.when import Every
from skipdit.core.where import Inner

HOLD = Policy(Inner(1, 1), Every(2), hold())


def clock(run):
    return [(step.index, stream) for step, stream, _ in run.passes]


def computed(run):
    """[(step, stream, whether nothing was stood in for)] of every pass."""
    spared = {(event.step, event.stream) for event in run.trace if not event.computed}
    return [(step.index, stream, (step.index, stream) not in spared) for step, stream, _ in run.passes]


@pytest.mark.parametrize(("name", "guidance"), [("sd3-img2img", True), ("sd3-img2img", False), ("flux-img2img", True)])
def test_fractions_of_a_run_that_starts_midway_are_of_the_steps_that_run(name, guidance):
    """strength 0.5 of 20 steps runs 10: hi=0.7 computes the first 3 of them."""
    small = PIPELINES[name]()
    passes = small.passes if guidance else small.passes_off
    with skipdit.attach(small.pipe, methods.skip_cache(every=2, hi=0.7)) as run:
        output(small, guidance=guidance, steps=20)
    assert {step.total for step, _, _ in run.passes} == {10}
    first = [fresh for _, stream, fresh in computed(run) if stream == "main"]
    every = [i <= 3 or (i - 3) % 2 == 0 for i in range(10)]
    assert first == every
    assert len(run.passes) == 10 * passes


SECOND_ORDER = [
    ("pixart-alpha", HeunDiscreteScheduler, {}),
    ("pixart-alpha", KDPM2DiscreteScheduler, {}),
    ("pixart-alpha", DPMSolverSinglestepScheduler, {}),
    ("unidiffuser", HeunDiscreteScheduler, {}),
    ("unidiffuser", KDPM2DiscreteScheduler, {}),
    ("sd3", FlowMatchHeunDiscreteScheduler, {"shift": 3.0}),
    ("wan", FlowMatchHeunDiscreteScheduler, {"shift": 3.0}),
]
IDS = [f"{name}-{kind.__name__}" for name, kind, _ in SECOND_ORDER]
of_numpy = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")


@of_numpy
@pytest.mark.parametrize(("name", "kind", "config"), SECOND_ORDER, ids=IDS)
def test_every_evaluation_of_a_second_order_solver_is_a_step(name, kind, config):
    """Bit-equal to hooks that count calls, and the total is that of the evaluations."""
    small = PIPELINES[name]()
    scheduler = small.pipe.scheduler = kind(**config)
    bare = output(small, steps=4)
    evaluations = len(scheduler.timesteps)
    with held(small, [(i, p) for i in range(evaluations) for p in range(small.passes)], inner(small)):
        want = output(small, steps=4)
    with skipdit.attach(small.pipe, HOLD) as run:
        got = output(small, steps=4)
    assert same(got, want)
    assert not torch.equal(got, bare)
    assert [step.index for step, _, _ in run.passes] == [i for i in range(evaluations) for _ in range(small.passes)]
    assert {step.total for step, _, _ in run.passes} == {evaluations}


@pytest.mark.parametrize(("name", "kind", "config"), [SECOND_ORDER[0], SECOND_ORDER[-1]], ids=[IDS[0], IDS[-1]])
def test_while_enabled_a_repeated_timestep_is_a_stream_of_its_own(name, kind, config):
    """No count of steps is believed there; the guidance branches keep apart all the same, and the next run is equal."""
    small = PIPELINES[name]()
    small.pipe.scheduler = kind(**config)
    attached = skipdit.attach(small.pipe, HOLD).enable()
    try:
        first = output(small, steps=4)
        run = next(iter(attached.runs.values()))
        assert len({(step.index, stream) for step, stream, _ in run.passes}) == len(run.passes)
        distinct = len({float(t) for t in small.pipe.scheduler.timesteps})
        assert run.report().steps == distinct
        assert {step.total for step, _, _ in run.passes} == {distinct}
        assert same(output(small, steps=4), first)
    finally:
        attached.disable()


def test_lumina_goes_on_where_guidance_is_cut_off():
    small = PIPELINES["lumina2"]()
    order = [(i, p) for i in range(6) for p in range(2 if i < 3 else 1)]
    with held(small, order, inner(small)):
        want = output(small, cfg_trunc_ratio=0.5)
    with skipdit.attach(small.pipe, HOLD) as run:
        assert same(output(small, cfg_trunc_ratio=0.5), want)
    assert clock(run) == [(i, ("main", "main, repeat 1")[p]) for i, p in order]


def end_guidance(pipe, step, t, tensors):
    """diffusers' recipe of dynamic guidance: from step 3 on, without."""
    if step == 2:
        pipe._guidance_scale = 1.0
        return {name: tensor.chunk(2)[-1] for name, tensor in tensors.items() if "prompt" in name}
    return {}


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("sd3", dict(callback_on_step_end_tensor_inputs=["latents", "prompt_embeds", "pooled_prompt_embeds"])),
        ("z-image", dict(cfg_truncation=0.3)),
    ],
)
def test_a_batch_that_is_halved_midway_goes_on_in_a_stream_of_its_own(name, call):
    """Its first step is computed, whatever the schedule says: nothing is remembered of that shape."""
    small = PIPELINES[name]()
    call = {**call, "callback_on_step_end": end_guidance} if name == "sd3" else call
    shapes = []
    hook = small.pipe.transformer.register_forward_pre_hook(
        lambda m, a, k: shapes.append(len((*a, *k.values())[0])), with_kwargs=True
    )
    bare = output(small, **call)
    hook.remove()
    assert 2 in shapes
    assert 1 in shapes
    halved = shapes.index(1)
    order = [(i, int(i >= halved)) for i in range(6)]
    with held(small, order, inner(small)):
        want = output(small, **call)
    with skipdit.attach(small.pipe, HOLD) as run:
        got = output(small, **call)
    assert same(got, want)
    assert not torch.equal(got, bare)
    assert clock(run) == [(i, ("main", "main, shape 1")[p]) for i, p in order]
    assert computed(run)[halved][2]


def test_a_named_branch_that_ends_early_leaves_the_other_alone():
    small = PIPELINES["cogview4"]()
    order = [(i, p) for i in range(6) for p in range(2 if i < 3 else 1)]

    def end(pipe, step, t, tensors):
        pipe._guidance_scale = 1.0 if step == 2 else pipe._guidance_scale
        return {}

    with held(small, order, inner(small)):
        want = output(small, callback_on_step_end=end)
    with skipdit.attach(small.pipe, HOLD) as run:
        assert same(output(small, callback_on_step_end=end), want)
    assert clock(run) == [(i, ("cond", "uncond")[p]) for i, p in order]


def test_skipped_layer_guidance_has_its_own_stream_and_may_leave_out_any_block():
    small = PIPELINES["sd3"]()
    for layer in range(6):
        call = dict(skip_guidance_layers=[layer], skip_layer_guidance_start=-1.0, skip_layer_guidance_stop=0.9)
        bare = output(small, **call)
        with skipdit.attach(small.pipe, Policy(Inner(1, 1), Every(1), hold())):
            assert same(output(small, **call), bare)
        with skipdit.attach(small.pipe, HOLD) as run:
            got = output(small, **call)
        assert torch.isfinite(got).all()
        assert not torch.equal(got, bare)
        assert {stream for _, stream in clock(run)} == {"main", "main, shape 1"}
        assert {step.total for step, _, _ in run.passes} == {6}


@pytest.mark.parametrize(("name", "larger"), [("flux-cfg", 96), ("wan", 96), ("lumina2", 96)])
def test_the_next_call_may_have_another_batch_size_resolution_or_number_of_steps(name, larger):
    small = PIPELINES[name]()
    calls = [dict(batch=1), dict(batch=2), dict(height=larger), dict(steps=4), dict(guidance=False), dict(batch=1)]
    want = []
    for call in calls:
        with skipdit.attach(small.pipe, HOLD):
            want.append(output(small, **call))
    with skipdit.attach(small.pipe, HOLD) as run:
        for call, expected in zip(calls, want, strict=True):
            assert same(output(small, **call), expected)
            assert run.report().steps == call.get("steps", 6)
    attached = skipdit.attach(small.pipe, HOLD).enable()
    for call, expected in zip(calls, want, strict=True):
        assert same(output(small, **call), expected)
        assert attached.report().steps == call.get("steps", 6)
    attached.disable()


@pytest.mark.parametrize("name", ["flux", "flux-cfg"])
def test_timesteps_that_collide_in_bfloat16_are_counted_by_the_sampler(name):
    """50 steps with a large shift: in bfloat16 many neighbours at the noisy end are the same number."""
    small = PIPELINES[name]()
    small.pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=12.0)
    small.pipe.transformer.to(torch.bfloat16)
    call = {k: v.bfloat16() for k, v in small.call(steps=50).items() if isinstance(v, torch.Tensor)}
    call["output_type"] = "latent"
    given = []
    hook = small.pipe.transformer.register_forward_pre_hook(
        lambda m, a, k: given.append(k["timestep"][0].item()), with_kwargs=True
    )
    bare = output(small, steps=50, **call)
    hook.remove()
    assert len(set(given)) < 50
    with held(small, [(i, p) for i in range(50) for p in range(small.passes)], inner(small)):
        want = output(small, steps=50, **call)
    with skipdit.attach(small.pipe, HOLD) as run:
        got = output(small, steps=50, **call)
    assert same(got, want)
    assert not torch.equal(got, bare)
    assert [step.index for step, _, _ in run.passes] == [i for i in range(50) for _ in range(small.passes)]
    assert {step.total for step, _, _ in run.passes} == {50}


@of_numpy
def test_the_scheduler_may_be_replaced_while_enabled():
    small = PIPELINES["pixart-alpha"]()
    attached = skipdit.attach(small.pipe, HOLD).enable()
    first = output(small)
    solver, small.pipe.scheduler = small.pipe.scheduler, KDPM2DiscreteScheduler()
    assert torch.isfinite(output(small, steps=4)).all()
    assert attached.report().steps == 7
    assert {step.total for step, _, _ in attached.runs["transformer"].passes} == {7}
    small.pipe.scheduler = solver
    assert same(output(small), first)
    attached.disable()

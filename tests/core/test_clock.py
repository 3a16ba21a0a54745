"""The clock of a foreign loop, on sequences of calls as pipelines make them."""

from skipdit.core.clock import Call, Clock


def ticks(calls):
    clock = Clock()
    return [tuple(clock.tick(call)) for call in calls]


def test_one_pass_a_step():
    assert ticks([Call(9.0), Call(5.0), Call(1.0)]) == [(1, 0, "main"), (1, 1, "main"), (1, 2, "main")]


def test_a_repeated_timestep_is_another_stream_of_the_same_step():
    assert ticks([Call(9.0), Call(9.0), Call(5.0), Call(5.0)]) == [
        (1, 0, "main"),
        (1, 0, "main, repeat 1"),
        (1, 1, "main"),
        (1, 1, "main, repeat 1"),
    ]


def test_names_of_the_pipeline_are_taken_in_any_order():
    calls = [Call(9.0, name="cond"), Call(9.0, name="uncond"), Call(5.0, name="uncond"), Call(5.0, name="cond")]
    assert [stream for _, _, stream in ticks(calls)] == ["cond", "uncond", "uncond", "cond"]


def test_a_timestep_that_goes_up_is_a_new_run():
    assert [run for run, _, _ in ticks([Call(9.0), Call(5.0), Call(9.0), Call(5.0), Call(8.0)])] == [1, 1, 2, 2, 3]


def test_a_sampler_set_anew_is_a_new_run_even_at_the_same_timestep():
    """A call that was aborted after its first step, and the same call again."""
    first, second = object(), object()
    assert [run for run, _, _ in ticks([Call(9.0, era=first), Call(9.0, era=second), Call(5.0, era=second)])] == [
        1,
        2,
        2,
    ]


def test_a_sampler_that_counts_tells_steps_at_one_timestep_apart():
    """Heun calls at t1 for the second half of step 0 and for the first of step 1; bfloat16 rounds two steps to one."""
    calls = [Call(9.0, mark=0), Call(5.0, mark=1), Call(5.0, mark=2), Call(1.0, mark=3)]
    assert ticks(calls) == [(1, 0, "main"), (1, 1, "main"), (1, 2, "main"), (1, 3, "main")]


def test_a_sampler_that_counts_may_go_up():
    """A restart sampler adds noise again within one run."""
    era = object()
    calls = [Call(9.0, mark=0, era=era), Call(5.0, mark=1, era=era), Call(7.0, mark=2, era=era)]
    assert [tick[:2] for tick in ticks(calls)] == [(1, 0), (1, 1), (1, 2)]


def test_guidance_that_stops_goes_on_in_a_stream_of_its_own():
    both, one = ((4, 3),), ((2, 3),)
    calls = [Call(9.0, shapes=both), Call(5.0, shapes=both), Call(3.0, shapes=one), Call(1.0, shapes=one)]
    assert [tick[1:] for tick in ticks(calls)] == [(0, "main"), (1, "main"), (2, "main, shape 1"), (3, "main, shape 1")]


def test_frames_that_move_on_alone_are_steps():
    """Diffusion forcing: the noisiest frame stands still while others move; the mean tells the steps apart."""
    assert [index for _, index, _ in ticks([Call(9.0, at=9.0), Call(9.0, at=8.0), Call(9.0, at=7.0)])] == [0, 1, 2]


def test_a_pass_that_broke_off_ends_the_run():
    clock = Clock()
    clock.tick(Call(9.0))
    clock.aborted = True
    assert tuple(clock.tick(Call(9.0))) == (2, 0, "main")


def test_without_a_timestep_every_call_is_a_step():
    assert ticks([Call(None), Call(None)]) == [(1, 0, "main"), (1, 1, "main")]

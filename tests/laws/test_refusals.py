"""What can't work is refused by name, when the policy is made or attached."""

import math

import pytest
import torch
from zoo import dit, loop

from skipdit import attach, methods, parse, plan
from skipdit.core.policy import Policy
from skipdit.core.what import Estimate, forecast, hold, residual
from skipdit.core.when import At, Drift, Every, Window
from skipdit.core.where import Inner, Parts, Range


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Every(0), "n=0"),
        (lambda: Every(-2), "n=-2"),
        (lambda: Every(2.0), "n=2.0"),
        (lambda: Every(True), "n=True"),
        (lambda: Every(2, warmup=-1), "warmup=-1"),
        (lambda: At((1, -3)), "steps=-3"),
        (lambda: Drift(math.nan), "threshold=nan"),
        (lambda: Drift(math.inf), "threshold=inf"),
        (lambda: Drift(0.0), "threshold=0.0"),
        (lambda: Drift(-1.0), "threshold=-1"),
        (lambda: Drift("a"), "threshold='a'"),
        (lambda: Window(Every(2), hi=math.nan), "hi=nan"),
        (lambda: Window(Every(2), hi=-1), "hi=-1"),
        (lambda: Window(Every(2), 50, 700), "lo=700 must be below hi=50"),
        (lambda: Window(Every(2), 700, 0.1), "mix a fraction"),
        (lambda: Window(Drift(0.1), 700), "is a gate"),
        (lambda: Inner(-1, 1), "head=-1"),
        (lambda: Range(3, 3), "empty"),
        (lambda: Parts(()), r"names=\(\)"),
        (lambda: Parts("attn"), "must be a tuple"),
        (lambda: Estimate(hold, keep=0), "keep=0"),
        (lambda: forecast(0), "order=0"),
        (lambda: methods.skip_cache(every=0), "every=0"),
        (lambda: methods.skip_cache(every=math.nan), "every=nan"),
        (lambda: methods.skip_cache(branch=0), "branch=0"),
        (lambda: methods.skip_cache(evry=2), "evry"),
        (lambda: methods.skip_cache(hi=math.nan, paper=True), "hi=nan"),
        (lambda: methods.skip_cache.named("N2-700"), "N2-700"),
        (lambda: methods.skip_cache.preset("class-to-sound"), "class-to-sound"),
        (lambda: Policy(Inner(1, 1), Every, hold()), "when="),
        (lambda: Policy(Inner(1, 1), Every(2), hold), "what="),
        (lambda: Policy(Every(2), Every(2), 3), "what=3"),
    ],
)
def test_a_senseless_parameter_is_refused_when_the_policy_is_made(make, name):
    with pytest.raises((ValueError, TypeError), match=name):
        make()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Policy(Inner(3, 3), Every(2), hold()), "leaves no block to spare"),
        (Policy(Range(2, 9), Every(2), hold()), "past the last of 6 blocks"),
        (Policy(Parts(("cross",)), Every(2), hold()), "has no part 'cross'; its parts are"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_when_attached(policy, message):
    model = dit("join")
    bare = loop(model)
    with pytest.raises(ValueError, match=message), attach(model, policy):
        pytest.fail("attached")
    assert torch.equal(loop(model), bare)


def test_what_is_no_policy_or_no_model_or_nested_is_refused():
    model = dit(None)
    with pytest.raises(TypeError, match="call the method first"), attach(model, methods.skip_cache):
        pass
    with pytest.raises(TypeError, match="carries no Backbone"), attach(torch.nn.Linear(2, 2), methods.skip_cache()):
        pass
    with attach(model, methods.skip_cache()), pytest.raises(RuntimeError, match="attached in this thread already"):
        with attach(model, methods.skip_cache()):
            pass


def test_a_schedule_that_needs_a_clock_says_so():
    for policy, message in (
        (Policy(Inner(1, 1), Every(2, tail=1), hold()), "needs the number of steps"),
        (methods.skip_cache(every=2, hi=0.7), "needs the number of steps"),
    ):
        model = dit("join")
        with pytest.raises(ValueError, match=message), attach(model, policy) as run:
            run.begin(0, 5.0)
            model(torch.ones(1, 3, 8, 8), torch.ones(1), torch.ones(1).long())


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("skip_cach(every=2)", "did you mean skip_cache"),
        ("skip_cache(evry=2)", "no parameter 'evry'; did you mean every"),
        ("skip_cache(every=0)", "every=0 must be at least 1"),
        ("skip_cache(every=__import__('os').getpid())", "not spelled like"),
        ("skip_cache(**{'every': 2})", "not spelled like"),
        ("__import__('os')", "no method"),
        ("os.system('true')", "not spelled like"),
        ("skip_cache(every=2", "not spelled like"),
        ("", "not spelled like"),
        ("N2-700", "not spelled like N2-700-50"),
    ],
)
def test_parse_refuses_by_name(spelling, message):
    with pytest.raises(ValueError, match=message):
        parse(spelling)


def test_a_gate_has_no_plan():
    with pytest.raises(TypeError, match="is a gate"):
        plan(Policy(Inner(1, 0), Drift(0.1), residual()), [3, 2, 1])


def test_nan_at_a_gate_means_compute():
    model = dit(None)
    policy = Policy(Inner(1, 0), Drift(1e9), residual())
    with attach(model, policy) as run, torch.no_grad():
        for step, value in enumerate((1.0, 2.0, math.nan, 1.0)):
            run.begin(step, 9.0 - step)
            model(torch.full((1, 3, 8, 8), value), torch.ones(1), torch.ones(1).long())
    assert [event.computed for event in run.trace] == [True, False, True, True]

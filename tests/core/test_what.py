"""Rules are tested with integers alone; estimators with numbers."""

import pytest
import torch

from skipdit.core.policy import Step
from skipdit.core.what import Estimate, adams_bashforth, forecast, hold, last, polynomial, residual, taylor


def apply(rule, seen, at, f):
    return sum(w * f(s) for w, s in zip(rule(seen, at), seen, strict=True))


@pytest.mark.parametrize("rule", [last, polynomial, taylor, adams_bashforth])
@pytest.mark.parametrize("seen", [[4], [7, 4], [7, 4, 3], [8, 6, 4, 2]])
def test_every_rule_reproduces_a_constant(rule, seen):
    assert apply(rule, seen, 11, lambda _: 5.0) == pytest.approx(5.0)


@pytest.mark.parametrize("rule", [polynomial, taylor, adams_bashforth])
@pytest.mark.parametrize("seen", [[7, 4], [7, 4, 3], [9, 6, 3]])
def test_every_forecast_reproduces_a_line_on_uneven_steps(rule, seen):
    assert apply(rule, seen, 11, lambda s: 3 * s - 2) == pytest.approx(31)


def test_polynomial_reproduces_a_parabola_and_taylor_as_published_does_not():
    def parabola(s):
        return 3 * s * s - 7

    assert apply(polynomial, [7, 4, 3], 9, parabola) == pytest.approx(236)
    assert apply(taylor, [7, 4, 3], 9, parabola) == pytest.approx(214)


def test_taylor_on_even_steps_by_hand():
    """Newest value, first and second difference over gap 2, three steps ahead: 1 + 3/2 + 9/8 = 3.625 of the newest."""
    assert taylor([6, 4, 2], 9) == pytest.approx([3.625, -3.75, 1.125])


def test_adams_bashforth_by_hand():
    assert adams_bashforth([3, 2, 1], 4) == pytest.approx([2.5, -2.0, 0.5])


def observed(estimate, values):
    memory = {}
    for step, (x, y) in values.items():
        estimate.observe(memory, Step(step), (torch.tensor([x]),), (torch.tensor([y]),))
    return memory


def test_hold_hands_the_very_tensor_on():
    y = torch.ones(3)
    memory = {}
    hold().observe(memory, Step(0), (torch.zeros(3),), (y,))
    assert hold().predict(memory, Step(1), (torch.zeros(3),))[0] is y


def test_residual_adds_the_last_change():
    memory = observed(residual(), {0: (1.0, 4.0)})
    assert residual().predict(memory, Step(1), (torch.tensor([10.0]),))[0].item() == 13


def test_forecast_extrapolates_and_forgets():
    estimate = forecast(1)
    memory = observed(estimate, {0: (0.0, 1.0), 2: (0.0, 5.0), 4: (0.0, 9.0)})
    assert len(memory["seen"]) == 2
    assert estimate.predict(memory, Step(5), (torch.zeros(1),))[0].item() == pytest.approx(11)


def test_estimates_are_values():
    assert forecast(2) == Estimate(polynomial, keep=3)
    assert repr(hold()) == "Estimate(last, keep=1, change=False)"

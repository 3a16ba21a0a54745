"""Rules of forecasting, tested with integers alone."""

import pytest
import torch
from zoo import dit, loop

from skipdit import attach, methods
from skipdit.core.what import differences, polynomial, taylor
from skipdit.methods.barycentric import Published
from skipdit.methods.chebyshev import Chebyshev
from skipdit.methods.hermite import Hermite

UNEVEN = [[9], [9, 6], [9, 6, 5], [9, 6, 5, 1]]


def apply(rule, seen, at, f):
    return sum(w * f(s) for w, s in zip(rule(seen, at), seen, strict=True))


@pytest.mark.parametrize("rule", [Hermite(0.5), Chebyshev(4, 0.1, 50), Published(1.0), Published(0.75)], ids=repr)
@pytest.mark.parametrize("seen", UNEVEN)
def test_every_rule_reproduces_a_constant(rule, seen):
    assert apply(rule, seen, 11, lambda _: 5.0) == pytest.approx(5)


def test_hermite_by_hand():
    """Newest f = 10, D1 = 4, D2 = 2, 3 ahead, sigma 1/2: h1 = 2 x/4 = 1.5, h2 = (4 (x/2)^2 - 2)/4 = 1.75."""
    values = {6: 10.0, 5: 6.0, 4: 4.0}
    assert apply(Hermite(0.5), [6, 5, 4], 9, values.get) == pytest.approx(10 + 4 * 1.5 + 2 * 1.75 / 2)


def test_hermite_s_first_order_is_taylor_s_at_the_square_root_of_a_half():
    assert Hermite(0.5**0.5)([6, 4], 9) == pytest.approx(taylor([6, 4], 9))


def test_differences_are_taylor_s_derivatives():
    assert differences([6, 4, 2]) == [[1, 0, 0], pytest.approx([0.5, -0.5, 0]), pytest.approx([0.25, -0.5, 0.25])]


@pytest.mark.parametrize("power", range(5))
def test_chebyshev_without_a_ridge_is_exact_up_to_its_degree(power):
    rule = Chebyshev(4, 1e-9, 20)
    assert apply(rule, [12, 9, 8, 5, 2, 1, 0], 15, lambda s: s**power) == pytest.approx(15**power, rel=1e-4)


def test_chebyshev_as_published_shrinks_what_stands_still():
    """One step at tau = 1: phi = (1, 1), so the weight is 2 / (2 + lambda)."""
    assert Chebyshev(1, 0.5, 10, paper=True)([10], 10) == pytest.approx([2 / 2.5])
    assert Chebyshev(1, 0.5, 10)([10], 10) == pytest.approx([1])


def test_chebyshev_polynomials():
    tau = 2 * torch.tensor([3.0, 7.0], dtype=torch.float64) / 10 - 1
    want = torch.stack([torch.cos(m * torch.acos(tau)) for m in range(5)], dim=1)
    assert torch.allclose(Chebyshev(4, 0.1, 10).basis([3, 7]), want)


@pytest.mark.parametrize(("seen", "degree"), [([9, 6], 1), ([9, 6, 5], 2), ([9, 6, 5, 1], 3)])
def test_barycentric_is_exact_for_polynomials_on_uneven_steps_and_as_published_is_not(seen, degree):
    rule = methods.barycentric(keep=len(seen)).what.rule
    assert rule is polynomial
    for power in range(degree + 1):
        assert apply(rule, seen, 11, lambda s, p=power: s**p) == pytest.approx(11**power)
    if degree > 1:
        published = methods.barycentric(keep=len(seen), paper=True).what.rule
        assert apply(published, seen, 11, lambda s: s**2) != pytest.approx(121, abs=1)


def test_barycentric_as_published_by_hand():
    """u = (1/2)/(8-6), -1/(8-4), (1/2)/(8-2), made to sum to 1: even steps and power 1 are exact for a line."""
    u = [0.25, -0.25, 1 / 12]
    assert Published(1.0)([6, 4, 2], 8) == pytest.approx([each * 12 for each in u])
    assert Published(0.5)([6, 4, 2], 8) == pytest.approx([0.5 * 12**0.5, -0.5 * 12**0.5, 1])
    assert apply(Published(1.0), [6, 4, 2], 8, lambda s: 3 * s - 1) == pytest.approx(23)


@torch.no_grad()
def test_taylorseer_forecasts_the_last_block_s_output():
    model, last = dit(None), []
    model.final_layer.register_forward_pre_hook(lambda _, args: last.append(args[0]))
    with attach(model, methods.taylorseer(every=3, order=1, warmup=2, lite=True)) as run:
        loop(model, run, steps=4)
    assert torch.allclose(last[2], 2 * last[1] - last[0])
    assert torch.allclose(last[3], 3 * last[1] - 2 * last[0])

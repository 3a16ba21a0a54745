"""The shortest path is the optimum, and annealing is never worse than its start."""

import itertools
import random

import pytest
import torch

from skipdit.core.what import polynomial
from skipdit.plan.fitted import Fitted, fit
from skipdit.plan.gram import curve, error
from skipdit.plan.search import Spent, anneal, gap_costs, shortest

T = 9


def gram(steps: int = T, seed: int = 0) -> torch.Tensor:
    """Inner products of a smooth random path."""
    torch.manual_seed(seed)
    y = torch.randn(steps, 40, dtype=torch.float64).cumsum(0).cumsum(0)
    return y @ y.T


def price(costs: torch.Tensor, mask: tuple[int, ...]) -> float:
    """What a mask costs, anchor by anchor."""
    anchors = [0, *mask, costs.shape[0]]
    return sum(costs[anchors[k], anchors[k + 1], anchors[k + 2]].item() for k in range(len(mask)))


@pytest.mark.parametrize("kind", ["hold", "polynomial", "fitted"])
@pytest.mark.parametrize("computed", [1, 2, 4, 7, T])
def test_the_shortest_path_is_the_best_of_all_masks(kind, computed):
    costs = gap_costs(gram(), kind, tilt=0.5)
    masks = [(0, *rest) for rest in itertools.combinations(range(1, T), computed - 1)]
    found = shortest(costs, computed)
    assert len(found) == computed
    assert price(costs, found) == pytest.approx(min(price(costs, mask) for mask in masks), rel=1e-9, abs=1e-12)


def test_gap_costs_are_what_the_estimators_err():
    y = torch.randn(T, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    table = y @ y.T
    weights = polynomial([4, 1], 6)
    said = ((weights[0] * y[4] + weights[1] * y[1] - y[6]).square().sum() / y[6].square().sum()).item()
    costs = gap_costs(table, "polynomial")
    assert error(table, [4, 1], weights, 6) == pytest.approx(said)
    assert (costs[1, 4, 7] - costs[1, 4, 6]).item() == pytest.approx(said)
    assert curve(table, 2)[3] == pytest.approx(((y[3] - y[5]).norm() / y[5].norm()).item())


def test_fitted_weights_are_the_least_squares_ones():
    y = torch.randn(T, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    rule = fit(y @ y.T, (0, 2, 5), keep=2, ridge=0)
    solution = torch.linalg.lstsq(y[[5, 2]].T, y[7]).solution.tolist()
    assert rule([5, 2], 7) == pytest.approx(solution)
    assert len(rule([0], 1)) == 1


def test_a_straight_path_is_forecast_without_error_and_computed_only_where_it_bends():
    along = torch.arange(T, dtype=torch.float64)
    y = torch.stack([torch.ones(T, dtype=torch.float64), along, (along - 5).clamp(min=0) * 10], 1)
    mask = shortest(gap_costs(y @ y.T, "polynomial"), 4)
    assert price(gap_costs(y @ y.T, "polynomial"), mask) == pytest.approx(0, abs=1e-9)
    assert {0, 1} < set(mask)


def toy(mask):
    return sum((a - b) ** 2 for a, b in zip(mask, (0, 3, 4, 11, 17), strict=True)) / 10


@pytest.mark.parametrize("seed", range(4))
def test_annealing_is_never_worse_than_its_start_and_deterministic(seed):
    start = (0, 1, 2, 3, 4)
    told = []
    found = anneal(start, toy, 20, 120, seed, on_try=lambda n, mask, value: told.append(value))
    assert found == anneal(start, toy, 20, 120, seed)
    assert found[1] == toy(found[0]) <= toy(start)
    assert found[1] < 0.5
    assert told == sorted(told, reverse=True)
    rough = {}

    def noise(mask):
        return rough.setdefault(mask, random.Random(hash(mask)).random() + (mask != start))

    assert anneal(start, noise, 20, 30, seed)[0] == start


def test_no_more_masks_are_tried_than_said_and_none_twice():
    asked = []
    anneal((0, 15, 29), lambda mask: asked.append(mask) or float(sum(mask)), 30, 25)
    assert len(asked) == len(set(asked)) == 26  # the start and 25 more
    assert all(mask[0] == 0 and len(mask) == 3 for mask in asked)


def test_time_running_out_ends_the_search_with_the_best_so_far():
    left = iter(range(10))

    def loss(mask):
        if next(left, None) is None:
            raise Spent
        return float(-sum(mask))

    mask, value = anneal((0, 1, 2), loss, 12, 500)
    assert value == -sum(mask) < -3


def test_refusals():
    with pytest.raises(ValueError, match="computed=12 of 9 steps"):
        shortest(gap_costs(gram(), "hold"), 12)
    with pytest.raises(ValueError, match="kind='cubic'"):
        gap_costs(gram(), "cubic")
    with pytest.raises(ValueError, match="first step must be among"):
        fit(gram(), (1, 3), 2)
    with pytest.raises(ValueError, match="no weights for 2 held values at step 4"):
        Fitted.of({4: [1.0]})([2, 0], 4)

"""Schedules as lists."""

import pytest

from skipdit import plan
from skipdit.core.policy import Policy
from skipdit.core.what import hold
from skipdit.core.when import At, Every, Window
from skipdit.core.where import Inner


def drawn(when, timesteps=range(10, 0, -1)):
    return "".join(".#"[computed] for computed in plan(Policy(Inner(), when, hold()), timesteps))


@pytest.mark.parametrize(
    ("when", "want"),
    [
        (Every(1), "##########"),
        (Every(2), "#.#.#.#.#."),
        (Every(3), "#..#..#..#"),
        (Every(99), "#........."),
        (Every(3, warmup=2), "##..#..#.."),
        (Every(3, warmup=3, tail=2), "###..#..##"),
        (At((3, 7)), "#..#...#.."),
        (At(()), "#........."),
        (Window(Every(2)), "#.#.#.#.#."),
        (Window(Every(2), hi=8), "###.#.#.#."),
        (Window(Every(3), hi=8, lo=2), "###..#..##"),
        (Window(Every(2), lo=3), "#.#.#.####"[:7] + "###"),
        (Window(Every(4), hi=0.7), "####...#.."),
        (Window(Every(99), lo=0.3), "#......###"),
        (Window(Every(99, tail=2), hi=9), "##......##"),
    ],
)
def test_plans(when, want):
    assert drawn(when) == want

"""Each test gets one thread, so that sums are the same in every process, and an Accelerate of its own."""

import sys

import pytest
import torch

from skipdit.networks.fetch import Unavailable, fetch


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def fresh_accelerate():
    yield
    if "accelerate.state" in sys.modules:  # it would keep the first test's precision for ever
        sys.modules["accelerate.state"].AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def network():
    """network("vgg16") sees to it that the weights are in the cache, or skips the test and says why they aren't."""
    had: dict[str, str | None] = {}

    def see_to(name):
        if name not in had:
            try:
                fetch([name])
                had[name] = None
            except Unavailable as error:
                had[name] = f"no weights of {name}: {error}"
        if had[name]:
            pytest.skip(had[name])

    return see_to

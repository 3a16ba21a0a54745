"""Each test gets one thread, so that sums are the same in every process, and an Accelerate of its own."""

import sys

import pytest
import torch


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

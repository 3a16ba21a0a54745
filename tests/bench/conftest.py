"""Each test gets one thread and an Accelerate of its own, and leaves no graphs behind."""

import pytest
import torch
from accelerate.state import AcceleratorState


@pytest.fixture(autouse=True)
def one_thread_and_nothing_left():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.compiler.reset()
    AcceleratorState._reset_state(reset_partial_state=True)

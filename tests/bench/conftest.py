"""Each test leaves no graphs behind."""

import pytest
import torch


@pytest.fixture(autouse=True)
def no_graphs_left():
    yield
    torch.compiler.reset()

"""Each test gets one thread, so that sums are the same in every process, and an Accelerate of its own."""

import importlib.util
import sys
from pathlib import Path

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


@pytest.fixture
def script_of(monkeypatch):
    """(name) -> a fresh module of docs/NAME.py, imported as it runs: with docs/ on the path."""
    docs = Path(__file__).parents[1] / "docs"

    def imported(name):
        monkeypatch.syspath_prepend(docs)
        spec = importlib.util.spec_from_file_location(name, docs / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return imported

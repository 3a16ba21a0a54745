"""A Chrome trace of one step computed and the next, which is stood in for: chrome://tracing or Perfetto opens it."""

from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from skipdit.aside import written_aside
from skipdit.core.policy import Policy
from skipdit.plan.study import Study


def stood_in(study: Study, policy: Policy) -> int:
    """The first step that a policy stands in for, by drawing the pictures; the one before it is computed, as step 0
    always is. Raises ValueError where there is none."""
    study.draw(policy)
    assert study.run is not None
    first = min((event.step for event in study.run.trace if not event.computed), default=None)
    if first is None:
        raise ValueError(f"--profile: in {study.steps} steps {policy} stands in for nothing: there is no such step")
    return first


def trace(study: Study, policy: Policy, first: int, path: Path) -> None:
    """Draw the pictures with a profiler that is on for two steps, `first` and the one before, and write the trace."""
    recorder = _Recorder({first - 1: f"step {first - 1}: computed", first: f"step {first}: stood in for"})
    recorder(0, study.steps)
    try:
        study.draw(policy, on_step=recorder)
    finally:
        recorder.stop()
    with written_aside(path) as aside:
        recorder.profiler.export_chrome_trace(str(aside))


class _Recorder:
    """Told of every step that is done, it has the profiler on during those that are named."""

    def __init__(self, names: dict[int, str]):
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self.names, self.profiler, self.on = names, profile(activities=activities), False
        self.label: Any = None

    def __call__(self, done: int, total: int) -> None:
        self._leave()
        name = self.names.get(done)
        if name is None:
            return self.stop()
        if not self.on:
            self.profiler.start()
            self.on = True
        self.label = record_function(name)
        self.label.__enter__()

    def stop(self) -> None:
        self._leave()
        if self.on:
            self.profiler.stop()
            self.on = False

    def _leave(self) -> None:
        if self.label is not None:
            self.label.__exit__(None, None, None)
            self.label = None

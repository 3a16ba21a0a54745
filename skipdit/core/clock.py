"""The clock of a loop that is not ours: steps, streams and new runs told apart by the calls themselves."""

from collections import Counter
from typing import Any, NamedTuple


class Call(NamedTuple):
    """What one pass through a model shows of the loop around it."""

    t: float | None  # the timestep, falling within a run
    at: float | None = None  # what differs from step to step: t, or the mean where each frame has its own
    name: str | None = None  # of the guidance branch, where the pipeline gives one
    shapes: Any = None  # of the tensors that the model is given
    era: Any = None  # the sampler's own list of timesteps: a new run makes a new one
    mark: Any = None  # the sampler's own count of steps, where it keeps one


class Tick(NamedTuple):
    """Where a pass stands."""

    run: int  # how many runs have begun
    index: int  # type: ignore[assignment]
    stream: str


class Clock:
    """Tells steps, streams and runs apart, and never by counting calls.

    A timestep that goes up again, or a sampler that was set anew, is a new run. A timestep that is repeated is another
    stream of the same step (a guidance branch), unless the sampler counts on: second-order solvers call twice at one
    timestep. Streams are told apart by the pipeline's name for them, by the shapes of what the model is given, and by
    how often the same has come at this step; so a run whose guidance stops early, or whose resolution changes, goes on
    in a stream of its own.
    """

    def __init__(self) -> None:
        self.runs, self.index, self.last = 0, -1, Call(None)
        self.came: Counter[Any] = Counter()  # calls of this step, by name and shapes
        self.shapes: list[Any] = []  # in the order in which they first came in this run
        self.aborted = False  # the last pass broke off

    def tick(self, call: Call) -> Tick:
        """The place of one more pass."""
        last, t = self.last, call.t
        back = t is not None and last.t is not None and t > last.t and call.mark in (None, last.mark)
        if not self.runs or self.aborted or back or call.era is not last.era:
            self.runs, self.index, self.shapes = self.runs + 1, 0, []
            self.came.clear()
        elif t is None or (t, call.at, call.mark) != (last.t, last.at, last.mark):
            self.index += 1
            self.came.clear()
        self.last, self.aborted = call, False
        return Tick(self.runs, self.index, self._stream(call))

    def _stream(self, call: Call) -> str:
        if call.shapes not in self.shapes:
            self.shapes.append(call.shapes)
        kind = (call.name, call.shapes)
        words = [call.name or "main"]
        if self.came[kind]:
            words.append(f"repeat {self.came[kind]}")
        if call.shapes != self.shapes[0]:
            words.append(f"shape {self.shapes.index(call.shapes)}")
        self.came[kind] += 1
        return ", ".join(words)

"""All that is mutable while one model samples once: the clock of every stream, what is held, the plan, the trace."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import product
from typing import Any, NamedTuple

from torch import Size, Tensor, nn

from skipdit.core.clock import Call, Clock
from skipdit.core.flops import Example, count_flops
from skipdit.core.policy import WATCHED, Flow, Leaf, Memory, Moment, Policy, Site, Span, Step
from skipdit.core.report import Report, report

Agree = Callable[[bool], bool]  # one process's verdict -> that of all

_active: ContextVar[Mapping[int, "Run"]] = ContextVar("skipdit_active_runs", default={})  # noqa: B039 (never mutated)
_NOBODY: Mapping[int, "Run"] = {}
_NO_TENSORS = {int, float, bool, str, Size, type(None)}


@contextmanager
def suspended() -> Iterator[None]:
    """No run is active inside: for a pass that must not be counted or changed."""
    token = _active.set(_NOBODY)
    try:
        yield
    finally:
        _active.reset(token)


def active(owner: object) -> "Run | None":
    """The run that this thread or task is in with a model (or with its trunk), if any."""
    run = _active.get().get(id(owner))
    return None if run is None or run.over else run


def idle() -> bool:
    """Whether runs are suspended here."""
    return _active.get() is _NOBODY


@contextmanager
def entered(run: "Run", *owners: object) -> Iterator[None]:
    """Make `run` the active one of these (a model and its trunk), for this thread or task, until the block ends."""
    token = _active.set({**_active.get(), **{id(owner): run for owner in owners}})
    try:
        yield
    finally:
        _active.reset(token)


class Loop:
    """What is known of the loop around a model: here, nothing but what its calls show."""

    def era(self) -> Any:
        """The sampler's own list of timesteps: a new run makes a new one."""
        return None

    def mark(self) -> Any:
        """The sampler's own count of steps."""
        return None

    def read(self, timestep: Tensor) -> float | None:
        """The sampler's timestep behind a tensor, where that can be known without waiting for a device."""
        return None

    def total(self, t: float | None) -> int | None:
        """How many steps there are from t to the end."""
        return None


class Event(NamedTuple):
    """One line of the trace: what was decided for a site in one pass."""

    step: int
    t: float | None
    stream: str
    site: Site
    computed: bool


class Pass:
    """What lives for one pass through the model and dies with it."""

    def __init__(self) -> None:
        self.verdicts: dict[Site, bool] = {}  # decided so far
        self.start: Flow | None = None  # the flow that entered the first block
        self.entries: dict[Site, Flow] = {}  # the flow that entered each site
        self.rounds: dict[Site, int] = {}  # how often that was: some models run their blocks several times a call
        self.gated: bool | None = None  # the gate's one verdict, once taken
        self.handed: set[int] = set()  # blocks that the model got by way of a stack
        self.called, self.ran = 0, 0  # blocks that were called, and that really ran
        self.taps: dict[int, Any] = {}  # outputs for the branches that start there


class Run:
    """The state of one sampling run. Made when sampling starts, gone when it ends; nothing else remembers anything.

    A sampler calls `begin(index, t, stream)` before each pass. In a foreign loop nobody does: then a `Clock` finds the
    step, the stream and the beginning of a run from the calls themselves, and the figures are those of the last run.
    """

    def __init__(
        self,
        policy: Policy,
        sites: Mapping[Site, list[str]],
        depth: int,
        total: int | None = None,
        clock: Clock | None = None,
        agree: Agree | None = None,
        loop: Loop | None = None,
    ):  # sites: the module paths that each one spares
        self.policy, self.sites, self.depth, self.total = policy, sites, depth, total
        self.clock, self.agree, self.loop = clock or Clock(), agree, loop or Loop()
        self.trace: list[Event] = []
        self.passes: list[tuple[Step, str, int]] = []  # (step, stream, blocks run) of every finished pass, once a step
        self.blocks_in_full = 0  # that the passes would have run uncached
        self.bytes_held = 0  # the most that was ever held at once
        self.example: tuple[nn.Module, Example] | None = None  # the model and one call's arguments, to count FLOPs with
        self.inside = False  # a pass is going on
        self.over = False  # it was released
        self._first = min(sites, key=lambda site: site.start if isinstance(site, Span) else -1)
        self._flops: Mapping[str, int] | None = None
        self.leaves = {leaf.path: leaf for leaf in sites if isinstance(leaf, Leaf)}
        self._spans = {i: s for s in sites if isinstance(s, Span) for i in range(s.start, s.stop)}
        self._edges = {0, *(i for s in self._spans.values() for i in (s.start, s.stop - 1))}
        self._memories: dict[tuple[str, Site, int], Memory] = {}
        self._schedules: dict[tuple[str, Site], Memory] = {}
        self._number = 0  # of the clock's run that the memories belong to
        self._begun = False
        self._together: tuple[Step, ...] = ()  # the steps of the pass that follows, where it is for several
        self._learns = hasattr(policy.when, "observe")
        self.step, self.stream = Step(0, total), "main"
        self.current = Pass()

    # ---- the clock

    def begin(self, index: int, t: float | None = None, stream: str = "main", total: int | None = None) -> None:
        """Name the step and the stream of the pass that follows. Step 0 forgets what the stream held."""
        self.total = total or self.total
        if index == 0:
            self.forget(stream)
        self.step, self.stream, self._begun, self._together = Step(index, self.total, t), stream, True, ()

    def begin_together(self, steps: Sequence[Step], stream: str) -> None:
        """Name several steps of a stream that the pass that follows stands in for in one batch: all rows of the first
        step, then all of the next. What the stream holds is repeated for them, for this pass alone.

        Raises ValueError where the schedule computes one of them.
        """
        own = f"{stream} x {len(steps)}"
        self.begin(steps[0].index, steps[0].t, own, steps[0].total)
        self._together = tuple(steps)
        tables: list[dict[Any, Any]] = [self._memories, self._schedules]
        for table in tables:
            held = {key: memory for key, memory in table.items() if key[0] == stream}
            table.update({(own, *key[1:]): _repeated(memory, len(steps)) for key, memory in held.items()})
        for step, site in product(steps, self.sites):  # the stream's schedule sees every step, as it would one by one
            if self.policy.when(self._schedules.setdefault((stream, site), {}), step, site, None):
                raise ValueError(
                    f"{site} is computed at step {step.index}: only what is stood in for goes in one batch"
                )

    def tick(self, call: Call) -> None:
        """The clock of a foreign loop: called before each pass that no sampler announced."""
        tick, self._together = self.clock.tick(call), ()
        if tick.run != self._number:
            self._number = tick.run
            self._memories.clear()
            self._schedules.clear()
            self.trace, self.passes, self.blocks_in_full = [], [], 0
            ahead = self.loop.total(call.t)
            self.total = self.total if ahead is None else tick.index + ahead
        self.step, self.stream = Step(tick.index, self.total, call.t), tick.stream

    @property
    def latest(self) -> bool:
        """Whether the model took part in the loop's last run: of several, one may have had nothing to do."""
        return self._number == self.clock.runs

    def open_pass(self, call: Callable[[], Call]) -> None:
        """A pass through the model begins: ask the schedule for every site. `call` is asked what the loop shows, where
        no sampler has said it."""
        if self.inside:
            self.break_off()  # Ctrl-C in the last pass
        if not self._begun:
            self.tick(call())
        self._begun = False
        self.current, self.inside = Pass(), True
        if not self.policy.when.gate:
            for site in self.sites:
                self._decide(site, None)

    def close_pass(self) -> None:
        """A pass is over: write it down. Raises RuntimeError where the blocks ran without passing the stack."""
        done, self.current, self.inside = self.current, Pass(), False
        if len(done.handed) != self.depth:
            raise RuntimeError(
                f"{self.depth - len(done.handed)} of {self.depth} blocks ran without passing the stack: the model does "
                "not iterate its list in forward, so the policy can't reach them"
            )
        for step in self._together or (self.step,):
            self.trace += [Event(step.index, step.t, self.stream, s, v) for s, v in done.verdicts.items()]
            self.passes.append((step, self.stream, done.ran))
            self.blocks_in_full += max(self.depth, done.called)
        if self._together:
            self._together = ()
            self.forget(self.stream)
        if any(done.verdicts.values()):
            self.bytes_held = max(self.bytes_held, _nbytes(self._memories) + _nbytes(self._schedules))

    def break_off(self) -> None:
        """A pass ended by an exception: what it left is not to be built on."""
        self.current, self.inside = Pass(), False
        self.clock.aborted = True

    # ---- what the stack asks

    def hand(self, index: int) -> None:
        """Block `index` is handed out by its stack."""
        self.current.handed.add(index)

    def just_runs(self, index: int) -> bool:
        """Whether a block just runs: nothing begins or ends there, and it is not stood in for. If so, it is counted."""
        now, span = self.current, self._spans.get(index)
        if index in self._edges or not (span is None or now.verdicts.get(span, True)):
            return False
        now.called += 1
        now.ran += 1
        return True

    def enter(
        self, index: int, flow: Flow, block: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Span | None:
        """A block is about to be called, with this flow among its arguments: the span it belongs to, if any."""
        now = self.current
        now.called += 1
        if index == 0:
            now.start = flow
        span = self._spans.get(index)
        if span is None:
            now.ran += 1
        elif index == span.start:
            now.entries[span] = flow
            now.rounds[span] = now.rounds.get(span, 0) + 1
            self._decide(span, Moment(now.start or flow, flow, block, args, kwargs))
        if span is not None and span not in now.entries:  # the model left out the block where it begins
            span, now.ran = None, now.ran + 1
        elif span is not None and now.verdicts[span]:
            now.ran += 1
        return span

    def realign(self, span: Span, change: Callable[[Tensor], Tensor]) -> None:
        """Bring the main stream that entered a span into the layout in which it leaves."""
        x, *others = self.current.entries[span]
        self.current.entries[span] = (change(x), *others)

    def enter_part(self, leaf: Leaf, flow: Flow, part: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """A part is about to be called, with this flow first among its arguments: compute it?"""
        now = self.current
        now.entries[leaf] = flow
        now.rounds[leaf] = now.rounds.get(leaf, 0) + 1
        if now.rounds[leaf] > 1 or leaf not in now.verdicts:
            self._decide(leaf, Moment(now.start or flow, flow, part, args, kwargs))
        return now.verdicts[leaf]

    def computes(self, site: Site) -> bool:
        return self.current.verdicts[site]

    def observe(self, site: Site, y: Flow) -> None:
        """A site was computed: let the estimator remember what it needs, and the gate learn. A site that is only
        watched is not remembered, so it is computed in every pass."""
        x = self.current.entries[site]
        if site.kind != WATCHED:
            memory = self._memories.setdefault(self._key(site), {})
            self._same_shapes(site, memory, x)
            self.policy.what.observe(memory, self.step, x, y)
        if self._learns:
            key = (self.stream, self._first if self.policy.when.gate else site)
            learnt = self._schedules.setdefault(key, {})
            self.policy.when.observe(learnt, self.step, site, x, y)  # type: ignore[attr-defined]

    def predict(self, site: Site) -> Flow:
        """What stands in for a site."""
        memory, x = self._memories[self._key(site)], self.current.entries[site]
        self._same_shapes(site, memory, x)
        return self.policy.what.predict(memory, self.step, x)

    def _key(self, site: Site) -> tuple[str, Site, int]:
        """Where a site's memory is: every round of a pass has its own."""
        return self.stream, site, self.current.rounds.get(site, 1)

    def _same_shapes(self, site: Site, memory: Memory, x: Flow) -> None:
        """Raises ValueError by name where the shapes have changed: a broadcast would go unnoticed."""
        shapes = [None if tensor is None else tensor.shape for tensor in x]
        if memory.setdefault("shapes", shapes) != shapes:
            raise ValueError(
                f"{site} of stream {self.stream!r} remembers {tuple(memory['shapes'][0])} but now gets "
                f"{tuple(shapes[0])}: one batch shape a run; attach anew for another batch"
            )

    # ---- the decision

    def _decide(self, site: Site, moment: Moment | None) -> None:
        """Compute the site or not, once a pass. One verdict of a gate serves all sites of the pass."""
        now, when = self.current, self.policy.when
        if site in now.verdicts:  # one round more than before has nothing to stand in
            now.verdicts[site] = now.verdicts[site] or self._key(site) not in self._memories
            return
        if not when.gate:
            verdict = when(self._schedules.setdefault((self.stream, site), {}), self.step, site, moment)
        else:
            if now.gated is None:
                first = self._schedules.setdefault((self.stream, self._first), {})
                now.gated = when(first, self.step, site, moment)
                now.gated = now.gated if self.agree is None else self.agree(now.gated)
            verdict = now.gated
        now.verdicts[site] = verdict or self._key(site) not in self._memories

    def forget(self, stream: str | None = None) -> None:
        """Let go of what a stream holds, or of what all do: the pass that follows computes."""
        tables: list[dict[Any, Any]] = [self._memories, self._schedules]
        for kept in tables:
            for key in [k for k in kept if stream in (None, k[0])]:
                del kept[key]

    def release(self) -> None:
        """The run is over: let go of every tensor; the trace and the figures stay."""
        self.over = True
        self._memories.clear()
        self._schedules.clear()
        self.current = Pass()

    def flops(self) -> Mapping[str, int]:
        """FLOPs of every module in one pass, {path: FLOPs}; "" is the whole model. Empty before the first pass."""
        if self._flops is None and self.example is not None:
            with suspended():
                self._flops = count_flops(*self.example)
        return self._flops or {}

    def report(self) -> Report:
        """Steps computed and stood in, blocks run, FLOPs spared, the ideal speed-up they imply, bytes held."""
        return report(self)


def _nbytes(memory: Any) -> int:
    """Of all tensors inside, each counted once."""
    found, inside = {}, [memory]
    while inside:
        value = inside.pop()
        if type(value) in _NO_TENSORS:
            continue
        if isinstance(value, Tensor):
            found[id(value)] = value.nbytes
        elif isinstance(value, dict):
            inside.extend(value.values())
        elif isinstance(value, (list, tuple)):
            inside.extend(value)
    return sum(found.values())


def _repeated(memory: Any, times: int) -> Any:
    """A memory for a batch of so many steps: every tensor in it as often, row after row, and its shape."""
    if isinstance(memory, Tensor):
        return memory.repeat(times, *[1] * (memory.dim() - 1))  # (N B, ...)
    if isinstance(memory, Size):
        return Size((times * memory[0], *memory[1:]))
    if isinstance(memory, dict):
        return {key: _repeated(value, times) for key, value in memory.items()}
    if isinstance(memory, (list, tuple)):
        return type(memory)(_repeated(value, times) for value in memory)
    return memory

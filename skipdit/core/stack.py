"""A list of blocks that joins skip branches and lets a run stand in for blocks; its children keep their names."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from skipdit.core.backbone import Contract
from skipdit.core.run import Run, active

Taps = dict[int, tuple[Tensor, bool]]  # what a pass has tapped: {block: (output, with gradient?)}


class Stack(nn.ModuleList):
    """The same blocks under the same names. Iterating it yields one callable a block.

    What one pass remembers is a local of that pass and dies with it. Taps are read, never popped: gradient
    checkpointing calls a block again.
    """

    def __init__(self, blocks: Iterable[nn.Module], contract: Contract):
        super().__init__(blocks)
        self.contract = contract
        self.places = [contract.places(block) for block in self.children()]
        self.joins: dict[int, tuple[int, nn.Module]] = {}  # target -> (source, join)
        self.passed = False  # has a pass ever iterated this list?

    def __iter__(self) -> Iterator[Any]:
        run = active(self)
        if run is None and not self.joins:
            return super().__iter__()
        return self._gates(run)

    def _gates(self, run: Run | None) -> Iterator["Gate"]:
        self.passed = True
        sources = {source for source, _ in self.joins.values()}
        taps: Taps = {}
        for index, block in enumerate(self._modules.values()):
            yield Gate(self, index, block, run, taps, index in sources)


class Gate:
    """One block in one pass: called like the block, it joins the branch and runs, or lets the run stand in.

    For everything else it is the block: attributes are the block's.
    """

    __slots__ = ("block", "index", "run", "stack", "tap", "taps")

    def __init__(self, stack: Stack, index: int, block: Any, run: Run | None, taps: Taps, tap: bool):
        self.stack, self.index, self.block, self.run, self.taps, self.tap = stack, index, block, run, taps, tap

    def __getattr__(self, name: str) -> Any:
        return getattr(self.block, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        stack, index, run = self.stack, self.index, self.run
        contract, places, span = stack.contract, stack.places[index], None
        if run is not None:
            flow = contract.entering(places, args, kwargs)
            span = run.enter(index, flow)
            if span is not None and not run.computes(span):
                return contract.returned(run.predict(span) if index == span.stop - 1 else flow)
        if index in stack.joins:
            source, join = stack.joins[index]
            x = contract.entering(places, args, kwargs)[0]  # (B, T, D)
            args, kwargs = contract.replace_main(places, args, kwargs, join(x, _tapped(self.taps, source)))
        returned = self.block(*args, **kwargs)
        if self.tap:
            self.taps.setdefault(index, (contract.leaving(returned)[0], torch.is_grad_enabled()))
        if span is not None and index == span.stop - 1:
            run.observe(span, contract.leaving(returned))  # type: ignore[union-attr]
        return returned


def _tapped(taps: Taps, source: int) -> Tensor:
    """The skip (B, T, D). Raises RuntimeError where its gradient was lost: it was tapped without, and now is needed."""
    s, graded = taps[source]
    if torch.is_grad_enabled() and not graded:
        raise RuntimeError(
            f"block {source} ran under reentrant checkpointing, which hides the gradient of its skip branch: "
            "checkpoint with use_reentrant=False"
        )
    return s

"""A list of blocks that joins skip branches and lets a run stand in for blocks; its children keep their names."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skipdit.core.backbone import Contract
from skipdit.core.run import Run, active


class Stack(nn.ModuleList):
    """The same blocks under the same names. Iterating it yields one callable a block.

    What one pass remembers (the taps for the joins, the flow that entered a span) is a local of that pass and dies
    with it. Taps are read, never popped: gradient checkpointing calls a block again.
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

    def _gates(self, run: Run | None) -> Iterator[Callable[..., Any]]:
        self.passed = True
        tapped = {source for source, _ in self.joins.values()}
        taps: dict[int, tuple[Tensor, bool]] = {}
        for index, block in enumerate(self._modules.values()):
            if run is None and index not in self.joins and index not in tapped:
                yield block  # type: ignore[misc]
            else:
                yield partial(self._through, run, taps, index, block, index in tapped)

    def _through(
        self,
        run: Run | None,
        taps: dict[int, tuple[Tensor, bool]],
        index: int,
        block: nn.Module,
        tap: bool,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """One block: join its branch and run it, or let the run stand in for the span that it belongs to."""
        places, span = self.places[index], None
        if run is not None:
            flow = self.contract.entering(places, args, kwargs)
            span = run.enter(index, flow)
            if span is not None and not run.computes(span):
                return self.contract.returned(run.predict(span) if index == span.stop - 1 else flow)
        if index in self.joins:
            source, join = self.joins[index]
            x = self.contract.entering(places, args, kwargs)[0]  # (B, T, D)
            args, kwargs = self.contract.replace_main(places, args, kwargs, join(x, _tapped(taps, source)))
        returned = block(*args, **kwargs)
        if tap:
            taps.setdefault(index, (self.contract.leaving(returned)[0], torch.is_grad_enabled()))
        if span is not None and index == span.stop - 1:
            run.observe(span, self.contract.leaving(returned))  # type: ignore[union-attr]
        return returned


def _tapped(taps: dict[int, tuple[Tensor, bool]], source: int) -> Tensor:
    """The skip (B, T, D). Raises RuntimeError where its gradient was lost: it was tapped without, and now is needed."""
    s, graded = taps[source]
    if torch.is_grad_enabled() and not graded:
        raise RuntimeError(
            f"block {source} ran under reentrant checkpointing, which hides the gradient of its skip branch: "
            "checkpoint with use_reentrant=False"
        )
    return s

"""What one pass tells of a model besides its contracts: parts, timestep, breaks in the flow, long skips."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

from torch import Tensor, nn

from skipdit.core.backbone import Contract, Pairs, as_given, no_breaks, no_skips, thousandths
from skipdit.onepass import STRONG, OnePass, Read, Visit, bare

ROLES = {
    "cross": r"cross|attn2|attention_?2",
    "attn": r"att|mhba",
    "mlp": r"mlp|ff|feed_?forward|dense|transition|moe",
}


@dataclass(frozen=True)
class Places:
    """Places before which the flow starts anew, as they were seen."""

    at: tuple[int, ...]

    def __call__(self, model: Any) -> tuple[int, ...]:
        return self.at


@dataclass(frozen=True)
class Skips:
    """Long skips, as they were seen."""

    pairs: tuple[tuple[int, int], ...]

    def __call__(self, depth: int) -> Pairs:
        return self.pairs


def breaks_of(seen: OnePass, visits: list[Visit], stacks: Mapping[str, Contract]) -> Any:
    """Where the main stream is not what the block before returned, though the list goes on; and where it is, but the
    model makes something else of it too, between the blocks."""
    at = []
    for place, (before, visit) in enumerate(pairwise(visits), start=1):
        if before.path != visit.path:
            continue
        contract = stacks[visit.path]
        main = None if contract.returns is None else contract.returns[0]
        links = {link.name: link.how for link in visit.links if link.source == before.path and link.place == main}
        elsewhere = any(links.get(name) in STRONG for name in contract.names[1:])
        anew = links.get(contract.names[0]) not in STRONG and (elsewhere or contract.names[0] in visit.anew)
        of, turn = seen.visits.index(before), seen.visits.index(visit)
        if anew or (links.get(contract.names[0]) == "same" and Read(of, main, turn, False) in seen.reads):
            at.append(place)
    return Places(tuple(at)) if at else no_breaks


def native_of(seen: OnePass, visits: list[Visit]) -> Any:
    """Blocks whose output is read by a later block than the next, or between that and the one before it."""
    turns = [seen.visits.index(visit) for visit in visits]
    pairs = set()
    for read in seen.reads:
        if read.of in turns and (not read.inside or read.at in turns):
            target = next((place for place, turn in enumerate(turns) if turn >= read.at), len(turns))
            pairs.add((turns.index(read.of), target))
    far = sorted(pair for pair in pairs if pair[1] - pair[0] > 1)
    return Skips(tuple(far)) if far else no_skips


def timestep_of(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Any]:
    """The argument that carries the timestep, and what brings it into the sampler's units, as far as one call shows."""
    names = list(inspect.signature(bare(model).forward).parameters)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    words = (r"timesteps?|t", r"timestep", r"(^|_)(time|t|sigmas?|noise_level)(_|$)")
    for word in words:
        match = re.fullmatch if word is words[0] else re.search
        for name, value in given.items():
            number = isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() > 0)
            if number and not isinstance(value, bool) and match(word, name):
                whole = isinstance(value, int) or (isinstance(value, Tensor) and not value.is_floating_point())
                most = float(value.max() if isinstance(value, Tensor) else value)
                return name, thousandths if most <= 1 and not whole else as_given
    return "timestep", as_given  # there is none: steps are told apart by the calls alone


def parts_of(visits: list[Visit], stacks: Mapping[str, Contract]) -> dict[str, str | tuple[str, ...]]:
    """How blocks spell their attention and feed-forward: called once, and on the main stream."""
    found: dict[str, list[str]] = {}
    for visit in visits:
        flow = [prod(visit.entered[name]) for name in stacks[visit.path].names if name in visit.entered]
        flow = flow or [prod(shape) for shape in visit.entered.values()][:1]
        whole = (flow[0], sum(flow))  # the main stream, or all streams in one sequence
        parts = [p for p, (x, y, times, _) in visit.parts.items() if prod(x) == prod(y) in whole and times == 1]
        for part in sorted(parts, key=lambda p: p.count(".")):
            if any(part.startswith(f"{other}.") for other in parts):
                continue
            kind = type(visit.block.get_submodule(part)).__name__
            words = (part.rpartition(".")[2], kind)
            role = next((r for word in words for r, pattern in ROLES.items() if re.search(pattern, word, re.I)), None)
            if role == "cross" and not visit.parts[part].crossed and "cross" not in (part + kind).lower():
                role = "attn"  # attn2, but it looks at nothing else
            if role and part not in found.setdefault(role, []):
                found[role].append(part)
    return {role: spelled[0] if len(spelled) == 1 else tuple(spelled) for role, spelled in found.items()}

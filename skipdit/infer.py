"""infer(model, ...): how a model of an unknown class is laid out, found out from one pass with read-only hooks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from torch import nn

from skipdit.core.backbone import Backbone, Contract, transposed
from skipdit.onepass import STRONG, Link, OnePass, Out, Visit
from skipdit.traits import breaks_of, native_of, parts_of, timestep_of

SMALL = 0.1  # a list whose blocks have less than this share of the parameters of the trunk's own is not of the trunk


def infer(model: nn.Module, *args: Any, **kwargs: Any) -> Backbone:
    """How a model of any class is laid out, from one pass: `attach(model, policy, backbone=infer(model, x, t))`.

    args, kwargs    of one call. The model runs once without gradients; nothing about it is changed

    The lists of blocks, the order in which they run, how the flow enters and leaves a block, the parts of blocks, the
    timestep's name, where the flow starts anew and the long skips (an operation of torch that reads what an earlier
    block returned) are read off the tensors that pass. What one call can't show: in which units the timestep is given.
    A number with a fraction, up to 1, is taken for thousandths; for a model that is given 1 - t, say
    `dataclasses.replace(found, time=skipdit.core.backbone.rising)`.
    Raises TypeError where no blocks are found, or where they run in a way that no stack can follow.
    """
    name = type(model).__name__
    seen = OnePass(model, args, kwargs)
    if not seen.visits:
        raise TypeError(
            f"infer: {name} ran no block of an nn.ModuleList: hold its blocks in a list, or pass a Backbone"
        )
    paths, zipped = _trunk(seen)
    visits = [visit for visit in seen.visits if visit.path in paths]
    _check_order(model, paths, visits)
    stacks: dict[str, Contract] = {}
    for path in paths:
        stacks[path] = _contract(seen, visits, path, paths if zipped else [path])
        if stacks[path].within and len(stacks) > 1:  # its parts' names say nothing: the stream is the one before
            stacks[path] = replace(stacks[path], names=list(stacks.values())[-2].names)
    if zipped:
        stacks = _layouts(visits, stacks)
    _check_shapes(name, visits, stacks)
    timestep, time = timestep_of(model, args, kwargs)
    width = visits[0].entered[next(iter(stacks.values())).names[0]][-1]
    breaks, native = breaks_of(seen, visits, stacks), native_of(seen, visits)
    return Backbone(stacks, zipped, parts_of(visits, stacks), timestep, time, breaks, native, str(width))


# ---- the trunk


def _trunk(seen: OnePass) -> tuple[list[str], bool]:
    """The lists that make the trunk in running order, and whether they take turns."""
    turns: dict[str, list[int]] = {}
    sizes: Counter[str] = Counter()
    for place, visit in enumerate(seen.visits):
        turns.setdefault(visit.path, []).append(place)
        sizes[visit.path] += sum(p.numel() for p in visit.block.parameters())
    main = _largest(seen, sizes)
    partners = [path for path in turns if path == main or _alternate(seen, turns, main, path)]
    if len(partners) > 1:
        return partners, True
    big = [p for p in turns if sizes[p] / len(turns[p]) >= SMALL * sizes[main] / len(turns[main])]
    at = big.index(main)
    trunk = [main]
    for path in reversed(big[:at]):
        if turns[path][-1] < turns[trunk[0]][0] and _goes_on(seen, path, trunk[0]):
            trunk.insert(0, path)
    for path in big[at + 1 :]:
        if turns[path][0] > turns[trunk[-1]][-1] and _goes_on(seen, trunk[-1], path):
            trunk.append(path)
    return trunk, False


def _largest(seen: OnePass, sizes: Counter[str]) -> str:
    """The list with the most parameters among those through which something flows. Raises TypeError if none is."""
    refused: TypeError | None = None
    for path, _ in sizes.most_common():
        try:
            _contract(seen, seen.visits, path, [path])
            return path
        except TypeError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _alternate(seen: OnePass, turns: dict[str, list[int]], main: str, path: str) -> bool:
    """Whether two lists take turns and hand the flow to each other."""
    if len(turns[path]) != len(turns[main]) or len(turns[main]) < 2:
        return False
    a, b = sorted([turns[main], turns[path]])
    if not all(x < y for x, y in zip(a, b, strict=True)) or not all(y < x for x, y in zip(a[1:], b, strict=False)):
        return False
    return all(
        any(link.source == source and link.how in STRONG for i in turns[target] for link in seen.visits[i].links)
        for source, target in ((main, path), (path, main))
    )


def _goes_on(seen: OnePass, before: str, after: str) -> bool:
    """Whether what a list's last block returns, alone or joined into one sequence, is the next list's main stream."""
    last = next(v for v in reversed(seen.visits) if v.path == before)
    first = next(v for v in seen.visits if v.path == after)
    try:
        here = _contract(seen, seen.visits, before, [before])
        there = _contract(seen, seen.visits, after, [after])
    except TypeError:
        return False
    main = there.names[0]
    places: Sequence[Out] = [None] if here.returns is None else here.returns
    links = {link.place: link.how for link in first.links if link.source == before and link.name == main}
    if links.get(places[0]) in STRONG:
        return True
    if links.get(places[0]) == "alike" and type(last.block) is type(first.block):  # joined or changed on the way
        end, start = seen.visits.index(last), seen.visits.index(first)
        return any(read.of == end and read.at <= start - read.inside for read in seen.reads)
    tokens = sum(last.left[place][1] for place in places if len(last.left.get(place, ())) == 3)
    return "within" in links.values() and tokens == first.entered[main][1]


def _check_order(model: nn.Module, paths: list[str], visits: list[Visit]) -> None:
    for path in paths:
        where = f"{type(model).__name__}.{path}"
        ran = [visit.number for visit in visits if visit.path == path]
        found = model.get_submodule(path)
        whole = list(range(len(found))) if isinstance(found, nn.ModuleList) else [None]
        if len(set(ran)) < len(ran):
            raise TypeError(f"infer: blocks of {where} run more than once in one pass: which of the times is spared?")
        if ran != whole:
            raise TypeError(
                f"infer: {where} holds {len(whole)} blocks, which ran as {ran}: a list runs from end to end"
            )


# ---- the contract


def _contract(seen: OnePass, visits: list[Visit], path: str, ring: list[str]) -> Contract:
    """How the flow passes through the blocks of a list; `ring` names the lists that take turns."""
    own = [visit for visit in visits if visit.path == path]
    before, after = ring[ring.index(path) - 1], ring[(ring.index(path) + 1) % len(ring)]
    if len(own) == 1:
        streams = _own(own[0])
    elif len(ring) == 1:
        streams = _streams(seen, [visit.links for visit in own[1:]], path, path)
    else:
        entering = _streams(seen, [v.links for v in own if v is not visits[0]], before, path)
        leaving = _streams(seen, [v.links for v in visits if v.path == after and v is not visits[0]], path, after)
        streams = {
            place: name
            for place in leaving
            for name in entering.values()
            if own[0].left.get(place) == own[0].entered.get(name)
        }
    kind = type(own[0].block).__name__
    if not streams:
        raise TypeError(
            f"infer: nothing that a block of {path!r} ({kind}) returns enters the next: pass backbone=Backbone(...)"
        )
    same = [name for place, name in streams.items() if all(place in visit.unchanged for visit in own)]
    if same:
        raise TypeError(
            f"infer: blocks of {path!r} ({kind}) give {same[0]!r} back as it came: where they are stood in for, an old "
            "one would come back; let them return what they change"
        )
    order, end = own[0].names, seen.visits.index(own[-1])
    used = {read.place for read in seen.reads if read.of == end}  # the main stream is, when all blocks have run
    flow = sorted(streams.items(), key=lambda stream: (stream[0] not in used, order.index(stream[1])))
    names = tuple(name for _, name in flow)
    returns = None if flow[0][0] is None else tuple(int(place) for place, _ in flow)  # type: ignore[arg-type]
    return Contract(names, returns, within=tuple(own[0].within))


def _streams(seen: OnePass, entries: list[list[Link]], source: str, target: str) -> dict[Out, str]:
    """{place in what a block returns: the name under which it enters the next}, by most of the blocks."""
    strong: Counter[tuple[Out, str]] = Counter()
    alike: Counter[tuple[Out, str]] = Counter()
    for links in entries:
        for link in links:
            if link.source == source and link.how in STRONG:
                strong[link.place, link.name] += 1
            elif link.source == source and link.how == "alike" and not seen.constant[target, link.name]:
                alike[link.place, link.name] += 1
    streams: dict[Out, str] = {}
    for place, name in sorted({*strong, *alike}, key=lambda s: (-strong[s], -alike[s], s[0] or 0)):
        often = 2 * (strong[place, name] + alike[place, name]) > len(entries)
        if often and place not in streams and name not in streams.values():
            streams[place] = name
    return streams


def _own(block: Visit) -> dict[Out, str]:
    """Of a single block: what it returns in the shape of its first argument."""
    first = block.names[0] if block.names else ""
    return {place: first for place, shape in list(block.left.items())[:1] if shape == block.entered.get(first)}


def _layouts(visits: list[Visit], stacks: dict[str, Contract]) -> dict[str, Contract]:
    """Lists that take turns: each that lays the main stream out otherwise than the first names what brings it there."""
    laid, other = dict(stacks), False
    for before, path in pairwise(stacks):
        main = stacks[path].names[0]
        links = [link for visit in visits if visit.path == path for link in visit.links]
        other ^= any(link.how == "moved" and (link.source, link.name) == (before, main) for link in links)
        laid[path] = replace(stacks[path], layout=transposed) if other else stacks[path]
    return laid


def _check_shapes(name: str, visits: list[Visit], stacks: dict[str, Contract]) -> None:
    """Raises TypeError where what leaves a block can't take the place of what enters it."""
    for visit in visits:
        contract = stacks[visit.path]
        place = None if contract.returns is None else contract.returns[0]
        entered, left = visit.entered.get(contract.names[0]), visit.left.get(place)
        if visit.within:
            continue  # its parts have names of their own
        if entered != left:
            raise TypeError(
                f"infer: block {visit.number} of {name}.{visit.path} turns {entered} into {left}: a block that changes "
                "the shape can't be stood in for"
            )
        links = (link for link in visit.links if link.source == visit.path and link.name == contract.names[0])
        if len(stacks) == 1 and any(link.how == "moved" for link in links):
            raise TypeError(
                f"infer: {name}.{visit.path} holds blocks of two layouts: hold each kind in a list of its own"
            )

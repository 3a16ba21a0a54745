"""Side by side with the peers, at tiny sizes: the same work spared, the same errors, and nobody missing."""

from contextlib import ExitStack, contextmanager

import pytest
import torch

from skipdit.bench import peers
from skipdit.bench.families import FAMILIES, Size
from skipdit.bench.options import Options, Skipped
from skipdit.bench.peers_idle import idle
from skipdit.bench.peers_ready import Plan, nothing
from skipdit.bench.peers_turns import Candidate, copies, take_turns

TINY = Options(steps=4, repeats=1)
SIZE = Size(depth=6, heads=1, side=16)
NAMES = ("Latte", "SD3", "Flux")


@pytest.fixture(scope="module")
def found():
    pytest.importorskip("cache_dit", reason="cache-dit is not installed: pip install -e '.[dev]'")
    return {record.name: record.figures for record in peers.measure(TINY, NAMES, SIZE)}


def test_everybody_is_there_on_every_family(found):
    candidates = {peers.PLAIN}
    for contest in peers.CONTESTS:
        if "Flux" in contest.only:
            candidates |= {f"skipdit, {contest.name}", *contest.peers}
    for name in NAMES:
        assert {
            key.removeprefix(f"{name}: ") for key in found if key.startswith(name) and ", over " not in key
        } == candidates


def test_ours_spare_work_everywhere(found):
    ours = {name: figures for name, figures in found.items() if ": skipdit" in name}
    assert len(ours) == 3 * (len(peers.CONTESTS) - 1)
    assert all(figures["ideal"] > 1.1 and 0 < figures["error"] < 0.1 for figures in ours.values())


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("Latte: FirstBlockCache", "raises RuntimeError"),
        ("Latte: MagCache", "raises RuntimeError"),
        ("Latte: cache-dit F1B0", "raises ValueError"),
        ("Latte: TaylorSeer", "skips nothing"),
        ("SD3: FirstBlockCache", "raises TypeError"),
        ("SD3: cache-dit F1B0", "by a BlockAdapter"),
    ],
)
def test_peers_that_raise_or_do_nothing_say_so(found, name, note):
    assert found[name]["note"].startswith(note)
    assert (found[name]["speedup"] is None) == note.startswith("raises")


@pytest.mark.parametrize(
    "name",
    [
        "first block runs, over cache-dit F1B0",
        "first block runs, over FirstBlockCache on a schedule",
        "both ends run, over cache-dit F1B1",
        "no block runs, over MagCache",
        "no attention runs, over PAB",
        "a gate decides, over FirstBlockCache",
    ],
)
def test_the_same_work_leads_to_the_same_error(found, name):
    figures = found[f"Flux: {name}"]
    assert figures["work_over_theirs"] == pytest.approx(1, abs=1e-3)
    assert figures["error_over_theirs"] == pytest.approx(1, abs=1e-3)
    assert figures["faster"] > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_idle_blocks_are_a_small_part_of_a_model(name):
    """And what they leave of it runs, with what the blocks gave back in the same shape."""
    family = FAMILIES[name]
    make, noise = copies(family.model(SIZE)), torch.randn(family.shape(SIZE.side))
    plan = lambda: Plan(1, 1, 1.0, family.named)  # noqa: E731
    real, empty = {"": Candidate(nothing)}, {"": Candidate(nothing)}
    take_turns(family, make, real, noise, plan, 0, print)
    take_turns(family, lambda: idle(make()), empty, noise, plan, 0, print)
    assert not real[""].raised
    assert not empty[""].raised
    assert real[""].x.shape == empty[""].x.shape
    assert empty[""].flops < real[""].flops / 2


def test_one_that_raises_midway_ends_alone():
    @contextmanager
    def breaks(model, plan):
        model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyError("gone")))
        yield

    family = FAMILIES["DiT"]
    tried = {"good": Candidate(nothing), "bad": Candidate(breaks)}
    noise = torch.randn(family.shape(SIZE.side))
    take_turns(family, copies(family.model(SIZE)), tried, noise, lambda: Plan(2, 2, 1.0, False), 2, print)
    assert tried["bad"].raised == "KeyError: 'gone'"
    assert [len(seconds) for seconds in tried["good"].rounds] == [2, 2]
    assert tried["bad"].rounds == []


def test_copies_share_their_weights():
    model = FAMILIES["Wan"].model(SIZE)
    copy = copies(model)()
    assert copy is not model
    assert all(a is b for a, b in zip(copy.parameters(), model.parameters(), strict=True))
    with ExitStack() as exits:
        Candidate(nothing).begin(copy, Plan(1, 1, 1.0, True), exits)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    with pytest.raises(Skipped, match="pip install cache-dit"):
        peers.measure(TINY)
    with pytest.raises(Skipped, match="CPU time"):
        peers.measure(Options(device="cuda"))

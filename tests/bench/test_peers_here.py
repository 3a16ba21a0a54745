"""Peers on a model of ours: those that fit draw in the same rounds, the others are refused with what they say."""

from contextlib import contextmanager
from importlib import metadata

import pytest
import torch
from torch import nn

pytest.importorskip("cache_dit")

from skipdit.attach import attach
from skipdit.backbones.dit import DiT
from skipdit.bench import peers_here
from skipdit.bench.candidates import Setting
from skipdit.bench.compare import compare
from skipdit.bench.peers_here import PEERS, ideal, made_ready, plan_of, tried
from skipdit.catalog import parse
from skipdit.core.policy import Policy
from skipdit.core.what import residual
from skipdit.core.when import Every
from skipdit.core.where import Inner
from skipdit.results import read

SETTING = Setting("ddim", steps=6, guidance=2.0, pairs=2, batch=2)
F1B0, MAG, PAB = (next(name for name in PEERS if word in name) for word in ("F1B0", "MagCache", "PAB"))


def made(skips):
    torch.manual_seed(0)
    sizes = dict(input_size=8, patch_size=4, in_channels=3, hidden_size=32, depth=4, num_heads=2, num_classes=5)
    model = DiT(**sizes, skips=skips)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(peers_here, "PEERS", {name: PEERS[name] for name in (F1B0, MAG, PAB)})


def test_who_fits_and_why_the_others_do_not(few):
    plain, skip = (tried(m, next(SETTING.batches(m))) for m in (made(None), made("replace")))
    assert set(plain.fit) == {F1B0, MAG}
    assert plain.fit[F1B0] == ["by a BlockAdapter"]
    assert plain.refused == {PAB: "skips nothing, and doesn't say so"}
    assert set(skip.fit) == {F1B0}
    assert skip.refused[MAG].startswith("raises AttributeError: 'Gate'")


def test_what_is_not_installed_or_draws_another_picture_is_refused(few, monkeypatch):
    @contextmanager
    def broken(model, plan):
        model.final_layer.linear = nn.Linear(32, model.final_layer.linear.out_features)
        yield

    monkeypatch.setitem(peers_here.PEERS, "broken", ("torch", broken))
    monkeypatch.setitem(peers_here.PEERS, "absent", ("nonesuch", broken))
    model = made(None)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    refused = tried(model, next(SETTING.batches(model))).refused
    assert "another picture where it computes every step" in refused["broken"]
    assert "nonesuch is not installed" in refused["absent"]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())  # copies were changed


def test_a_peer_is_right_where_ours_is():
    """cache-dit's F1B0 on a schedule is a residual held behind the first block."""
    model = made(None)
    study = next(SETTING.batches(model))
    with made_ready(model, F1B0, plan_of(6)) as copy:
        theirs = study.on(copy).draw()
    ours = study.draw(Policy(Inner(1, 0), Every(2), residual()))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-4)
    assert ideal(study, F1B0, 6) == pytest.approx(study.run.report().ideal_speedup, rel=0.02)


def test_peers_are_rows_of_the_same_rounds(tmp_path):
    model, out = made("replace"), tmp_path / "b.jsonl"
    records = compare("tiny", model, [SETTING], ["skip_cache(every=2)"], out, peers=[F1B0])
    assert read(out) == records
    (peer,) = (record for record in records if record.figures["kind"] == "peer")
    (full,) = (record for record in records if record.figures["kind"] == "uncached")
    assert peer.policy == F1B0
    assert full.figures["psnr"]["mean"] == 100
    assert 5 < peer.figures["psnr"]["mean"] < 100
    assert peer.figures["ideal_speedup"] > 1
    assert peer.figures["bytes_held"] is None
    assert peer.figures["fewer_steps"]["steps"] <= 6
    keys = [line.figures["key"] for line in read(out.with_suffix(".rounds.jsonl"))]
    assert {key["number"] for key in keys} == {0}
    assert {key["version"] for key in keys if "version" in key} == {f"cache-dit {metadata.version('cache-dit')}"}
    assert compare("tiny", model, [SETTING], ["skip_cache(every=2)"], out, peers=[F1B0]) == records  # known: not drawn
    with attach(model, parse("skip_cache(every=2)")):  # nothing of the peer is left on the model
        assert not any(hasattr(part, "_diffusers_hook") for part in model.modules())

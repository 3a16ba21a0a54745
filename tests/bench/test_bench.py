"""Benchmarks at tiny sizes: what they count is held to its goal, what they time only to its form."""

import json
from dataclasses import replace

import pytest
import torch

from skipdit.bench import __main__ as command
from skipdit.bench import bookkeeping, compile, gpu, held, speed, training
from skipdit.bench.options import Options, Skipped, made
from skipdit.bench.table import Goal
from skipdit.results import Record, processor, read
from skipdit.train import Recipe

TINY = Options(model="tiny", steps=6, repeats=1)
SMALL = dict(input_size=8, patch_size=4, hidden_size=32, depth=2, num_heads=2)


def by_policy(records):
    return {record.policy: record.figures for record in records}


def test_speed_measures_every_policy_against_its_ideal():
    records = speed.measure(replace(TINY, steps=10))
    found = by_policy(records)
    assert list(found) == ["", *(f"skip_cache(every={n})" for n in (1, 2, 3, 5))]
    ideals = [found[f"skip_cache(every={n})"]["ideal"] for n in (1, 2, 3, 5)]
    assert ideals[0] == 1
    assert ideals == sorted(set(ideals))
    for figures in (f for policy, f in found.items() if policy):
        assert figures["of_ideal"] == pytest.approx(figures["speedup"] / figures["ideal"])
    uncached = next(r.figures for r in records if r.name == "speed tiny uncached")
    assert uncached["speedup"] == 1
    assert uncached["ideal"] is None


def test_speed_of_a_video_model():
    found = by_policy(speed.measure(replace(TINY, model="tiny-video", steps=4), every=(2,)))
    assert found["skip_cache(every=2)"]["ideal"] > 1


def test_speed_on_the_path_of_a_gpu():
    """bfloat16, compiled blocks, two batch sizes: all of the GPU bench but the GPU."""
    options = replace(gpu.setting(TINY), model="tiny", device="cpu", backend="eager", batch=(1, 2), steps=4)
    records = speed.measure(options, every=(2,))
    assert [(r.provenance.batch, r.provenance.dtype) for r in records] == [(1, "bfloat16")] * 3 + [(2, "bfloat16")] * 3
    assert all(r.name.startswith("speed tiny eager") for r in records)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_is_skipped_with_a_sentence():
    with pytest.raises(Skipped, match="finds no CUDA device"):
        gpu.measure(TINY)


def test_bookkeeping_says_what_it_ran_on():
    (first, *_) = bookkeeping.measure(replace(TINY, device="cuda", dtype="bf16"), depth=4)
    assert (first.provenance.dtype, first.provenance.machine) == ("float32", processor())


def test_bookkeeping_names_each_candidate_and_its_cost():
    records = bookkeeping.measure(replace(TINY, repeats=1), depth=4)
    costs = {record.name.removeprefix("bookkeeping 4 "): record.figures["cost_ms"] for record in records}
    assert [name for name, cost in costs.items() if cost is None] == ["list", "branches by hand"]
    assert len(costs) == 7


def test_branches_by_hand_are_those_of_the_stack():
    for model in (bookkeeping.BlocksByHand(6), dict(bookkeeping.candidates(6))["branches"].model):
        kinds = []
        for module in model.modules():
            if isinstance(module, bookkeeping.Idle | bookkeeping.Pass):
                module.register_forward_hook(lambda module, *_, kinds=kinds: kinds.append(type(module)))
        model(torch.zeros(1), torch.zeros(1), torch.zeros(1))
        assert kinds == [bookkeeping.Idle] * 3 + [bookkeeping.Pass, bookkeeping.Idle] * 3


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_one_tensor_is_held_a_stream(dtype):
    records = held.measure(replace(TINY, dtype=dtype))
    assert [r.figures["streams"] for r in records] == [1, 2]
    for record in records:
        assert held.GOALS[0].met(record.figures["tensors_a_stream"])
        assert record.figures["bytes_held"] == record.figures["streams"] * record.figures["one_tensor"]


@pytest.mark.parametrize("policy", compile.POLICIES, ids=str)
def test_graphs_do_not_come_with_the_steps(policy):
    figures = compile.count(TINY, policy, steps=20).figures
    assert figures["graphs_after_5"] == figures["graphs_after_20"] > 0
    assert figures["graph_breaks"] == 0
    assert 0 < figures["stood_in"] < 20


def test_training_takes_turns_with_a_bare_loop():
    (record,) = training.measure(TINY, steps=2, batch=4, size=SMALL)
    assert record.provenance.steps == 3
    assert all(value > 0 for value in record.figures.values())


def test_bare_step_trains_the_model_it_is_given():
    model = training.DiT(in_channels=3, num_classes=1000, learn_sigma=False, prediction="v_prediction", **SMALL)
    before = [p.clone() for p in model.parameters()]
    training.bare_step(model, Recipe(steps=2, batch_size=4))()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_last_line_is_one_json_document(tmp_path, capsys):
    out = tmp_path / "new" / "results.jsonl"
    for _ in range(2):
        assert command.main(["held", "--threads", "1", "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    records = [Record.from_json(json.dumps(record)) for record in json.loads(said[-1])["records"]]
    assert records == read(out)[2:]
    assert any("one tensor (B, T, D) a stream" in line for line in said)


def test_json_alone(capsys):
    assert (
        command.main(["speed", "--model", "tiny", "--repeats", "1", "--steps", "2", "--batch", "1", "2", "--json"]) == 0
    )
    (line,) = capsys.readouterr().out.splitlines()
    assert {record["figures"]["batch"] for record in json.loads(line)["records"]} == {1, 2}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_is_skipped_is_said(capsys):
    assert command.main(["gpu"]) == 0
    sentence, *_, last = capsys.readouterr().out.splitlines()
    assert sentence.startswith("gpu skipped: ")
    assert json.loads(last)["skipped"]["gpu"] in sentence


def test_refusals(capsys):
    assert command.main(["speed", "--model", "DiT-XXL/2"]) == 2
    assert command.main(["speed", "--repeats", "0"]) == 2
    complaints = capsys.readouterr().err
    assert "DiT-XXL/2" in complaints
    assert "repeats=0 must be at least 1" in complaints


def test_models_are_spelled_both_ways_and_no_block_is_the_identity():
    model = made(replace(TINY, model="TINY"))
    assert all(parameter.any() for parameter in model.parameters())
    assert not model.training


def test_goals():
    assert Goal("f", at_least=1).met(1)
    assert not Goal("f", at_least=1).met(0.9)
    assert not Goal("f", at_most=1).met(1.1)
    assert Goal("f", at_most=1).met(None)

"""skipdit bench: counts by hand, every pair drawn once, a stopped bench goes on without a gap, refusals by name."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from skipdit.backbones.dit import DiT
from skipdit.bench.candidates import Candidate, Setting, of_grid
from skipdit.bench.compare import compare, fewer
from skipdit.bench.quality import judged
from skipdit.bench.trace import stood_in, trace
from skipdit.catalog import parse
from skipdit.cli import app
from skipdit.core.what import hold
from skipdit.core.where import Inner
from skipdit.plan.fingerprint import fingerprint
from skipdit.plan.plan import Plan
from skipdit.plan.study import Study
from skipdit.results import read, resumed

SETTING = Setting("ddim", steps=6, guidance=2.0, pairs=5, batch=2)
POLICY = "skip_cache(every=2)"


def made(skips):
    torch.manual_seed(0)
    model = DiT(
        input_size=8, patch_size=4, in_channels=3, hidden_size=32, depth=6, num_heads=2, num_classes=5, skips=skips
    )
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return made("replace")


@pytest.fixture
def drawn(monkeypatch):
    """Counts draws of six steps or fewer, by what they were drawn with."""
    count, draw = Counter(), Study.draw

    def counting(self, policy=None, steps=None, passes=None, on_step=None):
        count[str(policy or ""), steps, passes or "", self.seed, id(self.model)] += 1
        return draw(self, policy, steps, passes, on_step)

    monkeypatch.setattr(Study, "draw", counting)
    return count


def by_kind(records, kind):
    return [record for record in records if record.figures["kind"] == kind]


def test_counts_by_hand(model, tmp_path):
    told = []
    plain = ("plain", made(None))
    records = compare("tiny", model, [SETTING], [POLICY], tmp_path / "b.jsonl", ["reuse(every=2)"], plain,
                      lambda done, total, what: told.append((done, total)))  # fmt: skip
    assert read(tmp_path / "b.jsonl") == records
    (full,), (twin,), cached = (by_kind(records, kind) for kind in ("uncached", "plain", "cached"))
    assert [(r.policy, r.figures["passes"]) for r in cached] == [
        ("", "reuse(every=2)"), (POLICY, ""), (POLICY, "reuse(every=2)"),
    ]  # fmt: skip
    assert (full.figures["speedup"], full.figures["ideal_speedup"], full.figures["psnr"]["mean"]) == (1, 1, 100)
    assert twin.figures["psnr"] is None
    assert twin.figures["ideal_speedup"] > 1  # it has no branches to compute
    reused, alone, both = (record.figures for record in cached)
    assert reused["ideal_speedup"] == pytest.approx(12 / 9)  # passes: of 6 steps 3 make one
    assert alone["plan"] == [1, 0, 1, 0, 1, 0]
    assert alone["bytes_held"] == 2 * 2 * 4 * 32 * 4  # two pictures, two branches, 4 tokens of 32 floats
    assert both["ideal_speedup"] > alone["ideal_speedup"] > 1
    for figures in (reused, alone, both):
        assert figures["psnr"]["pictures"] == figures["pairs"] == 5
        assert figures["over_plain"] == pytest.approx(figures["speedup"] / twin.figures["speedup"])
        assert figures["of_ideal"] == pytest.approx(figures["speedup"] / figures["ideal_speedup"])
        assert figures["fewer_steps"]["steps"] == fewer(6, figures["speedup"])
    assert {r.figures["steps"] for r in by_kind(records, "fewer steps")} == {
        r.figures["fewer_steps"]["steps"] for r in cached
    } - {6}
    assert told[-1][0] == told[-1][1]


def test_a_stopped_bench_goes_on_without_gap_or_duplicate(model, tmp_path, drawn):
    out, rounds = tmp_path / "b.jsonl", tmp_path / "b.rounds.jsonl"

    def stop(done, total, what):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare("tiny", model, [SETTING], [POLICY], out, tell=stop)
    assert not out.exists()
    assert len(read(rounds)) == 2  # one whole batch; of the second nothing counts
    with rounds.open("a") as file:
        file.write('{"name": "rou')  # cut off by a crash
    first = compare("tiny", model, [SETTING], [POLICY], out)
    keys = Counter(json.dumps(line.figures["key"], sort_keys=True) for line in read(rounds))
    assert set(keys.values()) == {1}
    by_number = Counter(line.figures["key"]["number"] for line in read(rounds))
    assert len(set(by_number.values())) == 1
    drawn.clear()
    assert compare("tiny", model, [SETTING], [POLICY], out) == first
    assert not drawn
    more = compare("tiny", model, [replace(SETTING, pairs=6)], [POLICY], out)
    assert {r.figures["pairs"] for r in more} == {6}
    again = read(out)
    assert len({(r.policy, r.figures["kind"], r.figures["steps"]) for r in again}) == len(again)


def test_a_plan_that_was_tuned_anew_is_measured_anew(model, tmp_path):
    out, path, small = tmp_path / "b.jsonl", tmp_path / "plan.json", replace(SETTING, pairs=1, batch=1)
    said = next(small.batches(model))
    plan = Plan("tiny", fingerprint(model), said.sampler, said.timesteps, 2.0, Inner(1, 1), {}, hold())
    for computed in ((0, 1, 2, 3), (0, 3)):
        replace(plan, computed={"span": computed}).save(path)
        (found,) = by_kind(compare("tiny", model, [small], [str(path)], out), "cached")
        assert [step for step, share in enumerate(found.figures["plan"]) if share] == list(computed)


def test_a_setting_of_its_own_stays_beside(model, tmp_path):
    out = tmp_path / "b.jsonl"
    small = replace(SETTING, pairs=1, batch=1)
    first = compare("tiny", model, [small], [POLICY], out)
    both = compare("tiny", model, [replace(small, steps=4), replace(small, sampler="dpm++")], [POLICY], out)
    assert read(out) == [*first, *both]


def test_pairs_are_those_that_tune_does_not_see(model):
    ours, _ = Study.of(model, 6, 2.0, "ddim", 0, 8, 8)
    batches = list(SETTING.batches(model))
    assert [len(batch.labels) for batch in batches] == [2, 2, 1]
    assert not {label for batch in batches for label in batch.labels} & set(ours.labels)
    assert len({batch.seed for batch in batches}) == 3


def test_fewer_steps_are_in_doubt_one_more():
    assert [fewer(50, speedup) for speedup in (2.0, 1.99, 2.01, 0.9, 100)] == [25, 26, 25, 50, 1]
    assert of_grid(6, [POLICY, POLICY], []) == [Candidate("cached", 6, POLICY)]


def test_trace_shows_one_step_of_each(model, tmp_path):
    (batch, *_) = SETTING.batches(model)
    assert stood_in(batch, parse(POLICY)) == 1
    trace(batch, parse(POLICY), 1, tmp_path / "t.json")
    names = [event.get("name", "") for event in json.loads((tmp_path / "t.json").read_text())["traceEvents"]]
    assert {"step 0: computed", "step 1: stood in for"} <= set(names)
    with pytest.raises(ValueError, match="stands in for nothing"):
        stood_in(batch, parse("skip_cache(every=1)"))


def test_refusals(model, tmp_path):
    with pytest.raises(ValueError, match="leaves no block"):
        compare("tiny", model, [SETTING], ["skip_cache(every=2, branch=5)"], tmp_path / "b.jsonl")
    with pytest.raises(ValueError, match="other knows 1000 classes, and tiny 5"):
        compare(
            "tiny",
            model,
            [SETTING],
            [POLICY],
            tmp_path / "b.jsonl",
            plain=("other", DiT(depth=2, hidden_size=32, num_heads=2)),
        )
    assert resumed(tmp_path / "none.jsonl") == []


def test_what_fails_in_a_later_setting_is_refused_before_anything_is_drawn(model, tmp_path, drawn):
    def refused(words, *others, policies=(POLICY,)):
        with pytest.raises(ValueError, match=words):
            compare("tiny", model, [SETTING, *others], policies, tmp_path / "b.jsonl")

    refused("sampler 'euler' does not fit", replace(SETTING, sampler="euler"))
    said = next(SETTING.batches(model))
    Plan("tiny", fingerprint(model), "ddim", said.timesteps, 2.0, Inner(1, 1), {"span": (0, 3)}, hold()).save(
        tmp_path / "plan.json"
    )
    refused("6 steps: this run has 12", replace(SETTING, steps=12), policies=[str(tmp_path / "plan.json")])
    assert not drawn


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name at least one --policy or --passes"),
        (("--policy", "foar(every=2)"), "did you mean fora"),
        (("--passes", "reuse(every=2)", "--profile", "t.json", "--steps", "2", "--pairs", "1"), "name a --policy"),
        (("--policy", "emoji-skip/plan-2x.json", "--sampler", "dpm++"), "dpm++"),
    ],
)
def test_refusals_of_the_command(arguments, words, tmp_path):
    said = ["bench", "emoji-skip", "--threads", "1", "--out", str(tmp_path / "b.jsonl"), *arguments]
    result = CliRunner().invoke(app, said, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_a_video_is_judged_by_the_mean_over_its_frames():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, 3, 32, 32, generator=generator) * 2 - 1 for _ in range(2))
    names = ("psnr", "ssim")
    found, each = judged(names, a, b), [judged(names, a[i], b[i]) for i in range(2)]
    for name in names:
        assert found[name] == pytest.approx([sum(one[name]) / 3 for one in each], rel=1e-5)

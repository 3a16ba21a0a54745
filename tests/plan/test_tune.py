"""Tuning from end to end on a tiny model: goals are met, a search goes on where it stopped, evidence is complete."""

import json

import pytest
from zoo import dit

from skipdit import attach, parse, sample
from skipdit.plan.book import Book
from skipdit.plan.evidence import interval
from skipdit.plan.picture import draw
from skipdit.plan.plan import Plan
from skipdit.plan.shapes import ESTIMATORS, Goal, Shape, computed_within, wheres
from skipdit.plan.study import Study
from skipdit.plan.tune import tune

SMALL = dict(steps=8, pictures=3, held_out=3, tries=40, rounds=1)


@pytest.fixture(scope="module")
def model():
    return dit("replace")


def test_a_budget_in_flops_is_kept_and_the_plan_and_its_picture_written(model, tmp_path):
    out = tmp_path / "new" / "plan.json"
    plan = tune(model, "tiny", Goal(flops=0.5), out, **SMALL)
    assert Plan.load(out) == plan
    with attach(model, parse(str(out))) as run:
        sample(model, [0, 1], steps=8)
    report = run.report()
    assert report.computed == len(plan.computed["span"])
    assert report.flops <= 0.5 * (report.flops + report.spared_flops)
    more = report.flops + (report.flops + report.spared_flops) / 8
    assert more > 0.5 * (report.flops + report.spared_flops)  # one more step would not have fitted
    evidence = plan.evidence
    assert evidence["predicted_speedup"] == pytest.approx(evidence["ideal_speedup"], rel=0.01)
    low, high = evidence["held_out_psnr"]["ci95"]
    assert low <= evidence["held_out_psnr"]["mean"] <= high
    assert evidence["masks_tried"] == len(evidence["tried"]) <= SMALL["tries"] + len(ESTIMATORS)
    draw(plan, out.with_suffix(".png"))
    assert {p.name for p in out.parent.iterdir()} == {"plan.json", "plan.png", "plan.tried.jsonl"}


def test_a_wanted_psnr_is_reached_on_the_calibration_pictures(model):
    plan = tune(model, "tiny", Goal(psnr=35.0), **SMALL)
    assert plan.evidence["calibration_psnr"]["mean"] >= 35
    assert len(plan.computed["span"]) < 8


def test_a_wanted_speedup_leaves_steps_out(model):
    plan = tune(model, "tiny", Goal(speedup=1.3), **SMALL)
    assert 2 <= len(plan.computed["span"]) < 8
    assert plan.evidence["measured_speedup"] > 0


def test_a_search_goes_on_where_it_was_interrupted_and_finds_the_same(model, tmp_path):
    whole = tune(model, "tiny", Goal(flops=0.5), tmp_path / "whole.json", **SMALL)

    def interrupt(done, total, what):
        if done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(model, "tiny", Goal(flops=0.5), tmp_path / "plan.json", **SMALL, tell=interrupt)
    assert not (tmp_path / "plan.json").exists()
    book = tmp_path / "plan.tried.jsonl"
    before = book.read_text().splitlines()
    assert 12 < len(before) < whole.evidence["masks_tried"]
    book.write_text("\n".join([*before, '{"shape": "cut o']))  # as a crash in the middle of a line leaves it
    resumed = tune(model, "tiny", Goal(flops=0.5), tmp_path / "plan.json", **SMALL)
    assert resumed == whole
    lines = book.read_text().splitlines()
    assert lines[: len(before)] == before
    keys = [
        json.dumps([line["shape"], line["computed"], line["pictures"]])
        for line in map(json.loads, lines)
        if "shape" in line
    ]
    assert len(keys) == len(set(keys)) == whole.evidence["masks_tried"]


def test_what_belongs_to_another_search_is_refused(model, tmp_path):
    out = tmp_path / "plan.json"
    out.with_suffix(".tried.jsonl").write_text('{"about": {"model": "other", "steps": 9}}\n')
    with pytest.raises(ValueError, match=r"belongs to another search \(guidance, labels, model, .*name another --out"):
        tune(model, "tiny", Goal(flops=0.5), out, **SMALL)
    out.with_suffix(".tried.jsonl").write_text("hello\n")
    with pytest.raises(ValueError, match="is no book of a search"):
        Book(out.with_suffix(".tried.jsonl"), {})
    for damage in ("[]", "{}", "half"):
        out.with_suffix(".tried.jsonl").write_text('{"about": {}}\n' + damage + "\n")
        with pytest.raises(ValueError, match=r"tried\.jsonl, line 2 is damaged"):
            Book(out.with_suffix(".tried.jsonl"), {})


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "give one of speedup, psnr, flops, not none"),
        (dict(speedup=2.0, psnr=30.0), "not speedup, psnr"),
        (dict(speedup=0.5), "speedup=0.5 must be above 1"),
        (dict(flops=1.5), "flops=1.5 must lie between 0 and 1"),
        (dict(psnr=-3.0), "psnr=-3.0 must lie"),
    ],
)
def test_senseless_goals_are_refused(said, message):
    with pytest.raises(ValueError, match=message):
        Goal(**said)


def test_goals_out_of_reach_are_refused(model):
    with pytest.raises(ValueError, match="can't be met: a step that is stood in for still costs"):
        tune(model, "tiny", Goal(flops=0.01), **SMALL)
    with pytest.raises(ValueError, match=r"99\.9 dB are not reached"):
        tune(model, "tiny", Goal(psnr=99.9), **SMALL)


def test_what_a_budget_leaves():
    assert computed_within(0.5, 0.0, 50) == 25
    assert computed_within(0.5, 0.25, 50) == 16  # 16 + 34 / 4 = 24.5
    assert computed_within(0.5, 0.48, 50) is None
    assert computed_within(0.99, 0.0, 10) == 9
    assert [w.head for w in wheres(3)] == [0, 1]


def test_labels_and_seeds_are_split(model):
    ours, others = Study.of(model, 8, 2.0, None, 3, 4, 6)
    assert not set(ours.labels) & set(others.labels)
    assert ours.seed != others.seed
    assert (len(ours.labels), len(others.labels)) == (4, 6)


def test_every_estimator_can_be_made_and_others_are_refused(model):
    ours, _ = Study.of(model, 8, 2.0, None, 0, 2, 2)
    (where,) = spans = wheres(6)[1:2]
    gram = ours.watch(spans)[where]
    for estimator in ESTIMATORS:
        images = ours.draw(Shape(where, estimator).policy(gram, (0, 1, 2, 4, 6)))
        assert min(ours.decibels(images)) > 5
    with pytest.raises(ValueError, match="estimator 'magic': choose from hold"):
        Shape(where, "magic").policy(gram, (0, 1))


def test_the_bootstrap_holds_the_mean():
    values = [30.0, 31.0, 35.0, 28.0, 33.0, 30.5]
    low, high = interval(values)
    assert low < sum(values) / 6 < high
    assert interval([2.0] * 5) == (2.0, 2.0)
    assert interval(values) == interval(values)
    with pytest.raises(ValueError, match="no values"):
        interval([])

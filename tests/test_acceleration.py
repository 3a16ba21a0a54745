"""docs/acceleration.py: a record a mark, twins take turns, a stopped run goes on, the page and its plot."""

import pytest

from skipdit.results import Provenance, Record, read


@pytest.fixture
def script(script_of, monkeypatch, tmp_path):
    module = script_of("acceleration")
    page = tmp_path / "training.md"
    page.write_text(module.PAGE.read_text())
    monkeypatch.setattr(module, "PAGE", page)
    monkeypatch.setattr(module, "PICTURE", tmp_path / "a.png")
    monkeypatch.setattr(module, "RECORDS", tmp_path / "a.jsonl")
    return module


def record(kind, seed, step, fid, seconds):
    where = Provenance("c", "m", 2, "2", 1, "bf16", 64, 20, seed, "abc", "t")
    figures = dict(kind=kind, step=step, fid=fid, kid=0.01, concept_top1=0.5, loss=0.1, seconds_a_step=seconds)
    return Record(f"acceleration: {kind}, seed {seed}", "", {**figures, "images": 400}, where)


def test_twins_take_turns_and_a_stopped_run_goes_on(script, monkeypatch, tmp_path):
    asked = []

    def trained(out, mark, words):
        if len(asked) == 5:
            asked.append("stop")
            raise KeyboardInterrupt
        asked.append((out.name, mark))
        return out / f"checkpoint-{mark}"

    monkeypatch.setattr(script, "references", lambda folder: None)
    monkeypatch.setattr(script, "trained", trained)
    monkeypatch.setattr(script, "told", lambda out, mark, batch: {})
    monkeypatch.setattr(script, "judged", lambda at, against: {"fid": 1.0})
    with pytest.raises(KeyboardInterrupt):
        script.run(tmp_path, (1, 2), "no")
    script.run(tmp_path, (1, 2), "no")
    assert [(r.figures["kind"], r.provenance.seed, r.figures["step"]) for r in read(script.RECORDS)] == [
        (kind, seed, mark) for mark in (1, 2) for seed in (0, 1) for kind in ("plain", "skip")
    ]
    asked.remove("stop")
    assert len(asked) == 8


def test_the_page_holds_the_marks_that_all_runs_reached(script):
    records = [record(k, s, m, 100 / m + s, 1.2 if k == "skip" else 1.0)
               for m in (1, 2) for s in (0, 1) for k in ("plain", "skip")]  # fmt: skip
    script.report([*records, record("plain", 0, 4, 7.0, 1.0)])
    page = script.PAGE.read_text()
    assert "| 2 | 50.0 / 51.0 | 50.0 / 51.0 |" in page
    assert "| 4 |" not in page
    assert "1.20 times the plain DiT's" in page
    assert script.PICTURE.exists()


def test_a_run_is_trained_to_a_mark_and_on(script, monkeypatch, tmp_path):
    import trained

    said, run = [], tmp_path / "run"
    monkeypatch.setattr(trained.subprocess, "run", lambda words, **_: said.append(words))
    trained.trained(run, 2, ["--seed", 1], first=["--init", "emoji-skip"])
    assert said[0][6:11] == ["--seed", "1", "--resume", "--init", "emoji-skip"]
    run.mkdir()
    (run / "metrics.jsonl").touch()  # killed before its first checkpoint: it begins as it was told
    trained.trained(run, 2, ["--seed", 1], first=["--init", "emoji-skip"])
    assert said.pop() == said[0]
    (run / "checkpoint-0000002").mkdir()
    (run / "metrics.jsonl").write_text('{"loss": 1, "samples_per_s": 64}\n' * 3)
    trained.trained(run, 4, ["--seed", 1], first=["--init", "emoji-skip"])
    assert said[1][6:9] == ["--seed", "1", "--resume"]
    assert trained.told(run, 3, 64) == {"loss": 1, "seconds_a_step": 1}

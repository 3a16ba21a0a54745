"""docs/evaluation.py: rows that don't share a folder, one record a row, a stopped run goes on, the page."""

import sys

import pytest

from skipdit.results import Provenance, Record, read


@pytest.fixture
def script(script_of, monkeypatch, tmp_path):
    module = script_of("evaluation")
    page = tmp_path / "evaluation.md"
    page.write_text(module.PAGE.read_text())
    monkeypatch.setattr(module, "PAGE", page)
    return module


def test_rows_are_what_was_asked_for_and_keep_apart(script):
    rows = script.rows()
    assert len({row.folder for row in rows}) == len({row.name for row in rows}) == len(rows)
    assert [row.policy for row in rows if "Skip-Cache" in row.name] == [
        f"skip_cache(every={n}, branch=1, hi=1000, lo=20)" for n in range(2, 7)
    ]
    assert {"emoji-plain", "emoji-skip", "emoji-skip, 25 DDIM steps", "tuned plan 2x"} <= {row.name for row in rows}
    grid = [r for r in read(script.GRID) if r.name.startswith("emoji-skip: ") and r.figures["speedup"] >= 1.94]
    methods = {r.name.removeprefix("emoji-skip: ") for r in grid if r.policy} - {"skip_cache", "tuned plan"}
    assert {row.name.removesuffix(", at 2x") for row in rows if row.name.endswith("at 2x")} == methods


def test_one_record_a_row_and_a_stopped_run_goes_on(script, monkeypatch, tmp_path):
    drawn = []

    def scored(row, against, images):
        if len(drawn) == 2 and row.name not in drawn[:2] and images == 4 and not drawn_again:
            raise KeyboardInterrupt
        drawn.append(row.name)
        return {}

    drawn_again = []
    monkeypatch.setattr(script, "scored", scored)
    monkeypatch.setattr(script, "references", lambda folder: None)
    wanted, out, told = script.rows()[:3], tmp_path / "e.jsonl", []
    with pytest.raises(KeyboardInterrupt):
        script.evaluate(tmp_path, 4, out, wanted, told.append)
    assert len(read(out)) == 2
    drawn_again.append(True)
    script.evaluate(tmp_path, 4, out, wanted, told.append)
    assert drawn == [row.name for row in wanted]
    script.evaluate(tmp_path, 4, out, wanted, told.append)
    assert "all 3 rows" in told[-1]
    script.evaluate(tmp_path, 5, out, wanted, told.append)  # of another number of images
    assert len(read(out)) == 6


def test_a_correction_is_fitted_where_it_is_not_there(script, monkeypatch, tmp_path):
    fitted = []
    monkeypatch.setattr(script, "study_of", lambda model, pairs: (model, None))
    monkeypatch.setattr(script, "fit_corrections", lambda study, folder: fitted.append((study, folder)))
    there = tmp_path / "there.safetensors"
    there.touch()
    for name in ("x", "there"):
        script.fit(script.Row("fitted", policy=f"skip_correction('{tmp_path}/{name}.safetensors', every=4)"))
    assert fitted == [("emoji-skip", tmp_path)]


def test_the_page_says_what_the_records_say(script):
    where = Provenance("c", "m", 2, "2", 1, "float32", 8, 50, 0, "abc", "t")
    figures = {key: 0.5 for key, _ in script.COLUMNS.values()} | dict(psnr=None, lpips=None)
    figures |= dict(
        model="emoji-skip",
        images=2000,
        training_images=1299,
        held_out_images=69,
        concept_real_top1=0.75,
        text_real_r1=0.6,
    )
    fid = {**figures, "fid_training": 12.34}
    on_grid = next(r for r in read(script.GRID) if r.policy == "emoji-skip/plan-2x.json")
    script.report([Record("evaluation: emoji-skip", "", figures, where),
                   Record("evaluation: Skip-Cache N = 2", "skip_cache(every=2)", fid, where),
                   Record("evaluation: tuned plan 2x", on_grid.policy, fid, where)])  # fmt: skip
    page = script.PAGE.read_text()
    assert "The run has not been made yet" not in page
    assert "| Skip-Cache N = 2 | `skip_cache(every=2)` | 0.50 |  | 12.34 |" in page
    assert f"`emoji-skip/plan-2x.json` | 0.50 | {on_grid.figures['speedup']:.2f} | 12.34 |" in page
    assert "| Skip-Cache N = 2 | 1.46 | 2.31 | 4.76 | 0.825 | 0.581 | 0.50 | 12.34 |" in page
    assert "Not drawn: " in page
    assert "tuned plan 3x" in page


def test_few_images_are_not_published(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluation.py", "data/emoji", "--images", "10"])
    with pytest.raises(SystemExit):
        script.main()
    assert "too few to publish" in capsys.readouterr().err

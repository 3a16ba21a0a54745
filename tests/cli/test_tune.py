"""skipdit tune: writes a plan that others read, teaches, and survives Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skipdit.cli import app

ROOT = Path(__file__).parents[2]
SMALL = ["--steps", "6", "--pictures", "2", "--held-out", "2", "--tries", "24", "--threads", "1"]


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_a_plan_is_tuned_drawn_inspected_and_refused_elsewhere(tmp_path):
    plan = tmp_path / "plan.json"
    result = call("tune", "emoji-skip", "--flops", 0.6, *SMALL, "-o", plan)
    assert "of 6 steps computed" in result.output
    assert "in the same time" in result.output
    assert plan.with_suffix(".png").stat().st_size > 10_000
    computed = len(json.loads(plan.read_text())["computed"]["span"])
    said = ["--style", "noto", "--policy", plan, "-o", tmp_path / "a.png"]
    drawn = call("sample", "emoji-skip", "rocket", *said, "--steps", 6)
    assert f"6 steps: {computed} computed" in drawn.output
    shown = call("inspect", "emoji-skip", "--policy", plan, "--steps", 6)
    assert f"{computed} of 6 steps computed" in shown.output
    assert "another model" in call("sample", "emoji-plain", "rocket", *said, "--steps", 6, code=2).output
    assert "this run has 7" in call("sample", "emoji-skip", "rocket", *said, "--steps", 7, code=2).output
    again = call("tune", "emoji-skip", "--flops", 0.6, *SMALL, "-o", plan, "--json")
    assert len(json.loads(again.stdout)["computed"]["span"]) == computed


def test_a_plan_is_checked_anew_on_more_pictures(tmp_path):
    plan, again = tmp_path / "plan.json", tmp_path / "again.json"
    call("tune", "emoji-skip", "--flops", 0.6, *SMALL, "-o", plan)
    before = json.loads(plan.read_text())
    result = call("tune", "emoji-skip", "--check", plan, "--held-out", 3, "--threads", 1, "-o", again)
    assert "in the same time" in result.output
    after = json.loads(again.read_text())
    assert after["evidence"]["held_out_psnr"]["pictures"] == 3
    kept = ("goal", "shape", "calibration_psnr", "tried")
    assert [after["evidence"][name] for name in kept] == [before["evidence"][name] for name in kept]
    assert {**before, "evidence": 0} == {**after, "evidence": 0}
    assert "another model" in call("tune", "emoji-plain", "--check", plan, "-o", again, code=2).output


def test_the_help_teaches():
    text = call("tune", "--help").output
    for word in ("--speedup", "--psnr", "--flops", "Ctrl-C", "--policy plans/skip-2x.json"):
        assert word in text


@pytest.mark.parametrize(
    ("said", "message"), [([], "give one of speedup"), (["--speedup", 2, "--psnr", 30], "not speedup, psnr")]
)
def test_goals_are_one(said, message, tmp_path):
    assert message in call("tune", "emoji-skip", *said, "-o", tmp_path / "plan.json", code=2).output


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["--flops", 0.5, "-o", "plan"], "plan: a plan is known by its name"),
        (["--flops", 0.5, "-o", "plan.png"], "let it end in .json"),
        (["--flops", 0.5, "--minutes", -1], "0.01"),
        (["--flops", 0.5, "-o", "setup.cfg/plan.json"], "setup.cfg"),
        (["--check", "emoji-skip/plan-2x.json", "-o", "p.json", "--seed", 3], "--seed can't be had: leave it out"),
        (["--check", "emoji-skip/plan-2x.json", "-o", "p.json", "--held-out", 4, "--speedup", 2], "--speedup"),
    ],
)
def test_what_would_be_ignored_or_lost_is_refused(said, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.cfg").write_text("")
    assert message in call("tune", "emoji-skip", *said, code=2).output
    assert [path.name for path in tmp_path.iterdir()] == ["setup.cfg"]


def test_ctrl_c_leaves_what_was_tried_and_the_same_command_goes_on(tmp_path):
    plan = tmp_path / "plan.json"
    book = plan.with_suffix(".tried.jsonl")
    command = [sys.executable, "-m", "skipdit.cli", "tune", "emoji-skip", "--flops", "0.6", *SMALL, "-o", str(plan)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job is deaf to Ctrl-C
    first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and (not book.exists() or book.read_text().count('"shape"') < 3):
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, complaint = first.communicate(timeout=60)
    assert first.returncode == 130, complaint
    assert "the same command starts again, with what is finished" in complaint
    assert not plan.exists()
    before = book.read_text().splitlines()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert book.read_text().splitlines()[: len(before) - 1] == before[:-1]
    assert json.loads(plan.read_text())["evidence"]["masks_tried"] > 3

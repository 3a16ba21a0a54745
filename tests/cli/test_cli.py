"""The command line: it draws, trains, resumes and explains, and what goes wrong is one clear line."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from skipdit.catalog import near
from skipdit.cli import _worded, app
from skipdit.cli.settings import Said
from skipdit.cli.train import _slow
from skipdit.train import Recipe, checkpoint

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
TINY = ["--image-size", 8, "--hidden-size", 32, "--depth", 4, "--num-heads", 2, "--batch-size", 2]


def call(*arguments, code=0):
    """The command's result, its exit code checked."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


def spent():
    """Processor seconds of the commands run so far: other load on the machine doesn't count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def refused(*arguments):
    """What a refusal says: one line, no traceback."""
    result = call(*arguments, code=2)
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("skipdit:")
    return lines[0]


@pytest.fixture
def photos(tmp_path):
    """Two classes of four pictures."""
    for name, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8 + i, 8), colour).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


# ---- help


def test_help_is_instant_and_imports_no_torch():
    code = "import sys; from skipdit.cli import app; app(['train', '--help'], standalone_mode=False)"
    code += "; app(['--help'], standalone_mode=False); print({'torch', 'diffusers'} & set(sys.modules))"
    before = spent()
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert spent() - before < 1.5
    assert done.stdout.splitlines()[-1] == "set()"


def test_help_breaks_lines_where_the_terminal_ends():
    text = " ".join(CliRunner().invoke(app, ["eval", "--help"], env={"COLUMNS": "300"}).output.split("\n"))
    assert "at random otherwise. Its images are kept in shards of 256: the same command" in text


@pytest.mark.parametrize(
    "command", ["", "demo", "sample", "train", "data", "convert", "inspect", "methods", "bench", "report", "probe"]
)
def test_every_help_page_shows_what_it_is_for(command):
    text = call(*command.split(), "--help").output
    assert "Usage: " in text
    assert "Examples" in text or command == "data"


def test_version():
    assert call("--version").output.startswith("skipdit 0.")


# ---- sample


def test_sample_writes_a_png_and_reports(tmp_path):
    picture = tmp_path / "new" / "a.png"
    said = ["rocket", "red apple", "--style", "noto", "--steps", 3, "--policy", "skip_cache(every=2)", "--two-pass"]
    result = call("sample", "emoji-skip", *said, "-o", picture)
    assert "3 steps: 2 computed, 1 stood in" in result.output
    with Image.open(picture) as page:
        assert page.size == (6 + 128 + 6, 6 + 2 * (128 + 6))
    assert list(picture.parent.iterdir()) == [picture]


def test_sample_as_json(tmp_path):
    said = ["rocket", "--count", 2, "--style", "noto", "--steps", 2, "--scale", 1, "--json"]
    figures = json.loads(call("sample", "emoji-plain", *said, "-o", tmp_path / "a.png").stdout)
    assert figures["images"] == 2
    assert figures["policy"] == ""
    assert figures["report"] is None
    cached = call("sample", "emoji-plain", *said, "-o", tmp_path / "a.png", "--policy", "N2")
    assert json.loads(cached.stdout)["report"]["stood_in"] == 1


def test_sample_counts_the_passes_that_it_spares(tmp_path):
    said = ["sample", "emoji-skip", "rocket", "--style", "noto", "--steps", 4, "-o", tmp_path / "a.png"]
    said += ["--passes", "reuse(every=2)"]
    assert "reuse(every=2): 4 steps: 6 of 8 passes, in 4 calls of the model" in call(*said).output
    figures = json.loads(call(*said, "--policy", "skip_cache(every=3)", "--json").stdout)
    assert figures["passes"] == "reuse(every=2)"
    assert figures["tally"] == {"steps": 4, "passes": 6, "passes_in_full": 8, "calls": 6}
    assert figures["report"]["passes"] == 6


def test_labels_are_listed():
    assert "red apple" in call("sample", "emoji-skip", "--list-labels", "apple").output
    assert json.loads(call("sample", "emoji-skip", "--list-labels", "ROCKET", "--json").stdout)["labels"] == ["rocket"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "emoji-skip", "aple", "--style", "noto"], ["unknown label 'aple'", "did you mean"]),
        (["sample", "emoji-skip", "apple", "--style", "noto"], ["'apple'; did you mean red apple, green apple"]),
        (["sample", "emoji-skip", "rocket", "--style", "notto"], ["unknown style 'notto'", "noto"]),
        (["sample", "emoji-skip", "rocket", "--policy", "skip_cach(every=2)"], ["did you mean skip_cache"]),
        (["sample", "emoji-skip", "rocket", "--policy", "skip_cache(evry=2)"], ["no parameter 'evry'", "every"]),
        (["sample", "emoji-skip", "rocket", "--style", "noto", "--passes", "reus()"], ["did you mean reuse"]),
        (["sample", "emoji-skip", "rocket", "--style", "noto", "--passes", "parallel()"], ["no policy is attached"]),
        (["sample", "emoji-skip", "rocket", "--sampler", "euler", "--style", "noto"], ["'euler'", "ddim"]),
        (["sample", "emoji-skip", "rocket", "--policy", "fora(every=two)"], ["two is no number, text in quotes"]),
        (["eval", ".", ".", "--part", "0/4"], ["--part is for a model that draws", "leave it out"]),
        (["sample", "emoji-skip"], ["--list-labels"]),
        *(
            ([*command, "--device", device], [f"--device {device}: torch", "finds cpu"])
            for device in ("cuda:99", "toaster")
            for command in (
                ["sample", "emoji-skip", "rocket", "--style", "noto"],
                ["tune", "emoji-skip", "--speedup", "2"],
                ["probe", "emoji-skip"],
                ["bench", "emoji-skip", "--policy", "fora(every=2)"],
                ["eval", "emoji-skip", "."],
            )
        ),
        (["sample", "emoji-skip", "--list-labels", "qqq"], ["no label has 'qqq'"]),
        (["sample", "emoji-skp", "rocket"], ["no model 'emoji-skp'", "emoji-skip"]),
        (["inspect", "runs/nothing/here"], ["no model 'runs/nothing/here'"]),
        (["inspect", "emoji-skip", "--policy", "skip_cache(branch=4)"], ["leaves no block to spare"]),
        (["methods", "skip_cash"], ["did you mean skip_cache"]),
        (["convert", "/no/such/file.pt", "/no/such/out"], ["/no/such/file.pt"]),
        (["train", "--out", "never", "--data", "/no/such/folder"], ["no data folder", "skipdit data emoji"]),
        (["train", "--out", "never", "--init-blocks", "0,1"], ["--init-blocks", "name it with --init"]),
        (["train", "--out", "never", "--temporal", "shift"], ["--temporal is for clips"]),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else None,
)
def test_refusals_name_the_thing_and_the_way_out(arguments, words):
    line = refused(*arguments)
    for word in words:
        assert word in line


def test_a_config_that_is_no_models_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    for command in (("inspect", tmp_path), ("sample", tmp_path, "cat")):
        assert "config.json holds a list, not a model's configuration" in refused(*command)


def test_too_little_memory_is_said_in_words():
    assert "not enough memory" in _worded(MemoryError())


def test_debug_shows_where(monkeypatch):
    monkeypatch.setenv("SKIPDIT_DEBUG", "1")
    result = CliRunner().invoke(app, ["inspect", "emoji-skp"])
    assert isinstance(result.exception, FileNotFoundError)


def test_near_matches_prefer_names_with_the_word_inside():
    known = ["pineapple", "ample", "green apple", "red apple", "apply"]
    assert near("apple", known, most=4) == "; did you mean red apple, green apple, pineapple, apply?"
    assert near("zzz", known) == "; choose from pineapple, ample, green apple, red apple, apply"


# ---- inspect, methods


def test_inspect_describes_the_model_and_the_policy():
    found = json.loads(call("inspect", "emoji-skip", "--policy", "skip_cache(every=2, hi=900)", "--json").stdout)
    assert found["blocks"]["count"] == 8
    assert found["skips"]["pairs"] == [[0, 7], [1, 6], [2, 5], [3, 4]]
    counts = found["parameters"]
    assert counts.pop("") == sum(counts.values())
    plan = found["policy"]["plan"]
    assert plan[:6] == [1, 1, 1, 1, 1, 0]
    assert found["policy"]["report"]["computed"] == sum(plan)
    assert found["policy"]["report"]["ideal_speedup"] > 1.4


def test_inspect_draws_one_cell_a_step():
    text = call("inspect", "emoji-skip", "--policy", "skip_cache(every=3)", "--steps", 7).output
    assert "█░░█░░█" in text
    assert "3 of 7 steps computed" in text


def test_the_rehearsal_is_the_plan():
    import skipdit
    from skipdit.diffusion import path_of

    scheduler = path_of("v_prediction").scheduler()
    scheduler.set_timesteps(20)
    spelling = "skip_cache(every=3, hi=800, lo=120)"
    found = json.loads(call("inspect", "emoji-plain", "--policy", spelling, "--steps", 20, "--json").stdout)
    assert found["policy"]["plan"] == skipdit.plan(skipdit.parse(spelling), scheduler.timesteps)


def test_methods():
    assert "skip_cache" in json.loads(call("methods", "--json").stdout)
    assert "skip_cache(every=2, branch=1" in call("methods", "skip_cache").output
    assert "parallel" in call("methods").output
    assert "reuse(every=2, keep='difference'" in call("methods", "reuse").output
    both = call("methods", "t_gate").output
    assert "t_gate(gate=10, every=5" in both
    assert "t_gate(gate=10)" in both


# ---- train


def test_train_then_resume(photos, tmp_path):
    run = tmp_path / "run"
    call("train", "--data", photos, "--out", run, *TINY, "--steps", 3)
    with Image.open(run / "samples" / "step-0000003.png") as page:
        assert page.size == (4 * (8 * 12 + 6) + 6, 3 * (8 * 12 + 6) + 6)
    assert "holds a run already" in refused("train", "--data", photos, "--out", run, *TINY, "--steps", 3)
    result = call("train", "--data", photos, "--out", run, "--resume", "--steps", 5, "--json")  # the rest from the run
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["step"] == 5
    assert checkpoint.latest(run).step == 5
    call("sample", checkpoint.latest(run).folder / "ema", "red", "--steps", 2, "-o", tmp_path / "red.png")


def test_resuming_refuses_another_recipe_and_model_by_name(photos, tmp_path):
    run = tmp_path / "run"
    call("train", "--data", photos, "--out", run, *TINY, "--steps", 1)
    again = ["train", "--data", photos, "--out", run, "--resume", "--steps", 2]
    line = refused(*again, "--depth", 6, "--lr", 0.1)
    assert "depth was 4 and is 6" in line
    assert "lr was 0.0015 and is 0.1" in line
    (photos / "blue" / "3.png").unlink()
    assert "images was 8 and is 7" in refused(*again)


def test_dry_run_prints_the_whole_configuration(photos, tmp_path):
    said = ["train", "--data", photos, "--out", tmp_path / "run", *TINY, "--skips", "none", "--lr", 0.5, "--dry-run"]
    found = json.loads(call(*said).stdout)
    assert found["recipe"] == {**vars(Recipe()), "lr": 0.5, "batch_size": 2}
    assert found["model"]["skips"] is None
    assert found["data"] == {"folder": str(photos), "samples": 8, "classes": 2, "styles": []}
    assert not (tmp_path / "run").exists()


def test_init_starts_from_a_model_of_the_same_sizes(photos, tmp_path):
    call("train", "--data", photos, "--out", tmp_path / "plain", *TINY, "--skips", "none", "--steps", 1)
    start = tmp_path / "plain" / "checkpoint-0000001" / "ema"
    said = ["--data", photos, "--out", tmp_path / "joined", "--batch-size", 2, "--steps", 1]
    call("train", *said, "--init", start, "--skips", "join", "--freeze", "backbone")
    before, after = (checkpoint.stored(tmp_path / name / "checkpoint-0000001") for name in ("plain", "joined"))
    assert {k for k in before["config"] if before["config"][k] != after["config"][k]} == {"skips"}


def test_the_command_that_goes_on_says_what_was_typed(photos, tmp_path):
    class Context:
        command = get_command(app).commands["train"]

        def __init__(self):
            self.params = {"run": tmp_path / "a run", "learn_sigma": True, "steps": 3, "lr": 0.1, "resume": True}

        def get_parameter_source(self, name):
            return type("Source", (), {"name": "DEFAULT" if name == "steps" else "COMMANDLINE"})

    assert Said(Context()).again() == f"skipdit train --out '{tmp_path}/a run' --learn-sigma --lr 0.1 --resume"


def test_ctrl_c_saves_and_says_how_to_resume(photos, tmp_path):
    run = tmp_path / "run"
    said = ["train", "--data", str(photos), "--out", str(run), *TINY, "--steps", "1000000", "--save-every", "1000000"]
    going = subprocess.Popen(
        [sys.executable, "-m", "skipdit.cli", *map(str, said)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    try:
        metrics, patience = run / "metrics.jsonl", time.monotonic() + 60
        while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < patience:
            time.sleep(0.1)
        going.send_signal(signal.SIGINT)
        _, told = going.communicate(timeout=60)
    finally:
        going.kill()
    assert going.returncode == 130
    step = checkpoint.latest(run).step
    assert f"stopped at step {step}, saved; go on: skipdit train" in told
    assert "--resume" in told
    assert "Traceback" not in told
    assert step == len(metrics.read_text().splitlines())


def test_a_processor_that_is_slow_in_bfloat16_is_told_of_once_the_run_has_begun(photos, tmp_path, monkeypatch):
    train = ["train", "--data", photos, *TINY, "--steps", 2]
    monkeypatch.setattr("skipdit.cli.train._slow", lambda precision, device: f"{precision} on {device} is slow")
    said = call(*train, "--out", tmp_path / "a")
    assert (said.stdout + said.stderr).count("bf16 on cpu is slow") == 1
    assert _slow("no", "cpu") == _slow("bf16", "cuda") == ""

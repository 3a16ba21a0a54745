"""Video on the command line: a Latte is trained on clips and draws film strips and moving pictures."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from skipdit import films
from skipdit.cli import app
from skipdit.data import write_clips

TINY = {"image-size": 8, "patch-size": 4, "hidden-size": 32, "depth": 4, "num-heads": 2, "batch-size": 2}
SIZE = [word for name, value in TINY.items() for word in (f"--{name}", value)] + ["--precision", "no"]


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    x = np.random.default_rng(0).integers(0, 256, (6, 4, 16, 16, 3), dtype=np.uint8)
    write_clips(folder, x, [{"label": "ab"[i % 2], "file": f"{i}.webp", "held_out": i > 3} for i in range(6)])
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "latte"
    said = run("train", "--out", out, "--data", data, "--frames", 2, "--steps", 2, "--images", 1, *SIZE, "--json")
    assert json.loads(said.stdout)["step"] == 2
    return out


def test_training_on_clips_makes_a_latte_and_shows_it(trained):
    config = json.loads((trained / "checkpoint-0000002" / "ema" / "config.json").read_text())
    assert (config["_class_name"], config["num_frames"], config["temporal"]) == ("Latte", 2, "attention")
    assert config["class_names"] == ["a", "b"]
    with Image.open(trained / "samples" / "step-0000002.webp") as moving:
        assert moving.n_frames == 2
    assert (trained / "samples" / "step-0000002.png").exists()


def test_a_run_on_clips_goes_on_with_what_it_was_told(trained, data):
    said = run("train", "--out", trained, "--data", data, "--steps", 3, "--resume", "--dry-run")
    settings = json.loads(said.stdout)
    assert settings["model"]["num_frames"] == 2
    assert settings["recipe"]["images"] == 1
    assert settings["data"]["samples"] == 4


def test_videos_in_class_folders_are_clips(tmp_path):
    for name, count in (("walk", 7), ("run", 4)):
        (tmp_path / name).mkdir()
        films.save([Image.new("RGB", (16, 16), (20 * f,) * 3) for f in range(count)], tmp_path / name / "a.gif")
    words = ("train", "--out", tmp_path / "latte", "--data", tmp_path, "--frames", 2, *SIZE)
    found = json.loads(run(*words, "--interval", 2, "--dry-run").stdout)["data"]
    assert (found["classes"], found["samples"]) == (2, 3)  # frames 0, 2 and 4, 6 of one, 0, 2 of the other


def test_a_latte_draws_a_strip_and_a_moving_picture(trained, tmp_path):
    model = trained / "checkpoint-0000002" / "ema"
    said = run("sample", model, "a", "b", "--steps", 2, "--out", tmp_path / "s.png", "--scale", 1, "--json")
    figures = json.loads(said.stdout)
    assert figures["video"] == str(tmp_path / "s.webp")
    with Image.open(tmp_path / "s.webp") as moving, Image.open(tmp_path / "s.png") as strip:
        assert moving.n_frames == 2
        assert strip.size == (2 * 14 + 6, 2 * 14 + 6)
    run("sample", model, "a", "--steps", 2, "--out", tmp_path / "t.png", "--video", tmp_path / "t.gif", "--fps", 4)
    with Image.open(tmp_path / "t.gif") as moving:
        assert moving.info["duration"] == 250
    said = run("sample", model, "a", "--steps", 2, "--out", tmp_path / "u.gif", "--json")  # the clip, not its strip
    with Image.open(json.loads(said.stdout)["video"]) as moving, Image.open(tmp_path / "u.png") as strip:
        assert (moving.filename, moving.n_frames, strip.format) == (str(tmp_path / "u.gif"), 2, "PNG")


def test_what_does_not_fit_is_said(trained, tmp_path):
    model = trained / "checkpoint-0000002" / "ema"
    said = run("sample", model, "a", "--video", tmp_path / "t.avi", code=2)
    assert "a clip is written as .webp, .gif, .mp4, .webm" in said.stderr
    said = run("sample", "emoji-skip", "rocket", "--steps", 1, "--video", tmp_path / "t.webp", code=2)
    assert "draws pictures, not clips" in said.stderr
    for name in ("t.avi", "t.mp4"):
        said = run("sample", "emoji-skip", "rocket", "--steps", 1, "--out", tmp_path / name, code=2)
        assert "name a .png" in said.stderr
    said = run("sample", model, "a", "--out", tmp_path / "t.gif", "--video", tmp_path / "t.gif", code=2)
    assert "two files" in said.stderr
    assert not list(tmp_path.iterdir())


def test_a_latte_may_start_as_a_shipped_dit(data, tmp_path):
    x = np.zeros((2, 8, 32, 32, 3), np.uint8)
    write_clips(tmp_path / "data", x, [{"label": name, "file": name} for name in ("rocket", "cat")])
    begin = ("train", "--out", tmp_path / "run", "--data", tmp_path / "data", "--init", "emoji-skip", "--dry-run")
    settings = json.loads(run(*begin, "--init-style", "fluent3d").stdout)
    assert settings["model"]["depth"] == 16
    assert settings["model"]["skips"] == "replace"
    assert "name the one to go on with" in run(*begin, code=2).stderr


def test_a_latte_is_tuned_and_draws_with_its_plan(trained, tmp_path):
    model, plan = trained / "checkpoint-0000002" / "ema", tmp_path / "plan.json"
    small = ("--steps", 6, "--pictures", 2, "--held-out", 2, "--tries", 20, "--threads", 1)
    assert "of 6 steps computed" in run("tune", model, "--flops", 0.6, *small, "-o", plan).output
    computed = len(json.loads(plan.read_text())["computed"]["span"])
    drawn = run("sample", model, "a", "--steps", 6, "--policy", plan, "-o", tmp_path / "a.png")
    assert f"6 steps: {computed} computed" in drawn.output

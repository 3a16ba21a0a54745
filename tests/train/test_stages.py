"""Two-stage training: branches first, then everything; the switch is decided by numbers, logged, and resumed."""

import json
import os
import subprocess
import sys

import pytest
import torch
from test_loop import _after, data, equal, model, recipe, weights

from skipdit.backbones.dit import DiT
from skipdit.diffusion import path_of
from skipdit.train import Recipe, checkpoint, train
from skipdit.train.draws import fixed_draws
from skipdit.train.stages import DRAWS, Stages, compared, losses, set_aside
from skipdit.train.start import start_from

TWO = dict(two_stage=True, window=2, first_stage=4, steps=9, lr=1e-2, warmup=0)


def trained(**changes) -> DiT:
    """A DiT whose output isn't 0, so that its branches have something to learn."""
    net = model(**changes)
    torch.manual_seed(1)
    for name, parameter in net.named_parameters():
        if not name.startswith("skip_branches.") and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return net


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").open()]


def test_the_branches_learn_alone_then_everything_does(tmp_path):
    net = trained()
    start = {name: value.clone() for name, value in net.state_dict().items()}
    train(net, data(), recipe(**TWO, tolerance=0.0), tmp_path, save_every=1, keep=99)
    said = lines(tmp_path)
    first = sum(line["stage"] == 1 for line in said)
    assert 2 <= first <= 4
    assert [line["stage"] for line in said] == [1] * first + [2] * (9 - first)
    assert "first_stage_ends" in said[first - 1]
    alone, after = weights(tmp_path, first), weights(tmp_path, 9)
    moved = {name for name in start if not torch.equal(start[name], alone[name])}
    assert moved
    assert all(name.startswith("skip_branches.") for name in moved)
    still = {name for name in start if torch.equal(start[name], after[name])}
    assert still == {"pos_embed"}


def test_each_stage_warms_up():
    r = Recipe(steps=100, warmup=10, decay=20, lr=1.0, two_stage=True)
    assert [r.lr_at(step, 50) for step in (50, 54, 59, 79)] == pytest.approx([0.1, 0.5, 1, 1])


def test_the_first_loss_is_the_plain_models(tmp_path):
    plain, joined = trained(skips=None), trained()
    start_from(joined, plain)
    train(plain, data(), recipe(steps=1), tmp_path / "plain")
    train(joined, data(), recipe(**{**TWO, "steps": 1}), tmp_path / "joined", held=data(5))
    assert lines(tmp_path / "joined")[0]["loss"] == lines(tmp_path / "plain")[0]["loss"]


# ---- the rule


def test_losses_are_compared_draw_by_draw():
    found = compared(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.5, 1.5, 3.0, 3.0]))
    assert found["held_before"] == 2.5
    assert found["held_loss"] == 2.0
    assert found["held_improvement"] == 0.5
    assert found["held_error"] == pytest.approx((((0 + 0 + 0.25 + 0.25) / 3) / 4) ** 0.5)


@pytest.mark.parametrize(
    ("changes", "steps", "why"),
    [
        (dict(lr=1e-12), 2, "within 2 standard errors"),
        (dict(lr=1e-12, warmup=1), 4, "within 2 standard errors"),  # not before a look after the warm-up's
        (dict(lr=1e-2, tolerance=0.9), 2, "within 0.9 of the loss"),
        (dict(lr=1e-2, tolerance=0.0), 6, "6 steps, the most allowed"),
        (dict(lr=1e-2, tolerance=0.0, window=100), 6, "6 steps, the most allowed"),
    ],
)
def test_why_the_first_stage_ends(tmp_path, changes, steps, why):
    net = trained()
    settings = dict(two_stage=True, window=2, first_stage=6, steps=7, warmup=0, decay=0, ema=0.1)
    train(net, data(4), recipe(**{**settings, **changes}), tmp_path, held=data(4))  # what it learns is what it is shown
    said = lines(tmp_path)
    assert [line["step"] for line in said if "first_stage_ends" in line] == [steps]
    assert why in said[steps - 1]["first_stage_ends"]
    for line in said:
        if "held_loss" in line:
            gain, error = line["held_improvement"], line["held_error"]
            warming = line["step"] < settings["window"] + changes.get("warmup", 0)
            goes_on = warming or (gain > 2 * error and gain > changes.get("tolerance", 0.002) * line["held_before"])
            assert goes_on or "first_stage_ends" in line
            assert line["held_before"] - line["held_loss"] == pytest.approx(gain)


def test_the_look_is_at_the_averaged_model_and_at_the_same_draws(tmp_path):
    held, path = data(6), path_of("epsilon")
    train(trained(), data(), recipe(**{**TWO, "steps": 2}), tmp_path, held=held)
    draws = fixed_draws(held, path, 0, DRAWS)
    assert len(draws.t) == 256
    assert len(torch.unique(draws.x0.flatten(1), dim=0)) == 6
    before = torch.tensor(losses(trained(), draws, path)).double()
    ema = model()
    checkpoint.load_weights(ema, tmp_path / "checkpoint-0000002" / "ema")
    now = torch.tensor(losses(ema, draws, path)).double()
    (line,) = [line for line in lines(tmp_path) if "held_loss" in line]
    assert {name: line[name] for name in compared(before, now)} == compared(before, now)


def test_a_look_leaves_training_as_it_was():
    net, path = trained().train(), path_of("epsilon")
    draws = fixed_draws(data(6), path, 0, 8)
    before = torch.get_rng_state()
    assert losses(net, draws, path) == losses(net, draws, path)
    assert torch.equal(torch.get_rng_state(), before)
    assert net.training


# ---- data


def test_every_20th_image_is_set_aside_where_nothing_is_held_out(tmp_path):
    kept, held = set_aside(data(41))
    assert (len(kept), len(held)) == (38, 3)
    train(trained(), data(41), recipe(**{**TWO, "steps": 1}), tmp_path)
    assert checkpoint.stored(tmp_path / "checkpoint-0000001")["images"] == 38
    with pytest.raises(ValueError, match="held-out images"):
        set_aside(data(1))


def test_what_can_not_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match="leave freeze='backbone' out"):
        recipe(two_stage=True, freeze="backbone")
    with pytest.raises(ValueError, match="leaves nothing to train"):
        train(trained(skips=None), data(), recipe(**TWO), tmp_path)


# ---- resuming


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 6])
def test_resume_equals_a_run_that_never_stopped(tmp_path, stop):
    """Stopped before a look, at one, at the switch and after it."""
    settings, whole, halves = recipe(**TWO, tolerance=0.0), tmp_path / "whole", tmp_path / "halves"
    train(trained(), data(), settings, whole)
    train(trained(), data(), settings, halves, stop=_after(halves, stop))
    assert checkpoint.latest(halves).step == stop
    train(trained(), data(), settings, halves, resume=True)
    for which in ("model", "ema"):
        assert equal(weights(whole, 9, which), weights(halves, 9, which))
    drop = ("time", "samples_per_s")
    told = [[{k: v for k, v in line.items() if k not in drop} for line in lines(run)] for run in (whole, halves)]
    assert told[0] == told[1]


def test_a_run_of_before_there_were_stages_goes_on(tmp_path):
    train(trained(), data(), recipe(steps=2), tmp_path)
    file = tmp_path / "checkpoint-0000002" / "state.json"
    state = json.loads(file.read_text())
    del state["stages"]
    for name in ("two_stage", "window", "tolerance", "first_stage"):
        del state["recipe"][name]
    file.write_text(json.dumps(state))
    assert train(trained(), data(), recipe(steps=3), tmp_path, resume=True) == 3
    with pytest.raises(ValueError, match="two_stage was False and is True"):
        train(trained(), data(), recipe(steps=4, two_stage=True), tmp_path, held=data(2), resume=True)


def test_state_survives_json():
    stages = Stages.of(recipe(**TWO), path_of("epsilon"), data(6), None)
    stages.begin(trained())
    again = Stages.of(recipe(**TWO), path_of("epsilon"), data(6), json.loads(json.dumps(stages.state)))
    assert again.state == stages.state
    assert len(again.seen) == 256


WORKER = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from accelerate import Accelerator
from test_stages import TWO, data, recipe, trained
from skipdit.train import train
torch.set_num_threads(1)
accelerator, net = Accelerator(cpu=True), trained()
train(net, data(), recipe(**TWO), Path(sys.argv[1]), accelerator=accelerator)
total = torch.stack([p.detach().double().sum() for p in net.parameters()]).sum()
everyone = accelerator.gather(total.reshape(1))
assert len(everyone) == 2 and everyone[0] == everyone[1], everyone
torch.distributed.destroy_process_group()
"""


def test_two_processes_switch_together_and_share_all_gradients(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(tmp_path / "worker.py"), str(tmp_path / "run"), os.path.dirname(__file__)]
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env=one)
    assert done.returncode == 0, done.stderr
    assert {line["stage"] for line in lines(tmp_path / "run")} == {1, 2}
    start, after = trained().state_dict(), weights(tmp_path / "run", 9)
    assert {name for name in start if torch.equal(start[name], after[name])} == {"pos_embed"}

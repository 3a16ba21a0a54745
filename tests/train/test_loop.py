"""Training: resumes bit for bit after kill -9, freezes by name, learns."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from skipdit.backbones.dit import DiT
from skipdit.data import ImageSet
from skipdit.diffusion import path_of
from skipdit.train import Recipe, checkpoint, freeze, loop, train
from skipdit.train.draws import draw
from skipdit.train.ema import Ema

NAMES = ("a", "b", "c")


def data(n: int = 20) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageSet(x, torch.arange(n) % 3, torch.arange(n) % 2, NAMES, ("s", "t"))


def model(**changes) -> DiT:
    torch.manual_seed(0)
    settings = dict(input_size=8, patch_size=4, in_channels=3, hidden_size=32, depth=4, num_heads=2, num_classes=3)
    return DiT(**{**settings, "num_styles": 2, "learn_sigma": False, "skips": "join", **changes})


def recipe(**changes) -> Recipe:
    return Recipe(**{**dict(steps=6, batch_size=4, warmup=2, decay=2, lr=1e-3, ema=0.9), **changes})


def weights(run, step, which="model"):
    made = model()
    checkpoint.load_weights(made, run / f"checkpoint-{step:07d}" / which)
    return made.state_dict()


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_resume_equals_a_run_that_never_stopped(tmp_path, precision):
    whole = recipe(precision=precision)
    train(model(), data(), whole, tmp_path / "whole", save_every=3)
    train(model(), data(), whole, tmp_path / "halves", save_every=3, stop=_after(tmp_path / "halves", 3))
    torch.rand(5)  # whatever happens in between
    assert train(model(), data(), whole, tmp_path / "halves", save_every=3, resume=True) == 6
    for which in ("model", "ema"):
        assert equal(weights(tmp_path / "whole", 6, which), weights(tmp_path / "halves", 6, which))
    figures = [
        [(line["step"], line["loss"]) for line in map(json.loads, (tmp_path / run / "metrics.jsonl").open())]
        for run in ("whole", "halves")
    ]
    assert figures[0] == figures[1]
    assert [step for step, _ in figures[0]] == [1, 2, 3, 4, 5, 6]


KILLED = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_loop import data, model, recipe
from skipdit.train import train
torch.set_num_threads(1)
train(model(), data(), recipe(steps=400), Path(sys.argv[1]), save_every=20, resume=True, keep=50)
"""


def test_kill_9_loses_nothing_but_the_steps_since_the_last_checkpoint(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", KILLED, str(killed), os.path.dirname(__file__)]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while checkpoint.latest(killed) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (killed / "checkpoint-9999999.partial").mkdir()  # what a kill in the middle of writing leaves
    start = checkpoint.latest(killed)
    assert start is not None
    assert start.step % 20 == 0
    stop = start.step + 5
    train(model(), data(), recipe(steps=400), killed, save_every=20, resume=True, keep=50, stop=_after(killed, stop))
    train(model(), data(), recipe(steps=400), whole, save_every=20, keep=50, stop=_after(whole, stop))
    assert equal(weights(killed, stop), weights(whole, stop))
    assert equal(weights(killed, stop, "ema"), weights(whole, stop, "ema"))


def _after(run, step):
    return lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("\n") >= step


def test_a_run_is_not_overwritten(tmp_path):
    train(model(), data(), recipe(steps=1), tmp_path)
    with pytest.raises(FileExistsError, match="--resume"):
        train(model(), data(), recipe(steps=1), tmp_path)


@pytest.mark.parametrize("file", ["optimizer.pt", "state.json", "model/diffusion_pytorch_model.safetensors"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(tmp_path, file):
    train(model(), data(), recipe(steps=4), tmp_path, save_every=2)
    damaged = tmp_path / "checkpoint-0000004" / file
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"checkpoint-0000004 is damaged .* delete it, and --resume goes on"):
        train(model(), data(), recipe(steps=6), tmp_path, resume=True)
    shutil.rmtree(tmp_path / "checkpoint-0000004")
    assert train(model(), data(), recipe(steps=6), tmp_path, resume=True) == 6


def test_loss_falls_and_the_average_follows(tmp_path):
    train(model(), data(4), recipe(steps=60, decay=10, lr=3e-3), tmp_path, keep=1)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").open()]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-0000060"]
    assert not equal(weights(tmp_path, 60), weights(tmp_path, 60, "ema"))


def test_max_minutes_stops_and_saves(tmp_path):
    reached = train(model(), data(), recipe(steps=10**6, decay=1), tmp_path, max_minutes=0.02)
    assert 0 < reached < 10**6
    assert checkpoint.latest(tmp_path).step == reached


def test_freezing_the_backbone_trains_the_branches_alone(tmp_path):
    net = model()
    torch.nn.init.normal_(net.final_layer.linear.weight)  # a fresh DiT's output is 0, whatever a branch says
    start = {name: value.clone() for name, value in net.state_dict().items()}
    train(net, data(), recipe(freeze="backbone", steps=3), tmp_path)
    after = weights(tmp_path, 3)
    moved = {name for name in start if not torch.equal(start[name], after[name])}
    assert moved
    assert all(name.startswith("skip_branches.") for name in moved)


@pytest.mark.parametrize(
    ("names", "message"), [("backbon", "matches no parameter"), ("x,backbone,skip_branches", "leaves nothing")]
)
def test_freezing_refuses_by_name(names, message):
    with pytest.raises(ValueError, match=message):
        freeze(model(), names.replace("x,", "x_embedder,"))


def test_every_image_comes_once_an_epoch_and_processes_share_it():
    whole, settings, path = data(20), recipe(batch_size=5), path_of("epsilon")
    seen = torch.cat([draw(whole, path, settings, step).x0 for step in range(4)])
    assert len(torch.unique(seen.flatten(1), dim=0)) == 20
    shared = torch.cat([draw(whole, path, settings, step, process, 2).x0 for step in range(2) for process in range(2)])
    assert len(torch.unique(shared.flatten(1), dim=0)) == 20
    first, second = (draw(whole, path, settings, 0, process, 2).noise for process in range(2))
    assert not torch.equal(first, second)


def test_the_average_by_hand():
    net = torch.nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(0.0)
    ema = Ema(net, 0.5)
    net.weight.data.fill_(1.0)
    ema.update(net, 0)  # d = min(0.5, 1/10)
    assert ema.model.weight.item() == pytest.approx(0.9)
    ema.update(net, 1000)
    assert ema.model.weight.item() == pytest.approx(0.95)


@pytest.mark.parametrize(
    "wrong",
    [dict(steps=0), dict(lr=-1.0), dict(lr=float("nan")), dict(ema=1.0), dict(batch_size=0), dict(precision="f8")],
)
def test_a_senseless_recipe_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe(**wrong)


def test_a_run_that_fails_at_its_first_step_is_none_and_damaged_metrics_are_named(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    broken = model()
    broken.pos_embed.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError):
        train(broken, data(), recipe(steps=1), tmp_path)
    assert not metrics.exists()
    train(model(), data(), recipe(steps=1), tmp_path)
    for damage in ("[}\n", "{}\n"):
        metrics.write_text(damage)
        with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged"):
            train(model(), data(), recipe(steps=2), tmp_path, resume=True)


def test_the_learning_rate_warms_up_stays_and_falls():
    r = Recipe(steps=100, warmup=10, decay=20, lr=1.0)
    assert [r.lr_at(s) for s in (0, 4, 9, 50, 80, 90, 99)] == pytest.approx([0.1, 0.5, 1, 1, 1, 0.5, 0.05])


def test_looking_at_a_run_changes_nothing_until_the_one_writer_does(tmp_path):
    """Every process looks, one cuts: two that cut at once would take each other's file away."""
    train(model(), data(), recipe(steps=2), tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    with metrics.open("a") as log:
        log.write('{"step": 3, "loss": 1.0}\n{"step": 4, "lo')
    before = metrics.read_text()
    about = json.loads((tmp_path / "checkpoint-0000002" / "state.json").read_text())
    start = loop._begin(tmp_path, True, about, model())
    assert metrics.read_text() == before
    loop._cut_metrics(tmp_path, start)
    assert [json.loads(line)["step"] for line in metrics.open()] == [1, 2]

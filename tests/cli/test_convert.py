"""skipdit convert gives branches to what it is shown, and skipdit train takes it from there, in two stages."""

import json

import diffusers
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

import skipdit
from skipdit.backbones.dit import DiT
from skipdit.cli import app
from skipdit.cli.settings import paired
from skipdit.convert import stored_dtype
from skipdit.train import checkpoint

TINY = ["--image-size", 8, "--hidden-size", 32, "--depth", 4, "--num-heads", 2, "--batch-size", 2]


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


def refused(*arguments):
    (line,) = [line for line in call(*arguments, code=2).stderr.splitlines() if line.strip()]
    return line


@pytest.fixture
def photos(tmp_path):
    """Two classes of four pictures."""
    for name, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8 + i, 8), colour).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def wild(tmp_path):
    """A transformer of diffusers, saved in bfloat16 as part of a pipeline's folder."""
    torch.manual_seed(0)
    model = diffusers.DiTTransformer2DModel(2, 16, 4, 8, num_layers=6, sample_size=8).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "pipe" / "transformer")
    (tmp_path / "pipe" / "model_index.json").write_text("{}")
    return tmp_path / "pipe"


def same_weights(a, b):
    return all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())


def test_a_shipped_model(tmp_path):
    out = tmp_path / "joined"
    assert "float16, 4 branches 0:7, 1:6, 2:5, 3:4" in call("convert", "emoji-plain", out, "--skips", "join").output
    plain, joined = DiT.from_pretrained("emoji-plain"), DiT.from_pretrained(out)
    assert same_weights(plain, joined)
    x, t, y = torch.randn(2, 3, 32, 32), torch.tensor([5, 900]), torch.tensor([0, 200])
    with torch.no_grad():
        assert torch.equal(plain.eval()(x, t, y, y % 6), joined.eval()(x, t, y, y % 6))


def test_a_folder_of_diffusers(wild, tmp_path):
    out = tmp_path / "joined"
    said = call("convert", wild / "transformer", out, "--skips", "join", "--pairs", "0:5,1:3").output
    assert "DiTTransformer2DModel" in said
    assert "bfloat16, 2 branches 0:5, 1:3" in said
    assert stored_dtype(out) == torch.bfloat16
    again = skipdit.from_pretrained(out, torch_dtype=torch.bfloat16)
    assert same_weights(skipdit.from_pretrained(wild / "transformer", torch_dtype=torch.bfloat16), again)
    assert again.config.skip_pairs == [(0, 5), (1, 3)]
    call("convert", wild / "transformer", tmp_path / "wide", "--skips", "replace", "--dtype", "float32")
    assert stored_dtype(tmp_path / "wide") == torch.float32


def test_a_weight_file(tmp_path):
    torch.manual_seed(0)
    save_file(DiT(8, 2, 4, 384, 4, 6).state_dict(), tmp_path / "plain.safetensors")
    call("convert", tmp_path / "plain.safetensors", tmp_path / "plain")
    assert DiT.from_pretrained(tmp_path / "plain").config.skips is None
    call("convert", tmp_path / "plain.safetensors", tmp_path / "joined", "--skips", "join", "--pairs", "0:3")
    joined = DiT.from_pretrained(tmp_path / "joined")
    assert (joined.config.skips, joined.config.skip_pairs) == ("join", [[0, 3]])


def test_refusals(wild, tmp_path):
    assert "--skips join or --skips replace" in refused("convert", "emoji-plain", tmp_path / "x")
    assert "subfolder='transformer'" in refused("convert", wild, tmp_path / "x", "--skips", "join")
    assert "has skip branches already" in refused("convert", "emoji-skip", tmp_path / "x", "--skips", "join")
    assert "exists already" in refused("convert", "emoji-plain", wild, "--skips", "join")
    assert "'0-7': spell them source:target" in refused(
        "convert", "emoji-plain", tmp_path / "x", "--skips", "join", "--pairs", "0-7"
    )
    assert "no model 'emoji-plan'" in refused("convert", "emoji-plan", tmp_path / "x", "--skips", "join")
    assert not (tmp_path / "x").exists()


def test_pairs_are_spelled_with_colons():
    assert paired("0:27, 1:26") == [(0, 27), (1, 26)]
    assert paired(None) is None


def test_a_converted_model_trains_in_two_stages_and_resumes(photos, tmp_path):
    torch.manual_seed(0)
    common = ["--data", photos, "--batch-size", 2, "--precision", "no"]
    call(
        "train",
        "--out",
        tmp_path / "plain",
        "--skips",
        "none",
        "--steps",
        1,
        "--data",
        photos,
        "--precision",
        "no",
        *TINY,
    )
    start, joined, run = tmp_path / "plain" / "checkpoint-0000001" / "ema", tmp_path / "joined", tmp_path / "run"
    call("convert", start, joined, "--skips", "join", "--pairs", "0:3")
    two = ["--two-stage", "--window", 1, "--first-stage", 2, "--lr", 0.01, "--warmup", 0]
    call("train", "--out", run, "--init", joined, *two, "--steps", 3, *common)
    call("train", "--out", run, "--resume", "--steps", 4, "--data", photos)
    stored = checkpoint.stored(run / "checkpoint-0000004")
    assert stored["config"]["skip_pairs"] == [[0, 3]]
    assert stored["config"]["skips"] == "join"
    assert stored["images"] == 7  # an eighth of these eight is looked at instead
    said = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    assert len(said) == 4
    assert "first_stage_ends" in "".join(map(str, said))
    assert said[-1]["stage"] == 2

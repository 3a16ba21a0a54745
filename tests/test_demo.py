"""The demo, in small: real shipped weights, two pictures, four steps."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from skipdit.backbones.dit import DiT
from skipdit.backbones.latte import Latte
from skipdit.demo import IMAGES, VIDEO, demo
from skipdit.results import Record
from skipdit.sample import sample

LABELS = ("red apple", "rocket")
SMALL = replace(IMAGES, labels=LABELS, styles=("noto",), every=(1, 2))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A demo's folder, what it returned, and what it told on its way."""
    folder, told = tmp_path_factory.mktemp("demo"), []
    before = torch.get_num_threads()
    result = demo(folder, SMALL, 4, repeats=1, threads=1, on_progress=lambda *a: told.append(a))
    assert torch.get_num_threads() == before
    return folder, result, told


def test_the_figures_are_all_there(made):
    folder, result, _ = made
    assert json.loads((folder / "demo.json").read_text()) == result
    records = [Record.from_json(json.dumps(record)) for record in result["records"]]
    assert [r.name for r in records[:3]] == ["DiT", "Skip-DiT", "Skip-Cache, N = 1"]
    assert records[3].name == f"Skip-DiT, {records[3].provenance.steps} steps (N = 1)"
    assert [r.policy for r in records[2:]] == ["skip_cache(every=1, hi=950)", "", "skip_cache(every=2, hi=950)", ""]
    for record in records:
        f, where = record.figures, record.provenance
        assert f["computed"] + f["stood_in"] == f["steps"] == where.steps
        assert f["seconds"] > 0
        assert (where.threads, where.batch, where.dtype) == (1, 2, "float32")
        assert where.machine
        assert where.commit
        assert where.torch == torch.__version__
    assert result["settings"]["labels"] == list(LABELS)
    assert result["settings"]["styles"] == ["noto", "noto"]


def test_uncached_rows_have_no_psnr_and_always_computing_is_uncached(made):
    _, result, _ = made
    plain, skip, always, _, cached, fewer = (record["figures"] for record in result["records"])
    assert plain["psnr"] is skip["psnr"] is plain["of_ideal"] is None
    assert plain["over_plain"] == skip["over_skip"] == 1
    assert always["identical"]
    assert always["psnr"] is None  # infinite
    assert always["ideal_over_skip"] == 1
    assert not cached["identical"]
    assert 10 < cached["psnr"] < 80
    assert cached["ideal_over_skip"] > 1.1
    assert cached["of_ideal"] == pytest.approx(cached["over_skip"] / cached["ideal_over_skip"])
    assert fewer["steps"] >= 1


def test_flops_are_those_of_the_models(made):
    _, result, _ = made
    plain, skip, *_ = (record["figures"] for record in result["records"])
    assert plain["gflops"] < skip["gflops"]  # the branches cost something
    assert skip["ideal_over_plain"] == pytest.approx(plain["gflops"] / skip["gflops"])


def test_the_sheet_has_a_row_for_each_record(made):
    folder, _, _ = made
    with Image.open(folder / "demo.png") as sheet:
        assert sheet.width > 2 * 96
        assert sheet.height > (2 + 2 * 4) * 96
    assert sorted(p.name for p in folder.iterdir()) == ["demo.json", "demo.png"]


def test_progress_counts_every_draw(made):
    _, result, told = made
    assert [done for done, _, _ in told] == list(range(1, len(told) + 1))
    assert told[-1][0] == told[-1][1] == 4 * 3 + 2 * len(result["records"])


def test_pictures_are_those_of_the_sampler(made):
    """The seeds are the sampler's: anybody can draw the same pictures."""
    model = DiT.from_pretrained("emoji-skip")
    a, b = (sample(model, LABELS, "noto", steps=2, seed=s) for s in (0, 0))
    assert torch.equal(a, b)


def test_a_wrong_label_and_wrong_counts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown label 'red aple'"):
        demo(tmp_path, replace(IMAGES, labels=["red aple"]), steps=1, threads=1)
    with pytest.raises(ValueError, match="steps=0"):
        demo(tmp_path, steps=0)


def test_videos_play_side_by_side_and_lie_open_in_a_sheet(tmp_path):
    sizes = dict(input_size=8, patch_size=4, in_channels=3, hidden_size=32, depth=8, num_heads=2, num_frames=3)
    torch.manual_seed(0)
    for name, skips in (("plain", None), ("skip", "replace")):
        model = Latte(**sizes, num_classes=2, class_names=["a", "b"], learn_sigma=False, skips=skips)
        torch.nn.init.normal_(model.final_layer.linear.weight, std=0.02)
        model.save_pretrained(tmp_path / name)
    twins = replace(VIDEO, plain=str(tmp_path / "plain"), skip=str(tmp_path / "skip"), labels=("a", "b"), every=(2,))
    result = demo(tmp_path / "out", twins, 4, repeats=1, threads=1)
    names = [record["name"] for record in result["records"]]
    assert names[:3] == ["Latte", "Skip-Latte", "Skip-Cache, N = 2"]
    assert result["records"][2]["figures"]["psnr"] > 5
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["demo-video.json", "demo-video.png", "demo-video.webp"]
    with Image.open(tmp_path / "out" / "demo-video.webp") as moving:
        assert moving.n_frames == 3

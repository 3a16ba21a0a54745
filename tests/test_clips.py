"""docs/clips.py at a tiny size, end to end: settings are chosen, clips drawn once, scored, and put into the page."""

import numpy as np
import pytest
import torch

from skipdit.backbones.latte import Latte
from skipdit.data import write_clips
from skipdit.results import read

NAMES = ("ant", "bear", "cat")


@pytest.fixture
def script(script_of, monkeypatch, tmp_path):
    module = script_of("clips")
    skip, plain = (latte(tmp_path / name, skips) for name, skips in (("skip", "replace"), ("plain", None)))
    page = tmp_path / "video.md"
    page.write_text("before\n<!-- clips -->\nold\n<!-- end -->\nbehind\n")
    tiny = dict(SKIP=skip, PLAIN=plain, OUT=tmp_path / "out", RECORDS=tmp_path / "c.jsonl", PAGE=page, STEPS=6)
    tiny |= dict(BATCH=2, CHOSEN_ON=2, FEWER={plain: (), skip: (3,)}, BUDGET=0.1, SHOWN={2: "skip_cache(every=2)"})
    tiny |= dict(TRIED={"fora": ["fora(every=2)"], "first_block": ["first_block(threshold=0.3)"]})
    for name, value in tiny.items():
        monkeypatch.setattr(module, name, value)
    return module


def latte(folder, skips):
    torch.manual_seed(0)
    model = Latte(
        input_size=16, patch_size=4, in_channels=3, hidden_size=32, depth=8, num_heads=2, num_frames=2,
        num_classes=3, class_names=list(NAMES), skips=skips, prediction="v_prediction", learn_sigma=False,
    )  # fmt: skip
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return str(folder)


def test_from_choice_to_page(script, tmp_path, network):
    network("i3d"), network("inception")
    script.choose()
    script.draw()
    drawn = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("[0-9]*.safetensors")}
    script.draw(backwards=True)
    assert drawn == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("[0-9]*.safetensors")}
    x = np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32, 3), np.uint8)
    write_clips(tmp_path / "real", x, [{"label": name, "file": name} for name in NAMES])
    script.report(tmp_path / "real")
    records = read(script.RECORDS)
    assert len(records) == 2 + 1 + 1 + 2  # uncached, fewer steps, Skip-Cache, methods
    uncached, fora = records[0].figures, next(r.figures for r in records if r.policy.startswith("fora"))
    assert records[0].provenance.batch == 2
    assert (uncached["speedup"], uncached["psnr"]) == (1, None)
    assert fora["ideal_speedup"] > 1
    assert 0 < fora["psnr"] < 100
    assert fora["fvd"] > 0
    page = script.PAGE.read_text()
    assert page.count("\n| ") == len(records) + 1
    assert page.startswith("before\n<!-- clips -->\n|  | setting")
    assert page.endswith("<!-- end -->\nbehind\n")

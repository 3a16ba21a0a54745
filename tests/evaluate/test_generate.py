"""Shards: resumed, shared out, extended, refused; each image is the same however it came about."""

import numpy as np
import pytest
import torch

from skipdit.backbones.dit import DiT
from skipdit.data.images import ImageSet
from skipdit.evaluate import generate as module
from skipdit.evaluate.generate import Drawing, drawing_of, generate
from skipdit.evaluate.images import open_images

QUICK = Drawing(steps=2, batch=4)


@pytest.fixture
def model(monkeypatch):
    """A tiny model with three labels and two styles, and shards of four images."""
    monkeypatch.setattr(module, "SHARD", 4)
    torch.manual_seed(0)
    names = dict(class_names=("ape", "bee", "cat"), style_names=("ink", "oil"))
    sizes = dict(input_size=8, patch_size=2, in_channels=3, hidden_size=32, depth=2, num_heads=2)
    made = DiT(**sizes, num_classes=3, num_styles=2, **names).eval()
    for parameter in made.parameters():  # a fresh head is zero: all images would be noise alone
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return made


def drawn(folder):
    return torch.cat(list(open_images(folder).batches(100)))


def test_images_are_drawn_in_shards_and_are_the_same_after_a_break(model, tmp_path):
    told = []
    paths = generate(model, tmp_path / "one", 10, QUICK, on_image=lambda done, total: told.append((done, total)))
    assert [path.name for path in paths] == [f"images-0000{i}.npz" for i in range(3)]
    assert told == [(4, 10), (8, 10), (10, 10)]
    whole = drawn(tmp_path / "one")
    assert whole.shape == (10, 3, 8, 8)
    assert whole.dtype == torch.uint8

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(model, tmp_path / "two", 10, QUICK, on_image=stop)
    assert len(list((tmp_path / "two").glob("images-?????.npz"))) == 1
    generate(model, tmp_path / "two", 10, QUICK)
    assert torch.equal(drawn(tmp_path / "two"), whole)


def test_the_label_of_each_image_is_kept(model, tmp_path):
    generate(model, tmp_path, 6, QUICK)
    names = ("ape", "bee", "cat")
    expected = [names[label] for label, _ in module._conditions(model, 6, 0, None)]
    found = open_images(tmp_path)
    assert found.labels == expected
    assert found.first(3).labels == expected[:3]
    with np.load(tmp_path / "images-00001.npz") as arrays:
        x = arrays["x"]
    np.savez_compressed(tmp_path / "images-00001.npz", x=x)  # as shards were written before labels were kept
    assert open_images(tmp_path).labels is None
    model.register_to_config(class_names=None)
    generate(model, tmp_path / "nameless", 4, QUICK)
    assert open_images(tmp_path / "nameless").labels is None


def test_what_is_there_is_kept_and_more_is_added(model, tmp_path, monkeypatch):
    generate(model, tmp_path, 6, QUICK)
    before = drawn(tmp_path)
    first = (tmp_path / "images-00000.npz").stat().st_mtime_ns
    generate(model, tmp_path, 12, QUICK)
    assert (tmp_path / "images-00000.npz").stat().st_mtime_ns == first
    assert torch.equal(drawn(tmp_path)[:6], before)
    monkeypatch.setattr(module, "sample", None)  # fewer than there are: nothing to draw
    generate(model, tmp_path, 9, QUICK)
    assert open_images(tmp_path).first(9).count == 9


def test_parts_make_the_whole(model, tmp_path):
    generate(model, tmp_path / "whole", 10, QUICK)
    for number in (1, 0):
        generate(model, tmp_path / "parts", 10, QUICK, part=(number, 2))
    assert torch.equal(drawn(tmp_path / "parts"), drawn(tmp_path / "whole"))


def test_images_drawn_otherwise_are_refused(model, tmp_path):
    generate(model, tmp_path, 4, QUICK)
    assert drawing_of(tmp_path) == QUICK
    assert drawing_of(tmp_path / "nowhere").steps == 0
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "run.json").write_text('{"lr": 1}')
    assert drawing_of(tmp_path / "theirs").steps == 0
    with pytest.raises(ValueError, match=r"drawn otherwise \(steps=2, not 3\)"):
        generate(model, tmp_path, 4, Drawing(steps=3, batch=4))
    with pytest.raises(ValueError, match="policy='', not 'fora"):
        generate(model, tmp_path, 4, Drawing("fora(every=2)", steps=2, batch=4))
    model.final_layer.linear.weight.data.add_(1)
    with pytest.raises(ValueError, match="drawn otherwise"):
        generate(model, tmp_path, 4, QUICK)
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match=r"holds files but no run\.json"):
        generate(model, tmp_path, 4, QUICK)
    for damage in ("[1]", "{"):
        (tmp_path / "run.json").write_text(damage)
        with pytest.raises(ValueError, match=r"run\.json is damaged"):
            generate(model, tmp_path, 4, QUICK)


def test_a_command_that_drew_nothing_claims_nothing(model, tmp_path):
    with pytest.raises(ValueError, match="did you mean fora"):
        generate(model, tmp_path, 4, Drawing("forra(every=2)", steps=2, batch=4))
    generate(model, tmp_path, 4, QUICK)
    assert drawing_of(tmp_path) == QUICK


def test_a_plan_that_was_tuned_anew_is_another_way(model, tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text("{}")
    out, drawing = tmp_path / "drawn", Drawing(f"{plan}", steps=2, batch=4)
    module._claim(out, module._said(model, drawing, None))
    (out / "images-00000.npz").touch()
    module._claim(out, module._said(model, drawing, None))
    plan.write_text("{ }")
    with pytest.raises(ValueError, match=r"drawn otherwise \(files="):
        module._claim(out, module._said(model, drawing, None))


def test_gaps_between_shards_are_refused(model, tmp_path):
    generate(model, tmp_path / "short", 6, QUICK)
    generate(model, tmp_path / "short", 12, QUICK, part=(0, 2))  # the second shard keeps its two images
    generate(model, tmp_path / "lost", 12, QUICK)
    (tmp_path / "lost" / "images-00001.npz").unlink()
    for folder in ("short", "lost"):
        with pytest.raises(ValueError, match="lacks shards between others"):
            open_images(tmp_path / folder)
        generate(model, tmp_path / folder, 12, QUICK)
        assert open_images(tmp_path / folder).count == 12


def test_a_policy_changes_the_images(model, tmp_path):
    four = Drawing(steps=4, batch=4)
    generate(model, tmp_path / "full", 4, four)
    generate(model, tmp_path / "cached", 4, Drawing("fora(every=2)", steps=4, batch=4))
    generate(model, tmp_path / "passes", 4, Drawing(passes="reuse(every=2)", steps=4, batch=4))
    full = drawn(tmp_path / "full")
    assert not any(torch.equal(full, drawn(tmp_path / other)) for other in ("cached", "passes"))


def test_the_labels_of_a_data_set_are_drawn(model):
    data = ImageSet(
        torch.zeros(4, 3, 8, 8, dtype=torch.uint8),
        torch.tensor([0, 0, 1, 1]),
        torch.tensor([0, 0, 0, 0]),
        ("cat", "ape"),
        ("oil",),
    )
    found = module._conditions(model, 8, 0, data)
    assert sorted(found[:4]) == sorted(found[4:]) == [(0, 1), (0, 1), (2, 1), (2, 1)]
    assert found[:5] == module._conditions(model, 5, 0, data)
    evenly = module._conditions(model, 300, 0, None)
    assert min(np.bincount([label for label, _ in evenly])) > 70
    strange = ImageSet(data.x, data.y, data.style, ("cat", "dog"), ("oil",))
    with pytest.raises(ValueError, match="doesn't know the reference's label 'dog'"):
        module._conditions(model, 8, 0, strange)

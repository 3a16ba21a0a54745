"""Starting from another's weights: rows go by label, new branches stay fresh, sizes must agree."""

import pytest
import torch
from test_loop import model

from skipdit.backbones.latte import Latte
from skipdit.train.start import start_from

NAMES = ["ant", "bee", "cat", "dog"]


def named(names, **changes):
    made = model(num_classes=len(names), class_names=names, style_names=["s", "t"], skips=None, **changes)
    torch.nn.init.normal_(made.final_layer.linear.weight)
    return made


def test_rows_go_by_label_and_the_dropped_row_stays_last():
    other, fewer = named(NAMES), named(["dog", "bee"])
    assert start_from(fewer, other) == []
    table, theirs = fewer.y_embedder.embedding_table.weight, other.y_embedder.embedding_table.weight
    assert torch.equal(table, theirs[[3, 1, 4]])
    x, t, s = torch.randn(2, 3, 8, 8), torch.tensor([5, 900]), torch.tensor([0, 1])
    ours, same = fewer.eval()(x, t, torch.tensor([0, 2]), s), other.eval()(x, t, torch.tensor([3, 4]), s)
    assert torch.equal(ours, same)


def test_new_branches_stay_fresh_and_change_nothing():
    other = named(NAMES)
    skip = model(num_classes=4, class_names=NAMES, style_names=["s", "t"], skips="join")
    fresh = start_from(skip, other)
    assert fresh
    assert all(name.startswith("skip_branches.") for name in fresh)
    call = torch.randn(1, 3, 8, 8), torch.tensor([5]), torch.tensor([2]), torch.tensor([0])
    assert torch.equal(skip.eval()(*call), other.eval()(*call))


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ValueError, match="does not know eel"):
        start_from(named(["ant", "eel"]), named(NAMES))
    with pytest.raises(ValueError, match=r"x_embedder.*equal sizes only|pos_embed.*equal sizes only"):
        start_from(named(NAMES), named(NAMES, hidden_size=64))


def latte(**changes):
    sizes = dict(input_size=8, patch_size=4, in_channels=3, hidden_size=32, depth=4, num_heads=2, num_frames=3)
    return Latte(**{**sizes, "num_classes": 4, "class_names": NAMES, "learn_sigma": False, **changes})


@pytest.mark.parametrize("skips", [None, "replace"])
def test_a_latte_starts_as_the_dit_frame_by_frame_in_one_style(skips):
    other = model(num_classes=4, class_names=NAMES, style_names=["s", "t"], skips=skips)
    torch.nn.init.normal_(other.final_layer.linear.weight)
    video = latte(temporal="none", skips=skips)
    assert start_from(video, other, "t") == []
    x, t = torch.randn(2, 3, 3, 8, 8), torch.tensor([5, 900])
    for y in ([0, 3], [4, 4]):  # 4: the dropped label
        drawn = video.eval()(x, t, torch.tensor(y))
        style = torch.tensor([1, 1])
        frames = [other.eval()(x[:, frame], t, torch.tensor(y), style) for frame in range(3)]
        torch.testing.assert_close(drawn, torch.stack(frames, 1))


def test_temporal_blocks_start_fresh_and_closed():
    other = model(depth=2, num_classes=4, class_names=NAMES, style_names=["s", "t"])
    video = latte(temporal="attention", skips="join")
    fresh = start_from(video, other, "s")
    assert fresh
    assert all(name.startswith(("temporal_blocks.", "temp_embed")) for name in fresh)
    assert not any(block.adaLN_modulation[-1].weight.any() for block in video.temporal_blocks)
    assert torch.equal(video.blocks[1].mlp.fc1.weight, other.blocks[1].mlp.fc1.weight)


def test_blocks_may_be_left_out_and_branches_go_with_the_block_they_join():
    other = model(depth=4, num_classes=4, class_names=NAMES, style_names=["s", "t"], skips="replace")
    video = latte(depth=6, skips="replace")
    fresh = start_from(video, other, "s", blocks=[0, 2, 3])
    assert all(name.startswith(("temporal_blocks.", "temp_embed")) for name in fresh)
    for ours, theirs in enumerate((0, 2, 3)):
        assert torch.equal(video.blocks[ours].mlp.fc1.weight, other.blocks[theirs].mlp.fc1.weight)
    assert video.skip_branches.keys() == {"4"}
    assert torch.equal(video.skip_branches["4"].linear.weight, other.skip_branches["3"].linear.weight)
    for wrong in ([0, 1], [0, 1, 4], None):
        with pytest.raises(ValueError, match="don't make 3"):
            start_from(video, other, "s", blocks=wrong)


def test_a_style_is_named_where_one_must_go_on():
    other = model(num_classes=4, class_names=NAMES, style_names=["s", "t"])
    with pytest.raises(ValueError, match="name the one to go on with, style=: s, t"):
        start_from(latte(temporal="none", skips="join"), other)
    with pytest.raises(ValueError, match="'u' is unknown"):
        start_from(latte(temporal="none", skips="join"), other, "u")
    with pytest.raises(ValueError, match="leave it out"):
        start_from(named(NAMES), named(NAMES), "s")

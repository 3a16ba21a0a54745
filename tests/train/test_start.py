"""Starting from another's weights: rows go by label, new branches stay fresh, sizes must agree."""

import pytest
import torch
from test_loop import model

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

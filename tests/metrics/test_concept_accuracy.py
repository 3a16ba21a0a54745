"""Concept accuracy: ranks by hand, a loop over single pictures, laws, refusals."""

import pytest
import torch

from skipdit.metrics import concept_accuracy as module
from skipdit.metrics.concept_accuracy import among_themselves, concept_accuracy


def turned(*degrees):
    """Features (N, 2) of these directions, of lengths that must not matter."""
    angles = torch.tensor(degrees, dtype=torch.float32).deg2rad()
    lengths = torch.linspace(0.5, 3, len(angles))[:, None]
    return torch.stack([angles.cos(), angles.sin()], 1) * lengths


def test_by_hand():
    """Real pictures of six labels at 0, 10, ... 50 degrees, of label 0 a second one at 90."""
    reference, of = turned(0, 10, 20, 30, 40, 50, 90), torch.tensor([0, 1, 2, 3, 4, 5, 0])
    # label 0 is nearest at 1 degree and, by its second picture, at 89; sixth at 42, fifth at 51 by the second
    found = concept_accuracy(turned(1, 89, 42, 51), torch.tensor([0, 0, 0, 0]), reference, of)
    assert found == (0.5, 0.75)
    found = concept_accuracy(turned(1, 12, 49), torch.tensor([0, 0, 4]), reference, of)
    assert found == pytest.approx((1 / 3, 1))


def test_ranks_are_those_of_a_loop(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 7)
    generator = torch.Generator().manual_seed(0)
    x, reference = (torch.randn(count, 8, generator=generator) for count in (30, 60))
    labels, of = (torch.randint(0, 9, (count,), generator=generator) * 3 for count in (30, 60))
    ranks = []
    for one, label in zip(x, labels, strict=True):
        near = torch.cosine_similarity(one[None], reference)
        order = list(dict.fromkeys(of[near.argsort(descending=True)].tolist()))
        ranks.append(order.index(label.item()))
    expected = [sum(rank < k for rank in ranks) / 30 for k in (1, 5)]
    assert 0 < expected[0] < expected[1] < 1
    assert concept_accuracy(x, labels, reference, of) == pytest.approx(expected)


def test_a_set_is_right_about_itself_and_noise_is_at_chance():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(400, 16, generator=generator)
    labels = torch.arange(400) % 20
    assert concept_accuracy(x, labels, x, labels) == (1, 1)
    top1, top5 = among_themselves(x, labels)
    assert top1 == pytest.approx(1 / 20, abs=0.04)
    assert top5 == pytest.approx(5 / 20, abs=0.08)


def test_a_real_picture_is_not_its_own_neighbour():
    """Two of a label side by side find each other; the one that alone has its label is left out."""
    reference, of = turned(0, 1, 60, 62, 30), torch.tensor([4, 4, 7, 7, 9])
    assert among_themselves(reference, of) == (1, 1)
    assert among_themselves(reference, torch.tensor([4, 7, 4, 7, 9])).top1 == 0
    with pytest.raises(ValueError, match="no label has two pictures"):
        among_themselves(reference, torch.arange(5))


def test_refusals():
    x, y = turned(0, 1), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"features are \(N, D\) and \(M, D\)"):
        concept_accuracy(x, y, torch.zeros(2, 3), y)
    with pytest.raises(ValueError, match="have a label each"):
        concept_accuracy(x, y[:1], x, y)
    with pytest.raises(ValueError, match=r"no reference picture has label 5 \(1 of 2 candidates\)"):
        concept_accuracy(x, torch.tensor([0, 5]), x, y)

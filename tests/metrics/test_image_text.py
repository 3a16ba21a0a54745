"""Image-text score: by hand, at chance, refusals."""

import pytest
import torch

from skipdit.metrics import image_text as module
from skipdit.metrics.image_text import image_text


def unit(*degrees):
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1)


def test_by_hand(monkeypatch):
    """Captions at 0, 10, ... 110 degrees: own ones at 0, 60 and 60 degrees, of ranks 0, 5 and 11."""
    monkeypatch.setattr(module, "ROWS", 2)
    texts = unit(*range(0, 120, 10))
    found = image_text(unit(0, 60.1, 119), texts, torch.tensor([0, 3, 0]))
    cosines = torch.tensor([0.0, 30.1, 119.0]).deg2rad().cos()
    assert found.cosine == pytest.approx(cosines.mean().item(), abs=1e-6)
    assert found[1:] == pytest.approx((1 / 3, 1 / 3, 2 / 3))


def test_recall_of_noise_is_at_chance():
    generator = torch.Generator().manual_seed(0)
    x, texts = (torch.nn.functional.normalize(torch.randn(n, 16, generator=generator), dim=1) for n in (2000, 40))
    score = image_text(x, texts, torch.randint(0, 40, (2000,), generator=generator))
    assert score.cosine == pytest.approx(0, abs=0.02)
    assert score[1:] == pytest.approx((1 / 40, 5 / 40, 10 / 40), abs=0.02)


def test_refusals():
    with pytest.raises(ValueError, match=r"vectors are \(N, D\) and \(M, D\)"):
        image_text(unit(0, 1), torch.zeros(3, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"labels \(N,\)"):
        image_text(unit(0, 1), unit(0), torch.tensor([0]))
    for labels in ([0, 1], [-1, 0]):
        with pytest.raises(ValueError, match="a label from 0 to 0"):
            image_text(unit(0, 1), unit(0), torch.tensor(labels))

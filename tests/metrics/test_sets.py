"""Distances of sets of features: torchmetrics' numbers, numbers by hand, laws; the file of statistics."""

import pytest
import torch
from torch import nn

from skipdit.metrics.density_coverage import density_coverage
from skipdit.metrics.fid import fid, gaussian
from skipdit.metrics.inception_score import inception_score
from skipdit.metrics.kid import kid, mmd
from skipdit.metrics.precision_recall import precision_recall
from skipdit.metrics.sfid import sfid
from skipdit.metrics.statistics import load_statistics, save_statistics, statistics


def normal(count, width=16, shift=0.0, scale=1.0, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * scale + shift


class Given(nn.Module):
    """A feature network for torchmetrics that hands on what it gets: (N, 3, 8, 8) uint8 -> (N, 16)."""

    num_features = 16

    def forward(self, x):
        return x.flatten(1)[:, :16].float() / 16


def bytes_and_features(count, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 200 + 20 * seed, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return images, Given()(images)


def test_fid_and_kid_are_those_of_torchmetrics():
    image, kernel = (pytest.importorskip(f"torchmetrics.image.{name}") for name in ("fid", "kid"))
    (real, a), (fake, b) = bytes_and_features(300, 1), bytes_and_features(300, 2)
    theirs = image.FrechetInceptionDistance(feature=Given(), input_img_size=(3, 8, 8))
    theirs.update(real, real=True), theirs.update(fake, real=False)
    assert fid(b, a) == pytest.approx(theirs.compute().item(), abs=1e-3)
    assert mmd(a.double(), b.double()) == pytest.approx(kernel.poly_mmd(a.double(), b.double()).item(), abs=1e-9)
    whole = kernel.KernelInceptionDistance(feature=Given(), subsets=1, subset_size=300)
    whole.update(real, real=True), whole.update(fake, real=False)
    assert kid(b, a).mean == pytest.approx(whole.compute()[0].item(), rel=1e-5)


def test_fid_by_hand():
    """Of diagonal Gaussians it is |m - n|^2 + sum (s - t)^2."""
    a, b = normal(20_000), normal(20_000, shift=0.5, scale=2.0, seed=1)
    one, other = gaussian(a), gaussian(b)
    assert fid(one, other) == pytest.approx(16 * (0.25 + 1), rel=0.02)
    diagonal = [g._replace(cov=torch.diag(g.cov.diagonal())) for g in (one, other)]
    shift = (one.mean - other.mean).square().sum()
    spread = (one.cov.diagonal().sqrt() - other.cov.diagonal().sqrt()).square().sum()
    assert fid(*diagonal) == pytest.approx((shift + spread).item(), abs=1e-9)


@pytest.mark.parametrize("count", [10, 100, 3000], ids=["fewer features than dimensions", "more", "in parts"])
def test_a_set_is_at_0_from_itself(count):
    features = normal(count, 40, shift=3.0)
    assert fid(features, features) == pytest.approx(0, abs=1e-6)
    assert sfid(features, features) == pytest.approx(0, abs=1e-6)
    assert precision_recall(features, features) == (1, 1)
    density, coverage = density_coverage(features, features, k=5)
    assert density == pytest.approx(1, abs=0.03)  # ties at the border of a ball may fall either way
    assert coverage == 1


def test_halves_of_one_set_are_near_and_a_shift_is_not():
    features = normal(4000)
    near, far = fid(features[:2000], features[2000:]), fid(features[:2000], features[2000:] + 1)
    assert 0 < near < 0.1
    assert far == pytest.approx(16, rel=0.1)
    assert abs(kid(features[:2000], features[2000:]).mean) < 0.002 < kid(features[:2000], features[2000:] + 1).mean


def test_kid_is_unbiased_where_fid_is_not():
    """Small sets of one distribution: KID is 0 on average, FID is not."""
    pairs = [(normal(50, seed=i), normal(50, seed=1000 + i)) for i in range(60)]
    found = torch.tensor([kid(a, b).mean for a, b in pairs])
    assert abs(found.mean()) < 3 * found.std() / 60**0.5
    assert min(fid(a, b) for a, b in pairs) > 1


def test_kid_of_subsets_is_near_the_whole_and_repeats():
    a, b = normal(400), normal(300, shift=0.5, seed=1)
    found = kid(b, a, subsets=50, size=100)
    assert found == kid(b, a, subsets=50, size=100)
    assert found.mean == pytest.approx(mmd(b.double(), a[:300].double()), rel=0.2)
    assert 0 < found.std < found.mean


def brute(candidate, reference, k):
    """(precision, recall, density, coverage), one pair at a time."""

    def far(set_, i):
        return sorted((set_[i] - x).norm().item() for j, x in enumerate(set_) if j != i)[k - 1]

    def share(those, manifold, radius):
        return sum(any((x - m).norm() <= r for m, r in zip(manifold, radius, strict=True)) for x in those) / len(those)

    real, fake = ([far(s, i) for i in range(len(s))] for s in (reference, candidate))
    hits = [[(x - m).norm() < r for m, r in zip(reference, real, strict=True)] for x in candidate]
    density = sum(map(sum, hits)) / (k * len(candidate))
    coverage = sum(any(column) for column in zip(*hits, strict=True)) / len(reference)
    return share(candidate, reference, real), share(reference, candidate, fake), density.item(), coverage


@pytest.mark.parametrize("k", [1, 3])
def test_neighbours_one_pair_at_a_time(k):
    reference, candidate = normal(30, 3).double(), normal(20, 3, 0.5, 0.7, seed=1).double()
    precision, recall, density, coverage = brute(candidate, reference, k)
    assert precision_recall(candidate, reference, k) == pytest.approx((precision, recall))
    assert density_coverage(candidate, reference, k) == pytest.approx((density, coverage))


def test_inception_score_is_that_of_torchmetrics_and_by_hand():
    logits = 3 * normal(200, 10)
    module = pytest.importorskip("torchmetrics.image.inception")
    theirs = module.InceptionScore(feature=nn.Identity(), splits=1)
    theirs.update(logits)
    assert inception_score(logits, splits=1).mean == pytest.approx(theirs.compute()[0].item(), rel=1e-4)
    assert inception_score(torch.zeros(40, 10)) == pytest.approx((1, 0))
    sure = 1e4 * torch.eye(8).repeat(10, 1)  # each of eight classes in turn, without a doubt
    assert inception_score(sure, splits=1) == pytest.approx((8, 0))
    ordered = 20 * torch.eye(10).repeat_interleave(100, 0)  # as class folders are read
    theirs = module.InceptionScore(feature=nn.Identity())
    theirs.update(ordered)
    assert inception_score(ordered).mean == pytest.approx(theirs.compute()[0].item(), rel=0.02)
    with pytest.raises(ValueError, match="of 20 images or more"):
        inception_score(logits[:19])


def test_one_mode_of_two_is_precise_and_covers_half():
    reference = torch.cat([normal(200), normal(200, shift=20, seed=1)])
    candidate = normal(400, seed=2)
    precision, recall = precision_recall(candidate, reference)
    assert precision > 0.75
    assert recall < 0.55
    assert density_coverage(candidate, reference).coverage < 0.55


def test_what_is_too_little_is_refused():
    with pytest.raises(ValueError, match="at least two rows"):
        fid(normal(1), normal(5))
    with pytest.raises(ValueError, match="16 against 8 dimensions"):
        fid(normal(5), normal(5, 8))
    with pytest.raises(ValueError, match="give 4 or more"):
        precision_recall(normal(3), normal(9))
    with pytest.raises(ValueError, match="kid: features are"):
        kid(normal(5), normal(5, 8))


def test_statistics_are_saved_and_read(tmp_path):
    found = statistics(normal(50), normal(50, 9, seed=1), "fifty things", kept=20)
    path = save_statistics(found, tmp_path / "deep" / "stats.safetensors")
    again = load_statistics(path)
    assert again.count == 50
    assert again.source == "fifty things"
    assert again.features.shape == (20, 16)
    assert fid(again.pool, normal(50)) == pytest.approx(0, abs=1e-6)
    assert sfid(again.spatial, found.spatial) == pytest.approx(0, abs=1e-6)
    assert [p.name for p in path.parent.iterdir()] == ["stats.safetensors"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="holds no statistics of ours"):
        load_statistics(path)

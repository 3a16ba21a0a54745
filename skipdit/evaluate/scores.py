"""What a set of images scores against the statistics of a reference, or image by image against its twin."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from skipdit.evaluate.images import Images, pairs
from skipdit.metrics.density_coverage import density_coverage
from skipdit.metrics.dists import dists
from skipdit.metrics.fid import fid
from skipdit.metrics.inception_score import inception_score
from skipdit.metrics.kid import kid
from skipdit.metrics.lpips import lpips
from skipdit.metrics.precision_recall import precision_recall
from skipdit.metrics.psnr import psnr
from skipdit.metrics.sfid import sfid
from skipdit.metrics.ssim import ssim
from skipdit.metrics.statistics import Statistics, statistics
from skipdit.networks.efficientnet import classify
from skipdit.networks.inception import Seen, look

Told = Callable[[int, int], None]  # (images done, images in all)

OF_SETS = {
    "fid": lambda one, other: {"fid": fid(one.pool, other.pool)},
    "sfid": lambda one, other: {"sfid": sfid(one.spatial, other.spatial)},
    "kid": lambda one, other: _spread("kid", "kid_std", kid(one.features, other.features)),
    "precision_recall": lambda one, other: precision_recall(one.features, other.features)._asdict(),
    "density_coverage": lambda one, other: density_coverage(one.features, other.features)._asdict(),
}
OF_PAIRS = {"psnr": psnr, "ssim": ssim, "lpips": lpips, "dists": dists}


def seen(images: Images, device: str = "cpu", batch_size: int = 32, on_image: Told = lambda done, total: None) -> Seen:
    """What Inception sees in all images."""
    parts: list[Seen] = []
    for batch in images.batches(batch_size):
        parts.append(look(batch.to(device), batch_size))
        on_image(sum(len(part.pool) for part in parts), images.count)
    return Seen(*(torch.cat(each) for each in zip(*parts, strict=True)))


def summarised(images: Images, device: str = "cpu", on_image: Told = lambda done, total: None) -> Statistics:
    """The statistics of a set of images."""
    sizes: set[str] = set()

    def noted(most: int) -> Iterator[torch.Tensor]:
        for batch in images.batches(most):
            sizes.add(f"{batch.shape[-2]} x {batch.shape[-1]}")
            yield batch

    found = seen(replace(images, batches=noted), device, on_image=on_image)
    size = sizes.pop() if len(sizes) == 1 else "various sizes"
    return statistics(found.pool, found.spatial, f"{images.count} images of {images.folder.name}, {size}")


def scores_of_sets(candidate: Statistics, reference: Statistics, metrics: Sequence[str]) -> dict[str, float]:
    """{figure: value}; a metric may have two."""
    found: dict[str, float] = {}
    for name in metrics:
        found |= OF_SETS[name](candidate, reference)
    return found


def score_alone(images: Images, device: str = "cpu", on_image: Told = lambda done, total: None) -> dict[str, float]:
    """The Inception Score by EfficientNet-Lite0, in ten splits where there are enough images."""
    parts: list[torch.Tensor] = []
    for batch in images.batches(64):
        parts.append(classify(batch.to(device)))
        on_image(sum(map(len, parts)), images.count)
    found = inception_score(torch.cat(parts), splits=10 if images.count >= 1000 else 1)
    return _spread("is_efficientnet_lite0", "is_std", found)


def _spread(name: str, name_of_std: str, found: tuple[float, float]) -> dict[str, float]:
    """Mean and deviation; a single part has none."""
    mean, std = found
    return {name: mean, name_of_std: std} if std else {name: mean}


def scores_of_pairs(
    candidate: Images,
    reference: Images,
    metrics: Sequence[str],
    device: str = "cpu",
    on_image: Told = lambda done, total: None,
) -> dict[str, float | None]:
    """{metric: mean over the pairs}; None where all pairs are equal and PSNR is infinite."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name in metrics}
    done = 0
    for a, b in pairs(candidate, reference, 64):
        a, b = (x.to(device).float() / 127.5 - 1 for x in (a, b))  # (B, 3, H, W)
        for name in metrics:
            found[name].append(OF_PAIRS[name](a, b).cpu())
        done += len(a)
        on_image(done, candidate.count)
    means = {name: torch.cat(values).double().mean() for name, values in found.items()}
    return {name: mean.item() if mean.isfinite() else None for name, mean in means.items()}

"""What a set of images scores against the statistics of a reference, or image by image against its twin."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from skipdit.data.images import to_model
from skipdit.evaluate.images import Images, pairs
from skipdit.metrics.concept_accuracy import among_themselves, concept_accuracy
from skipdit.metrics.density_coverage import density_coverage
from skipdit.metrics.dists import dists
from skipdit.metrics.fid import fid
from skipdit.metrics.image_text import image_text
from skipdit.metrics.inception_score import inception_score
from skipdit.metrics.kid import kid
from skipdit.metrics.lpips import lpips
from skipdit.metrics.precision_recall import precision_recall
from skipdit.metrics.psnr import psnr
from skipdit.metrics.sfid import sfid
from skipdit.metrics.ssim import ssim
from skipdit.metrics.statistics import Statistics, statistics
from skipdit.networks.efficientnet import features, logits
from skipdit.networks.image_text import embedded_images, embedded_texts
from skipdit.networks.inception import Seen, look

Told = Callable[[int, int], None]  # (images done, images in all)

OF_SETS = {
    "fid": lambda one, other: {"fid": fid(one.pool, other.pool)},
    "sfid": lambda one, other: {"sfid": sfid(one.spatial, other.spatial)},
    "kid": lambda one, other: spread("kid", "kid_std", kid(one.features, other.features)),
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

    def noted(most: int) -> Iterator[Tensor]:
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


def pooled(images: Images, device: str = "cpu", on_image: Told = lambda done, total: None) -> Tensor:
    """What EfficientNet-Lite0 sees in all images, (N, 1280)."""
    parts: list[Tensor] = []
    for batch in images.batches(64):
        parts.append(features(batch.to(device)))
        on_image(sum(map(len, parts)), images.count)
    return torch.cat(parts)


def score_alone(found: Tensor) -> dict[str, float]:
    """The Inception Score by EfficientNet-Lite0 of its features (N, 1280), in ten splits where they are enough."""
    score = inception_score(logits(found), splits=10 if len(found) >= 1000 else 1)
    return spread("is_efficientnet_lite0", "is_std", score)


def scores_of_concepts(candidate: Images, found: Tensor, reference: Images, known: Tensor) -> dict[str, float]:
    """Concept accuracy of the candidate's features `found` to the reference's, `known`; and the reference's own.

    Raises ValueError for images without labels, and for a label that the reference lacks.
    """
    names = sorted(set(labels_of(reference)))
    own, others = (numbers(images, names, "concept_accuracy") for images in (candidate, reference))
    drawn, real = concept_accuracy(found, own, known, others), among_themselves(known, others)
    return {
        "concept_top1": drawn.top1,
        "concept_top5": drawn.top5,
        "concept_real_top1": real.top1,
        "concept_real_top5": real.top5,
        "concepts": len(names),
    }


def scores_of_captions(
    candidate: Images, found: Tensor, reference: Images | None, known: Tensor | None, device: str = "cpu"
) -> dict[str, float]:
    """Image-text score of features `found`, and that of the reference's, `known`. Captions are labels: the reference's
    where it has some, or else those that were drawn.

    Raises ValueError for images without labels, and for a label that the reference lacks.
    """
    names = sorted(set(labels_of(candidate if reference is None else reference)))
    texts = embedded_texts(names, device)
    score = image_text(embedded_images(found), texts, numbers(candidate, names, "image_text"))
    figures = {"image_text": score.cosine, "text_r1": score.recall1, "text_r5": score.recall5}
    figures["text_r10"] = score.recall10
    if reference is not None and known is not None:
        real = image_text(embedded_images(known), texts, numbers(reference, names, "image_text"))
        figures |= {"image_text_real": real.cosine, "text_real_r1": real.recall1}
    return {**figures, "captions": len(names)}


def numbers(images: Images, names: Sequence[str], metric: str) -> Tensor:
    """The place of each image's label among the names, (N,). Raises ValueError for a label that isn't there."""
    number = {name: i for i, name in enumerate(names)}
    strange = sorted(set(labels_of(images)) - set(number))
    if strange:
        raise ValueError(
            f"{metric}: the reference has no picture of {strange[0]!r} ({len(strange)} of {images.folder}'s labels):"
            " give one that holds all labels that are drawn"
        )
    return torch.tensor([number[name] for name in labels_of(images)])


def labels_of(images: Images) -> list[str]:
    """The name of each image's label. Raises ValueError where they are unknown."""
    if images.labels is None:
        raise ValueError(
            f"{images.folder} says no labels, which concept_accuracy and image_text need: give a set that skipdit data"
            " built, or images that a model with named labels draws anew"
        )
    return images.labels


def spread(name: str, name_of_std: str, found: tuple[float, float]) -> dict[str, float]:
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
    """{metric: mean over the pairs, of clips over all frames}; None where PSNR is infinite: a pair is equal."""
    found: dict[str, list[Tensor]] = {name: [] for name in metrics}
    done = 0
    for one, other in pairs(candidate, reference, 64):
        a, b = (to_model(x.to(device)).flatten(0, -4) for x in (one, other))  # (B, 3, H, W), of clips (B F, 3, H, W)
        for name in metrics:
            found[name].append(OF_PAIRS[name](a, b).cpu())
        done += len(one)
        on_image(done, candidate.count)
    means = {name: torch.cat(values).double().mean() for name, values in found.items()}
    return {name: mean.item() if mean.isfinite() else None for name, mean in means.items()}

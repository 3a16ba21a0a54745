"""What skipdit eval takes of images or clips: which metrics fit, and what they come to."""

from functools import partial
from pathlib import Path
from typing import Any

SETS = ("fid", "sfid", "kid", "precision_recall", "density_coverage")
CLIPS = ("fvd", "kvd", "frame_fid", "flicker")
ALONE = ("inception_score",)
LABELLED = ("concept_accuracy", "image_text")
PAIRS = ("psnr", "ssim", "lpips", "dists")
NETWORKS = {
    **dict.fromkeys((*SETS, "frame_fid"), ("inception",)), **dict.fromkeys(("fvd", "kvd"), ("i3d",)),
    **dict.fromkeys(("inception_score", "concept_accuracy"), ("efficientnet",)),
    "image_text": ("efficientnet", "minilm", "minilm-words"), "lpips": ("alexnet",), "dists": ("vgg16", "dists"),
}  # fmt: skip
MEANING = {  # figure: what is good
    "fid": "lower is nearer, 0 for equal sets",
    "sfid": "lower is nearer, of where things are",
    "kid": "0 on average for samples of one distribution",
    "kid_std": "deviation of kid over its subsets",
    "precision": "share of these that look like the reference",
    "recall": "share of the reference that could be among these",
    "density": "near 1 or more where these lie among the reference",
    "coverage": "share of the reference that has one of these nearby",
    "is_efficientnet_lite0": "Inception Score by EfficientNet-Lite0; higher is surer and more varied",
    "is_std": "deviation of it over ten splits",
    "concept_top1": "share whose nearest real picture, to EfficientNet-Lite0, has the label that was drawn",
    "concept_top5": "share with that label among the five nearest",
    "concept_real_top1": "the same of the real pictures, each against the others",
    "concept_real_top5": "",
    "concepts": "labels to choose from: chance is one in so many",
    "image_text": "mean cosine of an image and its label, by our own heads; higher is nearer",
    "text_r1": "share whose own label is the nearest text",
    "text_r5": "share with it among the five nearest",
    "text_r10": "... among the ten nearest",
    "image_text_real": "image_text of the real pictures",
    "text_real_r1": "text_r1 of the real pictures",
    "captions": "labels to choose from: chance is one in so many",
    "fvd": "Fréchet distance in I3D's logits; lower is nearer, for equal counts and lengths alone",
    "kvd": "0 on average for samples of one distribution, of few clips, too",
    "kvd_std": "deviation of kvd over its subsets",
    "frame_fid": "fid of all frames",
    "flicker": "mean change from frame to frame in 8-bit steps, motion included",
    "flicker_real": "that of the reference",
    "psnr": "dB, of pairs",
    "ssim": "1 for equal pairs",
    "lpips": "0 for equal pairs",
    "dists": "0 for equal pairs",
}


def named(metrics: str | None) -> list[str]:
    """The metrics that were named; none where that is left to what is judged. Raises ValueError for an unknown one."""
    names = [name.strip() for name in (metrics or "").split(",") if name.strip()]
    for name in names:
        if name not in (*SETS, *ALONE, *LABELLED, *CLIPS, *PAIRS):
            known = f"of sets there are {', '.join(SETS + ALONE)}; of labels {', '.join(LABELLED)}; of clips "
            known += f"{', '.join(CLIPS)}; of pairs {', '.join(PAIRS)}"
            raise ValueError(f"no metric {name!r}: {known}")
    return names


def fitting(wanted: list[str], reference: Path | None, save: Path | None, frames: int | None, known: Any) -> list[str]:
    """The metrics to take: those that are wanted, or all of sets where none is.

    frames    of each clip, None for images
    known     the reference, where it is a folder

    Raises ValueError for what doesn't fit: now, not after hours of drawing.
    """
    clips = frames is not None
    there = (*CLIPS, *PAIRS) if clips else (*SETS, *ALONE, *LABELLED, *PAIRS)
    if strange := [name for name in wanted if name not in there]:
        raise ValueError(f"{strange[0]} is not of {_what(clips)}: there are {', '.join(there)}")
    if known is not None and clips != (known.frames is not None):
        raise ValueError(f"{reference} holds {_what(not clips)}, and what is judged are {_what(clips)}: name another")
    if clips and (known is None or save):
        raise ValueError("clips are judged against a folder of clips: name one as REFERENCE, without --save")
    if known is None and (pairs := [name for name in wanted if name in PAIRS]):
        raise ValueError(f"{', '.join(pairs)} compare pairs: the reference must be a folder, not {reference}")
    if "concept_accuracy" in wanted:
        _check_labels(known)
    if reference is None:
        if strange := [name for name in wanted if name not in (*ALONE, "image_text")]:
            raise ValueError(f"{strange[0]} compares with a reference: name one, a folder or a statistics file")
        return wanted
    if known is None:
        _check_statistics(reference)
    return wanted or list(CLIPS if clips else SETS)


def check(taken: list[str], save: Path | None, folder: Path, labels: list[str] | None, known: Any, count: int) -> None:
    """What else would fail after the drawing of so many images with these labels into a folder. Raises Unavailable for
    weights that aren't there, ValueError for images that don't pair up with those."""
    from skipdit.evaluate.images import check_labels
    from skipdit.networks.fetch import weights

    for name in [*taken, *(["fid"] if save else [])]:
        for network in NETWORKS.get(name, ()):
            weights(network)
    if not (compared := [name for name in taken if name in PAIRS]):
        return
    if known.names is not None or known.labelled is not None:
        raise ValueError(f"pairs for {', '.join(compared)}: {known.folder} wasn't drawn by skipdit eval, as it must be")
    if known.count != count:
        raise ValueError(f"{known.folder} holds {known.count} images to pair, not {count}: say --count {known.count}")
    check_labels(folder, labels, known)


def check_counts(taken: list[str], *sets: Any) -> None:
    """Raises ValueError for a set of one, where distances of sets are asked for."""
    distances = [name for name in taken if name in (*SETS, "fvd", "kvd")]
    for each in sets:
        if each is not None and each.count < 2 and distances:
            what = "image" if each.frames is None else "clip"
            raise ValueError(f"{each.folder} holds one {what}, and {distances[0]} is of sets: two at least")


def _what(clips: bool) -> str:
    return "clips" if clips else "images"


def _check_statistics(reference: Any) -> None:
    from skipdit.metrics.statistics import load_statistics

    load_statistics(reference)


def _check_labels(reference: Any) -> None:
    from skipdit.evaluate.scores import labels_of

    if reference is None:
        raise ValueError("concept_accuracy compares labels: the reference must be a folder that skipdit data built")
    labels_of(reference)


def _teller(bar: Any, what: str, total: int) -> Any:
    task = bar.add_task(what, total=total)
    return lambda done, total: bar.update(task, completed=done, total=total)


def scores(
    candidate: Any, reference: Any, wanted: list[str], save: Path | None, device: str, bar: Any
) -> tuple[dict[str, Any], str]:
    """(figures, the reference in words); the reference is a set of images or clips, the path of statistics, or None,
    in words "".
    """
    of = _of_images if candidate.frames is None else _of_clips
    return of(candidate, reference, wanted, save, device, bar)


def _of_images(
    candidate: Any,
    reference: Any,
    wanted: list[str],
    save: Path | None,
    device: str,
    bar: Any,
) -> tuple[dict[str, Any], str]:
    from skipdit.evaluate.scores import scores_of_pairs, scores_of_sets, summarised
    from skipdit.metrics.statistics import load_statistics, save_statistics

    teller = partial(_teller, bar)
    figures: dict[str, Any] = {"images": candidate.count}
    of_sets, of_pairs = ([name for name in wanted if name in known] for known in (SETS, PAIRS))
    known: Any = None if reference is None or isinstance(reference, Path) else reference
    if of_pairs:
        figures |= scores_of_pairs(candidate, known, of_pairs, device, teller("pairs", candidate.count))
    if {*ALONE, *LABELLED} & set(wanted):
        figures |= _classified(candidate, known, wanted, device, teller)
    if of_sets or save:
        stats = load_statistics(reference) if of_sets and known is None else None
        found = summarised(candidate, device, teller("looking", candidate.count))
        if save:
            save_statistics(found, save)
        if of_sets:
            against = summarised(known, device, teller("reference", known.count)) if known else stats
            assert against is not None
            figures["reference_images"] = against.count
            figures |= scores_of_sets(found, against, of_sets)
            return figures, f"{known.folder if known else reference} ({against.source})"
    return figures, str(known.folder if known else reference or "")


def _of_clips(
    candidate: Any, reference: Any, wanted: list[str], save: Path | None, device: str, bar: Any
) -> tuple[dict[str, Any], str]:
    import torch

    from skipdit.evaluate.scores import scores_of_pairs
    from skipdit.evaluate.videos import scores_of_videos

    of_sets, of_pairs = ([name for name in wanted if name in known] for known in (CLIPS, PAIRS))
    figures: dict[str, Any] = {"images": candidate.count, "frames": candidate.frames}
    if of_pairs:
        figures |= scores_of_pairs(candidate, reference, of_pairs, device, _teller(bar, "pairs", candidate.count))
    if of_sets:
        clips, real = (torch.cat(list(each.batches(64))).to(device) for each in (candidate, reference))
        figures["reference_images"] = len(real)
        watching = _teller(bar, "watching", len(clips) + len(real))
        figures |= scores_of_videos(clips, real, of_sets, watching)
    return figures, str(reference.folder)


def _classified(candidate: Any, reference: Any, wanted: list[str], device: str, teller: Any) -> dict[str, float]:
    """What is said of EfficientNet-Lite0's features; the reference is a set of images or None."""
    from skipdit.evaluate.scores import labels_of, pooled, score_alone, scores_of_captions, scores_of_concepts

    labelled: Any = reference if reference is not None and reference.labels is not None else None
    if set(LABELLED) & set(wanted):
        labels_of(candidate)
    found = pooled(candidate, device, teller("classifying", candidate.count))
    figures = score_alone(found) if "inception_score" in wanted else {}
    known: Any = None
    if labelled is not None and set(LABELLED) & set(wanted):
        known = pooled(labelled, device, teller("classifying the reference", labelled.count))
    if "concept_accuracy" in wanted:
        figures |= scores_of_concepts(candidate, found, labelled, known)
    if "image_text" in wanted:
        figures |= scores_of_captions(candidate, found, labelled, known, device)
    return figures

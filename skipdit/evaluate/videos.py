"""What a set of clips scores against a reference set: FVD, KVD, FID by frame, flicker."""

from collections.abc import Callable, Sequence

from torch import Tensor

from skipdit.data.images import to_model
from skipdit.evaluate.scores import spread
from skipdit.metrics.fid import fid
from skipdit.metrics.flicker import flicker
from skipdit.metrics.fvd import fvd
from skipdit.metrics.kvd import kvd
from skipdit.networks.i3d import SHORTEST, watch
from skipdit.networks.inception import look

OF_CLIPS = ("fvd", "kvd", "frame_fid", "flicker")
Told = Callable[[int, int], None]  # (clips done, clips in all)


def watched(clips: Tensor, on_clip: Told = lambda done, total: None) -> Tensor:
    """I3D's logits (N, 400) of clips (N, F, 3, H, W) uint8. Clips shorter than I3D takes are watched in a loop."""
    rounds = -(-SHORTEST // clips.shape[1])
    return watch(clips.repeat(1, rounds, 1, 1, 1), 4, lambda done: on_clip(done, len(clips))).logits


def scores_of_videos(
    candidate: Tensor,
    reference: Tensor,
    metrics: Sequence[str] = OF_CLIPS,
    on_clip: Told = lambda done, total: None,
) -> dict[str, float]:
    """Of clips (N, F, 3, H, W) and (M, F, 3, H, W), uint8, of equal length; `on_clip` tells of those seen by I3D.

    Raises ValueError for clips of another length or size: FVD depends on both.
    """
    if candidate.shape[1:] != reference.shape[1:]:
        raise ValueError(
            f"clips are {tuple(candidate.shape[1:])}, the reference's {tuple(reference.shape[1:])}: FVD compares equal "
            "lengths and sizes alone: thin and resize one of them"
        )
    found: dict[str, float] = {}
    if {"fvd", "kvd"} & set(metrics):
        found |= _seen_by_i3d(candidate, reference, metrics, on_clip)
    if "frame_fid" in metrics:
        found["frame_fid"] = fid(*(look(clips.flatten(0, 1)).pool for clips in (candidate, reference)))
    if "flicker" in metrics:
        found |= {"flicker": _flicker(candidate), "flicker_real": _flicker(reference)}
    return found


def _seen_by_i3d(candidate: Tensor, reference: Tensor, metrics: Sequence[str], on_clip: Told) -> dict[str, float]:
    total = len(candidate) + len(reference)
    seen = watched(candidate, lambda done, _: on_clip(done, total))
    known = watched(reference, lambda done, _: on_clip(len(candidate) + done, total))
    found = {"fvd": fvd(seen, known)} if "fvd" in metrics else {}
    if "kvd" in metrics:
        found |= spread("kvd", "kvd_std", kvd(seen, known))
    return found


def _flicker(clips: Tensor) -> float:
    return flicker(to_model(clips)).mean().item()

"""What networks see in a set of pictures or clips, looked at once and kept in a file with a hash of the pictures."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from skipdit.aside import written_aside
from skipdit.evaluate.images import Images
from skipdit.evaluate.scores import pooled, seen
from skipdit.evaluate.videos import watched
from skipdit.networks.inception import Seen, look


def by_inception(path: Path, images: Images) -> Seen:
    """What Inception sees in them."""
    return Seen(**_kept(path, lambda: seen(images)._asdict(), images.batches(256)))


def by_efficientnet(path: Path, images: Images) -> Tensor:
    """What EfficientNet-Lite0 sees in them, (N, 1280)."""
    return _kept(path, lambda: {"features": pooled(images)}, images.batches(256))["features"]


def by_i3d(path: Path, clips: Tensor) -> Tensor:
    """I3D's logits (N, 400) of clips (N, F, 3, H, W) uint8."""
    return _kept(path, lambda: {"logits": watched(clips)}, clips.split(256))["logits"]


def by_inception_of_frames(path: Path, clips: Tensor) -> Tensor:
    """What Inception sees in every frame of clips (N, F, 3, H, W) uint8: (N F, 2048)."""
    return _kept(path, lambda: {"pool": look(clips.flatten(0, 1)).pool}, clips.split(256))["pool"]


def _kept(path: Path, make: Callable[[], Mapping[str, Tensor]], pictures: Iterable[Tensor]) -> dict[str, Tensor]:
    """The tensors in a file; made, where there is none of these pictures."""
    digest = hashlib.sha256()
    for batch in pictures:
        digest.update(f"{tuple(batch.shape)}".encode() + batch.contiguous().numpy().tobytes())
    of = digest.hexdigest()
    if not path.exists() or _pictures_of(path) != of:
        made = make()
        with written_aside(path) as aside:
            save_file(dict(made), aside, metadata={"pictures": of})
    return load_file(path)


def _pictures_of(path: Path) -> str:
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get("pictures", "")

"""What networks see in a set of pictures or clips, looked at once and kept in a file."""

from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from skipdit.aside import written_aside
from skipdit.evaluate.images import Images
from skipdit.evaluate.scores import pooled, seen
from skipdit.evaluate.videos import watched
from skipdit.networks.inception import Seen, look


def by_inception(path: Path, images: Images) -> Seen:
    """What Inception sees in them. Raises ValueError where the file was made of other pictures."""
    return Seen(**_kept(path, lambda: seen(images)._asdict(), images.count))


def by_efficientnet(path: Path, images: Images) -> Tensor:
    """What EfficientNet-Lite0 sees in them, (N, 1280). Raises ValueError where the file was made of other pictures."""
    return _kept(path, lambda: {"features": pooled(images)}, images.count)["features"]


def by_i3d(path: Path, clips: Tensor) -> Tensor:
    """I3D's logits (N, 400) of clips (N, F, 3, H, W) uint8."""
    return _kept(path, lambda: {"logits": watched(clips)}, len(clips))["logits"]


def by_inception_of_frames(path: Path, clips: Tensor) -> Tensor:
    """What Inception sees in every second frame of clips (N, F, 3, H, W) uint8: (N F / 2, 2048)."""
    frames = clips[:, ::2].flatten(0, 1)
    return _kept(path, lambda: {"pool": look(frames).pool}, len(frames))["pool"]


def _kept(path: Path, make: Callable[[], Mapping[str, Tensor]], count: int) -> dict[str, Tensor]:
    if not path.exists():
        made = make()
        with written_aside(path) as aside:
            save_file(dict(made), aside)
    found = load_file(path)
    if any(len(tensor) != count for tensor in found.values()):
        raise ValueError(f"{path} was made of other pictures than these {count}: delete {path.parent}")
    return found

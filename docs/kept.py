"""What networks see in a set of pictures, looked at once and kept in a file."""

from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from skipdit.aside import written_aside
from skipdit.evaluate.images import Images
from skipdit.evaluate.scores import pooled, seen
from skipdit.networks.inception import Seen


def by_inception(path: Path, images: Images) -> Seen:
    """What Inception sees in them. Raises ValueError where the file was made of other pictures."""
    return Seen(**_kept(path, lambda: seen(images)._asdict(), images.count))


def by_efficientnet(path: Path, images: Images) -> Tensor:
    """What EfficientNet-Lite0 sees in them, (N, 1280). Raises ValueError where the file was made of other pictures."""
    return _kept(path, lambda: {"features": pooled(images)}, images.count)["features"]


def _kept(path: Path, make: Callable[[], Mapping[str, Tensor]], count: int) -> dict[str, Tensor]:
    if not path.exists():
        made = make()
        with written_aside(path) as aside:
            save_file(dict(made), aside)
    found = load_file(path)
    if any(len(tensor) != count for tensor in found.values()):
        raise ValueError(f"{path} was made of other pictures than these {count}: delete {path.parent}")
    return found

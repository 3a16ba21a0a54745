"""What is to be known of a reference set, in one safetensors file: its Gaussians, and the features of some images."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from skipdit.aside import written_aside
from skipdit.metrics.fid import Gaussian, gaussian

FORMAT = "skipdit statistics 1"
KEPT = 10_000  # images whose features are kept, for KID and all that looks at neighbours: 82 MB


@dataclass(frozen=True)
class Statistics:
    """Of one set of images, as Inception sees it.

    pool, spatial    Gaussians for FID and sFID
    features         (K, 2048) of all images, or of KEPT drawn at random
    source           what the images are, in words
    """

    pool: Gaussian
    spatial: Gaussian
    features: Tensor
    source: str = ""

    @property
    def count(self) -> int:
        return self.pool.total


def statistics(pool: Tensor, spatial: Tensor, source: str = "", kept: int = KEPT) -> Statistics:
    """From what `networks.inception.look` saw: (N, 2048) and (N, 2023)."""
    drawn = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))[:kept]
    return Statistics(gaussian(pool), gaussian(spatial), pool if len(pool) <= kept else pool[drawn], source)


def save_statistics(found: Statistics, path: Path) -> Path:
    """Write them aside, then rename."""
    tensors = {
        "pool.mean": found.pool.mean,
        "pool.cov": found.pool.cov,
        "spatial.mean": found.spatial.mean,
        "spatial.cov": found.spatial.cov,
        "features": found.features.contiguous(),
    }
    said = {"format": FORMAT, "count": str(found.count), "source": json.dumps(found.source)}
    with written_aside(path) as aside:
        save_file(tensors, aside, metadata=said)
    return path


def load_statistics(path: Path) -> Statistics:
    """Read them. Raises ValueError for a file of something else."""
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            if said.get("format") != FORMAT:
                raise ValueError(f"its format is {said.get('format')!r}, not {FORMAT!r}")
            count = int(said["count"])
            pool, spatial = (
                Gaussian(file.get_tensor(f"{name}.mean"), file.get_tensor(f"{name}.cov"), count)
                for name in ("pool", "spatial")
            )
            return Statistics(pool, spatial, file.get_tensor("features"), json.loads(said["source"]))
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} holds no statistics of ours ({error}): write them with skipdit eval --save"
        ) from error

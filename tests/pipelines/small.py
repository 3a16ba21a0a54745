"""Real pipelines of diffusers with small random weights, built in memory: `PIPELINES[name]()` gives a `Small`."""

from collections.abc import Callable

from small_image import IMAGE
from small_parts import Small, output
from small_video import VIDEO

PIPELINES: dict[str, Callable[[], Small]] = {**IMAGE, **VIDEO}

__all__ = ["PIPELINES", "Small", "output"]

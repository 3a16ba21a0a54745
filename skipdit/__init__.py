"""skipdit: diffusion transformers with long skip branches, and caching between denoising steps."""

import importlib
from typing import TYPE_CHECKING, Any

from skipdit import methods
from skipdit.catalog import Namesakes, parse
from skipdit.core.attach import attach, plan
from skipdit.core.policy import Policy
from skipdit.core.run import Run
from skipdit.core.skips import Join, Replace, add_skips, mirror

if TYPE_CHECKING:
    from skipdit.sample import sample

__version__ = "0.1.0"
__all__ = ["Join", "Policy", "Replace", "Run", "add_skips", "attach", "methods", "mirror", "parse", "plan", "sample"]


Namesakes.adopt(__name__)


def __getattr__(name: str) -> Any:
    """`skipdit.sample` is loaded when it is first used: it needs diffusers, which takes a while to import."""
    if name == "sample":
        return importlib.import_module("skipdit.sample").sample
    raise AttributeError(f"module 'skipdit' has no attribute {name!r}")

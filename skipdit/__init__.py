"""skipdit: diffusion transformers with long skip branches, and caching between denoising steps."""

import importlib
from typing import TYPE_CHECKING, Any

from skipdit import methods, passes
from skipdit.catalog import Namesakes, parse

if TYPE_CHECKING:
    from skipdit.attach import attach
    from skipdit.compile import compile_blocks
    from skipdit.convert import add_skips, from_pretrained
    from skipdit.core.attach import plan
    from skipdit.core.policy import Policy
    from skipdit.core.run import Run
    from skipdit.core.skips import Join, Replace, mirror
    from skipdit.infer import infer
    from skipdit.sample import sample

__version__ = "0.1.0"
__all__ = [
    "Join",
    "Policy",
    "Replace",
    "Run",
    "add_skips",
    "attach",
    "compile_blocks",
    "from_pretrained",
    "infer",
    "methods",
    "mirror",
    "parse",
    "passes",
    "plan",
    "sample",
]

HOMES = {  # loaded when they are first used: torch takes a second to import, diffusers longer
    "skipdit.attach": ("attach",),
    "skipdit.compile": ("compile_blocks",),
    "skipdit.convert": ("add_skips", "from_pretrained"),
    "skipdit.core.attach": ("plan",),
    "skipdit.core.policy": ("Policy",),
    "skipdit.core.run": ("Run",),
    "skipdit.core.skips": ("Join", "Replace", "mirror"),
    "skipdit.infer": ("infer",),
    "skipdit.sample": ("sample",),
}

Namesakes.adopt(__name__)


def __getattr__(name: str) -> Any:
    for home, names in HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'skipdit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

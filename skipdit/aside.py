"""Write a file aside and rename it: a reader never sees half of one, and a crash leaves the old one."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """The path to write to instead of `path`; it is renamed when the block ends without an error. Raises
    IsADirectoryError where `path` is a folder."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    own = uuid.uuid4().hex[:8]  # two may write at once
    aside = path.with_name(f"{path.stem}.{own}.partial{path.suffix}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)

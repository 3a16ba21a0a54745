"""Write a file aside and rename it: a reader never sees half of one, and a crash leaves the old one."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """The path to write to instead of `path`; it is renamed when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(
        f"{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}"
    )  # one's own: two may write at once
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)

"""Write a file aside and rename it: a reader never sees half of one, and a crash leaves the old one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """The path to write to instead of `path`; it is renamed when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.stem}.partial{path.suffix}")
    yield aside
    aside.replace(path)

"""Write a file aside and rename it: a reader never sees half of one, and a crash leaves the old one."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """The path to write to instead of `path`; it is renamed when the block ends without an error.

    Raises OSError that names `path`, not the file aside: for a full disk, and what `writable` raises.
    """
    writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    own = uuid.uuid4().hex[:8]  # two may write at once
    aside = path.with_name(f"{path.stem}.{own}.partial{path.suffix}")
    try:
        yield aside
        aside.replace(path)
    except SafetensorError as error:
        raise OSError(f"{path} can't be written: {error}") from error
    except OSError as error:
        if error.filename not in (None, str(aside)) or not error.errno:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)


def writable(*paths: Path | None) -> None:
    """Look, before the work, whether files can be written there; nothing is made. None names no file.

    Raises IsADirectoryError where one is a folder, NotADirectoryError where a file is in the place of a folder above,
    PermissionError where nothing may be written into the folder.
    """
    for path in filter(None, paths):
        above = next(each for each in path.absolute().parents if os.path.lexists(each))
        if path.is_dir():
            raise _refusal(errno.EISDIR, path)
        if not above.is_dir():
            raise _refusal(errno.ENOTDIR, above)
        if not os.access(above, os.W_OK):  # what is renamed into place asks the folder alone
            raise _refusal(errno.EACCES, path)


def _refusal(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))

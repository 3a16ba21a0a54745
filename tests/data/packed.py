"""npm tarballs made by hand."""

import io
import tarfile
from pathlib import Path

from skipdit.data.archives import tarball


def pack(downloads: Path, package: str, files: dict[str, bytes]) -> Path:
    """A package's tarball with these files, where `fetch` looks for it."""
    downloads.mkdir(parents=True, exist_ok=True)
    with tarfile.open(downloads / tarball(package), "w:gz") as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(f"package/{name}")
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return downloads / tarball(package)

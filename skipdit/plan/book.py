"""The book of a search: every schedule that was tried, a line each, so that an interrupted search goes on."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Key = tuple[str, tuple[int, ...], int]  # (shape, computed steps, pictures)


class Book:
    """A .jsonl file: first what the search is about, then a line for every schedule tried. None keeps it in memory.

    Raises ValueError, by name, where the file belongs to another search.
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any]):
        self.path = path
        self.tried: dict[Key, dict[str, Any]] = {}
        self.notes: dict[str, Any] = {}
        self.seconds = 0.0  # spent on all of it
        self.resumed = 0
        about = json.loads(json.dumps(about))
        if path is not None and path.exists() and path.stat().st_size:
            self._read(path, about)
        elif path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"about": about}) + "\n", encoding="utf-8")

    def add(self, key: Key, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Write one down, at once and whole."""
        shape, computed, pictures = key
        line = {"shape": shape, "computed": list(computed), "pictures": pictures, **figures}
        self._write(line)
        return self._keep(line)

    def note(self, name: str, make: Callable[[], Any]) -> Any:
        """A fact that the search builds on, such as a measured time: made once, and read when it goes on."""
        if name not in self.notes:
            start = time.perf_counter()
            self.notes[name], spent = make(), time.perf_counter() - start
            self._write({"note": name, "value": self.notes[name], "seconds": spent})
            self.seconds += spent
        return self.notes[name]

    def _hear(self, line: dict[str, Any]) -> None:
        if "note" in line:
            self.notes[line["note"]] = line["value"]
            self.seconds += line["seconds"]
        else:
            self._keep(line)

    def _write(self, line: Mapping[str, Any]) -> None:
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")

    def _keep(self, line: dict[str, Any]) -> dict[str, Any]:
        self.tried[line["shape"], tuple(line["computed"]), line["pictures"]] = line
        self.seconds += line["seconds"]
        return line

    def _read(self, path: Path, about: Any) -> None:
        whole, _, cut = path.read_text(encoding="utf-8").rpartition("\n")
        if cut:  # the last line was cut off by a crash
            path.write_text(whole + "\n", encoding="utf-8")
        first, *lines = whole.splitlines() or [""]
        try:
            written = json.loads(first)["about"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is no book of a search: delete it, or name another --out") from error
        if written != about:
            differing = sorted(k for k in {*about, *(written or {})} if (written or {}).get(k) != about.get(k))
            raise ValueError(
                f"{path} belongs to another search ({', '.join(differing)} differ): name another --out, or delete it"
            )
        for number, line in enumerate(lines, start=2):
            try:
                self._hear(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f"{path}, line {number} is damaged ({error}): take the line out, or delete the file"
                ) from error
        self.resumed = len(self.tried)

"""Files of records -> a folder: report.md, its plots, and index.html, which holds all of it."""

from collections.abc import Sequence
from pathlib import Path

from skipdit.aside import written_aside
from skipdit.report.page import page
from skipdit.report.plots import plots
from skipdit.report.reading import read_all
from skipdit.report.tables import markdown, tables


def report(paths: Sequence[Path], out: Path, title: str = "Measured with skipdit") -> list[Path]:
    """Write the report into `out`, and say which files. Nothing is measured, nothing but the records is read.

    Raises ValueError for files that hold no records.
    """
    records = read_all(paths)
    drawn, told = plots(records, out), tables(records)
    images = [f"![{caption}]({path.name})" for caption, path in drawn.items()]
    texts = {
        out / "report.md": "\n".join([f"# {title}\n", *images, "", *map(markdown, told)]),
        out / "index.html": page(title, told, drawn, records),
    }
    for path, text in texts.items():
        with written_aside(path) as aside:
            aside.write_text(text, encoding="utf-8")
    return [*texts, *drawn.values()]

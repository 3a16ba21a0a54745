"""Tables in pages: each stands between its marks, <!-- NAME --> and <!-- end -->."""

import re
from collections.abc import Mapping
from pathlib import Path

from skipdit.aside import written_aside


def fill(page: Path, tables: Mapping[str, str]) -> None:
    """Put every table between its marks; the rest of the page stays."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.S)
        text = mark.sub(lambda m, table=table: m[1] + table + m[2], text)
    with written_aside(page) as aside:
        aside.write_text(text, encoding="utf-8")

"""One HTML page of records, with nothing outside itself: tables, plots and the pictures side by side."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from skipdit.report.reading import groups, points
from skipdit.report.tables import Table, short
from skipdit.results import Record

STYLE = """
:root { color-scheme: light dark; --ink: #181820; --faint: #74767f; --rule: #e2e3e8; --paper: #fff; --best: #eef4ef; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9e9ee; --faint: #9b9da8; --rule: #33343d; --paper: #16161b; --best: #1d2a22; }
  img.plot { background: #fff; border-radius: 6px; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2.5rem auto;
       max-width: 76rem; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.6rem; } h3 { font-size: 1rem; margin: 1.8rem 0 .4rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--faint); font-weight: 500; } th:first-child, td:first-child { text-align: left; }
td:first-child { font-family: ui-monospace, monospace; font-size: .86em; } tr.best td { background: var(--best); }
p.note { color: var(--faint); font-size: .8rem; } img.plot { max-width: 100%; }
.strips { display: grid; grid-template-columns: minmax(10rem, max-content) auto; gap: .35rem 1.2rem;
          align-items: center; font-size: .82rem; }
.strips img { height: 72px; max-width: 100%; image-rendering: pixelated; }
.strips small { color: var(--faint); display: block; }
"""


def page(title: str, tables: Sequence[Table], plots: Mapping[str, Path], records: Sequence[Record]) -> str:
    """The page's text. Plots are read from their files and inlined, as the pictures are from the records."""
    parts = [f"<h1>{escape(title)}</h1>"]
    parts += [f"<h2>{escape(caption)}</h2>{_plot(caption, path)}" for caption, path in plots.items()]
    parts += ["<h2>Figures</h2>", *map(_table, tables)]
    parts += _side_by_side(records)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body>\n' + "\n".join(
        [*parts, "</body></html>\n"]
    )


def _plot(caption: str, path: Path) -> str:
    return f'<img class="plot" alt="{escape(caption)}" src="{_inlined(base64.b64encode(path.read_bytes()).decode())}">'


def _table(table: Table) -> str:
    heads = "".join(f"<th>{escape(heading)}</th>" for heading in table.headings)
    rows = [
        f"<tr{' class=best' if best else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for row, best in zip(table.rows, table.best, strict=True)
    ]
    front = '<p class="note">shaded: no other is both faster and nearer</p>' if any(table.best) else ""
    return (
        f'<h3>{escape(table.caption)}</h3><div class="wide"><table><tr>{heads}</tr>{"".join(rows)}</table></div>'
        + front
        + "".join(f'<p class="note">{escape(note)}</p>' for note in table.note.split("\n\n"))
    )


def _side_by_side(records: Sequence[Record]) -> list[str]:
    """The same pairs of label and seed below each other, the uncached ones first."""
    alikes: dict[str, list[Record]] = {}
    for record, group in zip(records, groups(records), strict=True):
        if record.figures.get("strip") and record.figures.get("kind") != "plain":
            alikes.setdefault(group, []).append(record)
    parts = ["<h2>Side by side</h2>"] if alikes else []
    for group, alike in alikes.items():
        rows = sorted(alike, key=lambda record: (record.figures["kind"] != "uncached", record.figures["speedup"]))
        lines = "".join(_strip(record) for record in rows)
        parts.append(f'<h3>{escape(group)}</h3><div class="strips">{lines}</div>')
    return parts


def _strip(record: Record) -> str:
    told = points([record])
    if told:
        name, figures = short(told[0].label), f"{told[0].speedup:.2f}x, {told[0].psnr:.1f} dB"
    else:
        name, figures = "uncached", f"{record.figures['steps']} steps"
    image = f'<img alt="{escape(name)}" src="{_inlined(record.figures["strip"])}">'
    return f"<div>{escape(name)}<small>{escape(figures)}</small></div><div>{image}</div>"


def _inlined(encoded: str) -> str:
    return f"data:image/png;base64,{encoded}"

"""Reports are made of records alone: tables, plots and a page that needs nothing outside itself; no torch."""

import base64
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from skipdit.cli import app
from skipdit.report.reading import points, read_all
from skipdit.report.tables import front, markdown, short, tables
from skipdit.report.write import report
from skipdit.results import Provenance, Record, write

DOCS = Path(__file__).parents[2] / "docs" / "records"
WHERE = Provenance(
    "skipdit bench m", "a processor", 2, "2.13", 1, "float32", 4, 6, 0, "abc", "2026-01-01T00:00:00+00:00"
)


def strip():
    file = io.BytesIO()
    Image.new("RGB", (16, 8), (255, 0, 0)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def row(kind, speedup, decibels, policy="", steps=6, **figures):
    psnr = {"mean": decibels, "ci95": [decibels - 1, decibels + 1], "pictures": 8}
    told = {
        "kind": kind, "passes": "", "sampler": "ddim", "steps": steps, "of_steps": 6, "speedup": speedup,
        "speedup_quartiles": [speedup, speedup], "ideal_speedup": speedup, "psnr": psnr, "strip": strip(),
    }  # fmt: skip
    return Record("bench m", policy, {**told, **figures}, WHERE)


@pytest.fixture
def records():
    fewer = {"steps": 3, "speedup": 2.0, "psnr": None, "ahead": {"mean": 2.5, "ci95": [1, 4], "pictures": 8}}
    return [
        row("uncached", 1.0, 100.0),
        row("cached", 2.0, 40.0, "skip_cache(every=2)", plan=[1, 0, 1, 0, 1, 0], fewer_steps=fewer),
        row("cached", 1.5, 39.0, "fora(every=2)", plan=[1, 0, 1, 0, 1, 0]),
        row("fewer steps", 2.0, 37.5, steps=3),
    ]


def test_the_front_and_the_table(records):
    told = points(records)
    assert [point.label for point in told] == ["skip_cache(every=2)", "fora(every=2)", "3 steps"]
    assert [point.label for point in front(told)] == ["skip_cache(every=2)"]
    (table,) = tables(records)
    text = markdown(table)
    assert text.splitlines()[0] == "### m, ddim, 6 steps"
    assert "| **skip_cache(every=2)** | 2.00 (2.00 ... 2.00)x | 2.00x | 40.0 (39.0 ... 41.0) |" in text
    assert "+2.5 (+1.0 ... +4.0), 3 steps" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) <= 2


def fewer_steps_of_the_demo():
    """The rows' names: how many steps fit into a time differs from run to run."""
    names = [record["name"] for record in json.loads((DOCS / "demo.json").read_text())["records"]]
    return [name for name in names if re.fullmatch(r"Skip-DiT, \d+ steps \(N = \d\)", name)]


def test_a_folder_from_records_only(records, tmp_path):
    write(tmp_path / "b.jsonl", records)
    out = tmp_path / "report"
    written = report([tmp_path / "b.jsonl", DOCS / "similarity.jsonl", DOCS / "demo.json", DOCS / "bench.jsonl"], out)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in written)
    assert {path.name for path in written} == {
        "report.md", "index.html", "pareto.png", "plans.png", "similarity.png",
    }  # fmt: skip
    text = (out / "index.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(sources) == 3 + 4  # plots and strips
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    for source in sources:
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            assert image.format == "PNG"
    told = (out / "report.md").read_text()
    assert len(fewer_steps_of_the_demo()) == 3
    assert all(name in told for name in fewer_steps_of_the_demo())


def test_benches_under_other_conditions_stay_apart(records):
    other = [
        row("cached", 1.8, 35.0, "fora(every=2)", guidance=4.0),
        row("fewer steps", 2.0, 34.0, steps=3, guidance=4.0),
    ]
    told = [replace(each, figures=each.figures | {"guidance": 2.0}) for each in records]
    seeded = replace(records[1], figures=told[1].figures, provenance=replace(WHERE, seed=7))
    captions = [table.caption for table in tables([*told, *other, seeded])]
    name = "m, ddim, 6 steps"
    assert captions == [f"{name}, guidance {g}, seed {s}" for g, s in ((2.0, 0), (4.0, 0), (2.0, 7))]
    assert [table.caption for table in tables(told)] == [name]


def test_records_of_one_kind_share_a_table():
    named = [
        Record(f"peers: {name} of m", "", {"ms": value, "shape": [1, 2]}, WHERE) for name, value in (("a", 1), ("b", 2))
    ]
    (table,) = tables([*named, replace(named[0], name="peers: c of m", provenance=replace(WHERE, batch=1))])
    assert table.caption == "peers"
    assert table.rows == [["a of m", "1"], ["b of m", "2"], ["c of m", "1"]]
    assert table.note.count("a processor") == 2


def test_methods_together_are_a_series_of_their_own(records):
    both = row("cached", 2.5, 36.0, "fora(every=2)", passes="reuse(every=2)")
    grid = Record("m: fewer steps", "", {"speedup": 2.0, "psnr": 30.0}, replace(WHERE, steps=3))
    assert [point.series for point in points([*records[2:3], both, grid])] == ["fora", "fora + reuse", "fewer steps"]
    assert points([grid])[0].label == "3 steps"


def test_every_file_that_a_command_writes_is_read(records, tmp_path):
    odd = replace(records[1], name="bench of a line\u2028separator")
    write(tmp_path / "b.json", [records[0], odd])
    (tmp_path / "one.json").write_text(odd.to_json())
    (tmp_path / "said.jsonl").write_text(json.dumps({"out": "x", "records": [json.loads(odd.to_json())]}))
    assert read_all([tmp_path / "b.json"]) == [records[0], odd]
    assert read_all([tmp_path / "one.json"]) == read_all([tmp_path / "said.jsonl"]) == [odd]


def test_names_are_escaped(records, tmp_path):
    write(tmp_path / "b.jsonl", [*records, row("cached", 1.7, 38.0, "fora(every=2)<script>")])
    report([tmp_path / "b.jsonl"], tmp_path / "out", "a <b> title")
    text = (tmp_path / "out" / "index.html").read_text()
    assert "<script>" not in text
    assert "a &lt;b&gt; title" in text


def test_it_needs_no_torch(records, tmp_path):
    write(tmp_path / "b.jsonl", records)
    code = (
        "import sys; from skipdit.cli import app; "
        f"app(['report', {str(tmp_path / 'b.jsonl')!r}, '--out', {str(tmp_path / 'out')!r}], standalone_mode=False); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_long_spellings_are_cut():
    numbers = ", ".join(["0.5"] * 20)
    assert short(f"adacache(codebook=({numbers}))") == "adacache(codebook=(0.5, 0.5, 0.5, ...))"
    assert short("smoothcache(path='runs/a/plan.json')") == "smoothcache(path='plan.json')"


def test_refusals(records, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "other.json").write_text("{}")
    write(tmp_path / "r.jsonl", [Record("round", "", {}, WHERE)])
    (tmp_path / "b.png").write_bytes(b"\x89PNG")
    (tmp_path / "list.jsonl").write_text(Record("m", "", {}, WHERE).to_json().replace('"figures": {}', '"figures": []'))
    for name, words in (
        ("empty.jsonl", "there are no records"),
        ("other.json", "holds no records"),
        ("r.jsonl", "give its FILE.jsonl"),
        ("b.png", r"b\.png is no file of records"),
        ("list.jsonl", "list.jsonl holds no records: record 'm': its figures are a list"),
    ):
        with pytest.raises(ValueError, match=words):
            read_all([tmp_path / name])
    for arguments, words in ((["none.jsonl"], "none.jsonl: no such file"), ([str(DOCS / "twins.jsonl")], "line 1")):
        result = CliRunner().invoke(app, ["report", *arguments, "--out", str(tmp_path / "o")], env={"COLUMNS": "200"})
        assert result.exit_code == 2
        assert words in result.stderr

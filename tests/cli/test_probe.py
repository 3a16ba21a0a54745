"""skipdit probe: records of every model and policy, a picture of them, refusals in one line."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from skipdit.cli import app
from skipdit.probes import picture
from skipdit.results import read

QUICK = ("--steps", "4", "--pictures", "2", "--threads", "1")


def call(*arguments, code=0):
    result = CliRunner().invoke(app, ["probe", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_twins_beside_each_other(tmp_path):
    out, drawn = tmp_path / "new" / "probe.jsonl", tmp_path / "probe.png"
    twins = ("emoji-plain", "emoji-skip", *QUICK, "--policy", "fora(every=2)")
    shown = call(*twins, "--out", out, "--draw", drawn).stdout
    assert "emoji-skip, fora(every=2): output to the uncached run's 0.9" in shown
    records = read(out)
    assert [(record.name, record.policy) for record in records] == [
        (f"similarity of {name}", policy) for name in ("emoji-plain", "emoji-skip") for policy in ("", "fora(every=2)")
    ]
    assert [len(rows) for rows in records[0].figures["similar_steps"]] == [3] * 8
    assert records[0].figures["images"] == 4
    assert records[1].figures["computed"] == "1010"
    with Image.open(drawn) as page:
        assert page.format == "PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "probe.png"]


def test_other_records_of_the_file_stay(tmp_path):
    out = tmp_path / "p.jsonl"
    for model, policy in (
        ("emoji-plain", "fora(every=2)"),
        ("emoji-skip", "fora(every=2)"),
        ("emoji-plain", "fora(every=3)"),
    ):
        call(model, *QUICK, "--policy", policy, "--out", out)
    assert [(record.name.split()[-1], record.policy) for record in read(out)] == [
        ("emoji-skip", ""), ("emoji-skip", "fora(every=2)"), ("emoji-plain", ""), ("emoji-plain", "fora(every=3)"),
    ]  # fmt: skip


def test_as_json():
    (record,) = json.loads(call("emoji-plain", *QUICK, "--guidance", 1, "--json").stdout)["records"]
    assert record["figures"]["images"] == 2
    assert record["provenance"]["steps"] == 4


def test_refusals(tmp_path):
    for arguments, words in (
        (("emoji-none",), "no model 'emoji-none'"),
        (("emoji-plain", "--policy", "foar(every=2)"), "did you mean fora"),
        (("emoji-plain", "--policy", "skip_cache(every=2, branch=9)", *QUICK), "leaves no block"),
    ):
        assert words in call(*arguments, code=2).stderr
    assert "steps" in call("emoji-plain", "--steps", 1, code=2).output
    with pytest.raises(ValueError, match="skipdit probe makes such"):
        picture.draw([], tmp_path / "a.png")

"""Records: there and back, and refused by name."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from skipdit import results
from skipdit.results import Provenance, Record, append, read


def record(**figures) -> Record:
    return Record("speed", "skip_cache(every=2)", figures, Provenance.here("float32", batch=2, steps=50, seed=3))


def test_there_and_back(tmp_path):
    written = [record(psnr=31.25, steps=50, label="é \n"), record(psnr=None, bar=[True, False])]
    append(tmp_path / "a" / "results.jsonl", written[:1])
    append(tmp_path / "a" / "results.jsonl", written[1:])
    assert read(tmp_path / "a" / "results.jsonl") == written
    assert len((tmp_path / "a" / "results.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, [float("nan")]])
def test_figures_that_json_cannot_say_are_refused(value):
    with pytest.raises(ValueError, match="record 'speed': psnr="):
        record(psnr=value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda said: said.pop("policy"), "Record lacks 'policy'"),
        (lambda said: said.update(model=1), "Record has an unknown 'model'"),
        (lambda said: said["provenance"].pop("seed"), "Provenance lacks 'seed'"),
        (lambda said: said.update(provenance=3), "3 is no Provenance"),
    ],
)
def test_other_lines_are_refused_by_name_and_number(tmp_path, change, complaint):
    said = asdict(record(psnr=1.0))
    change(said)
    path = tmp_path / "results.jsonl"
    path.write_text(record(psnr=1.0).to_json() + "\n" + json.dumps(said) + "\n")
    with pytest.raises(ValueError, match=f"line 2: {complaint}"):
        read(path)


def test_a_record_is_a_value():
    one = record(psnr=1.0)
    assert one == replace(one, figures={"psnr": 1.0})
    with pytest.raises(AttributeError):
        one.name = "other"


def test_provenance_names_no_folder(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/skipdit", "bench", "two words"])
    monkeypatch.delattr(sys.modules["__main__"], "__spec__")
    assert results.command() == "skipdit bench 'two words'"
    found = Provenance.here("float32", 1, 1)
    assert str(Path(results.__file__).parents[1]) not in json.dumps(asdict(found))
    assert found.machine
    assert found.cores > 0
    assert (found.dtype, Provenance.here(torch.bfloat16, 1, 1).dtype) == ("float32", "bfloat16")


def test_outside_a_checkout_the_version_stands_for_the_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "__file__", str(tmp_path / "site-packages" / "skipdit" / "results.py"))
    results.commit.cache_clear()
    try:
        assert results.commit().startswith("skipdit")
    finally:
        results.commit.cache_clear()

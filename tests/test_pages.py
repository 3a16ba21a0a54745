"""The tables in docs/ and the README are those that the scripts make of docs/records, to the last digit."""

import pytest

from skipdit.results import read

SCRIPTS = ["tables", "guidance", "peers", "evaluation", "temporal", "acceleration"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_tables_are_those_of_the_records(name, script_of, monkeypatch, tmp_path):
    script, filled = script_of(name), []
    monkeypatch.setattr(script, "fill", lambda page, tables: filled.append((page, tables)))
    if hasattr(script, "PICTURE"):
        monkeypatch.setattr(script, "PICTURE", tmp_path / script.PICTURE.name)
    if hasattr(script, "report"):
        script.report(read(script.RECORDS))
    else:
        script.main()
    from pages import fill

    assert filled
    for page, tables in filled:
        copy = tmp_path / page.name
        copy.write_text(page.read_text())
        fill(copy, tables)
        assert copy.read_text() == page.read_text(), f"{page}: fill it anew, and don't write into its tables"


def test_a_page_without_the_mark_is_refused(script_of, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("no table here\n")
    with pytest.raises(ValueError, match="write <!-- speed --> and <!-- end -->"):
        script_of("pages").fill(page, {"speed": "| |\n"})
    assert page.read_text() == "no table here\n"

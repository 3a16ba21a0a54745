"""skipdit/aside.py: whole or not at all, also where two write at once."""

import pytest

from skipdit.aside import written_aside


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with written_aside(path) as aside:
        aside.write_text("old")
    with pytest.raises(OSError, match="full"), written_aside(path) as aside:
        aside.write_text("half")
        raise OSError("the disk is full")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_in_its_place_is_named_at_once(tmp_path):
    with pytest.raises(IsADirectoryError, match=f"{tmp_path.name}'$"), written_aside(tmp_path):
        pytest.fail("nothing is made for it")


def test_two_may_write_at_once(tmp_path):
    path = tmp_path / "a.txt"
    with written_aside(path) as one:
        one.write_text("one, half")
        with written_aside(path) as other:
            other.write_text("other")
        assert path.read_text() == "other"
        one.write_text("one, whole")
    assert path.read_text() == "one, whole"

"""skipdit/aside.py: whole or not at all, also where two write at once."""

import pytest
from safetensors import SafetensorError

from skipdit.aside import writable, written_aside


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


def test_what_fails_names_the_file_and_not_the_one_aside(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(OSError, match="No space left") as caught, written_aside(path) as aside:
        raise OSError(28, "No space left on device", str(aside))
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="No space left") as caught, written_aside(path):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(path)
    av = pytest.importorskip("av")
    with pytest.raises(OSError, match=r"No space left.*a\.safetensors'$"), written_aside(path):
        av.error.err_check(-28)
    with pytest.raises(OSError, match=r"a\.safetensors can't be written"), written_aside(path):
        raise SafetensorError("I/O error: No space left on device (os error 28)")


def test_a_place_that_cannot_be_written_to_is_told_beforehand(tmp_path):
    (tmp_path / "file").write_text("")
    writable(tmp_path / "new" / "a.txt", None, tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for path, kind in (
        (tmp_path, IsADirectoryError),
        (tmp_path / "file" / "a.txt", NotADirectoryError),
    ):
        with pytest.raises(kind):
            writable(tmp_path / "fine", path)


def test_two_may_write_at_once(tmp_path):
    path = tmp_path / "a.txt"
    with written_aside(path) as one:
        one.write_text("one, half")
        with written_aside(path) as other:
            other.write_text("other")
        assert path.read_text() == "other"
        one.write_text("one, whole")
    assert path.read_text() == "one, whole"

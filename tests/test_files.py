"""A write that fails leaves the old file, and nothing half-written."""

import os

import pytest

from occlab import OcclabError
from occlab.files import stamp, write_atomically


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_atomically(path, lambda partial: partial.write_text("old"))
    write_atomically(path, lambda partial: partial.write_text("new"))
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fails(partial):
        partial.write_text("ha")
        raise OSError(28, "No space left on device")

    with pytest.raises(OcclabError, match=r"a\.txt: cannot be written \(No space left on device\)"):
        write_atomically(path, fails)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OcclabError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "a.txt", lambda partial: partial.write_text("x"))


def test_a_stamp_tells_a_file_from_what_it_was(tmp_path):
    path = tmp_path / "a.txt"
    assert stamp(path) is None
    path.write_text("old")
    old, when = stamp(path), path.stat().st_mtime_ns
    assert stamp(path) == old
    path.write_text("older")
    os.utime(path, ns=(when, when))
    assert stamp(path) != old, "as old, and longer"
    path.write_text("new")
    os.utime(path, ns=(when, when + 1))
    assert stamp(path) != old, "as long, and newer"
    assert stamp(tmp_path / "a\0b") is None

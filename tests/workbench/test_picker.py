"""Clicking through folders."""

import pytest

from occlab import OcclabError
from occlab.workbench import FolderPicker


def describe(folder):
    if (folder / "frames.txt").exists():
        return "three frames"
    raise OcclabError(f"{folder}: cannot tell what is in this folder")


@pytest.fixture
def picker(tmp_path):
    for name in ("drive", "<b>odd", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "drive" / "frames.txt").touch()
    return FolderPicker(tmp_path, describe)


def labels(picker):
    return [label for label, _ in picker._list.options]


def click(picker, name):
    picker._list.value = dict(picker._list.options)[name]


def test_it_shows_the_folders_inside_but_not_the_hidden_ones(picker, tmp_path):
    assert labels(picker)[1:] == ["<b>odd", "drive"]
    assert picker.path == tmp_path
    assert picker._note.value.endswith(": cannot tell what is in this folder")


def test_a_click_opens_a_folder_and_says_what_it_holds_and_one_more_goes_back(picker, tmp_path):
    click(picker, "drive")
    assert picker.path == tmp_path / "drive"
    assert picker._note.value == "drive: three frames"
    click(picker, labels(picker)[0])
    assert picker.path == tmp_path
    click(picker, "drive")  # the same folder twice in a row
    assert picker.path == tmp_path / "drive"


def test_a_name_cannot_become_markup(picker):
    click(picker, "<b>odd")
    assert picker._note.value.startswith("&lt;b&gt;odd: ")


def test_a_folder_that_is_gone_leaves_the_picker_where_it_was(picker, tmp_path):
    (tmp_path / "<b>odd").rmdir()
    click(picker, "<b>odd")
    assert picker.path == tmp_path
    assert "cannot be opened" in picker._note.value


def test_a_folder_can_be_typed_and_one_that_is_none_leaves_the_picker_where_it_was(picker, tmp_path):
    assert picker._field.value == str(tmp_path)
    picker._field.value = str(tmp_path / "drive")
    assert picker.path == tmp_path / "drive"
    assert picker._note.value == "drive: three frames"
    for typed in (str(tmp_path / "<b>nowhere"), "~nobody-of-that-name/data", "a\0b"):
        picker._field.value = typed
        assert picker.path == tmp_path / "drive"
        assert picker._note.value.endswith(": expected a folder, found none; drive is still open")
        assert "<b>" not in picker._note.value
    click(picker, labels(picker)[0])
    assert picker._field.value == str(tmp_path)


def test_where_describing_takes_long_its_answer_may_come_later_or_too_late(tmp_path):
    later = []
    (tmp_path / "drive").mkdir()
    picker = FolderPicker(tmp_path, lambda folder: f"all of {folder.name}", run=lambda job, then: later.append((job, then)))
    assert picker._note.value == f"{tmp_path.name}: ..."
    click(picker, "drive")
    for job, then in later:
        then(job())
    assert picker._note.value == "drive: all of drive"
    job, then = later[0]
    then(job())  # of the folder before
    assert picker._note.value == "drive: all of drive"


def test_a_start_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(OcclabError, match="expected a folder to start in"):
        FolderPicker(tmp_path / "nowhere", describe)


def test_without_a_browser_there_is_a_sentence(picker):
    click(picker, "drive")
    shown = picker._repr_mimebundle_()
    assert shown["text/plain"] == "drive: three frames (in a running notebook: a list of folders to click through)"
    assert "application/vnd.jupyter.widget-view+json" in shown

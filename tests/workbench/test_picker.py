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


def test_a_start_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(OcclabError, match="expected a folder to start in"):
        FolderPicker(tmp_path / "nowhere", describe)


def test_without_a_browser_there_is_a_sentence(picker):
    click(picker, "drive")
    shown = picker._repr_mimebundle_()
    assert shown["text/plain"] == "drive: three frames (in a running notebook: a list of folders to click through)"
    assert "application/vnd.jupyter.widget-view+json" in shown

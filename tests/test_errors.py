import json
import os

import pytest

from occlab.errors import OcclabError, one_line, require


def test_gives_the_module():
    assert require("json") is json


def test_a_missing_package_is_one_sentence_with_the_command():
    with pytest.raises(
        OcclabError, match=r"no_such_package could not be imported .*; install it with: pip install 'occlab\[viz\]'"
    ):
        require("no_such_package.part", extra="viz")


def test_open3d_comes_without_its_viewer_for_notebooks(monkeypatch):
    monkeypatch.delenv("OPEN3D_DISABLE_WEB_VISUALIZER", raising=False)
    monkeypatch.setattr("occlab.errors.importlib.import_module", lambda name: name)
    assert require("open3d") == "open3d"
    assert os.environ["OPEN3D_DISABLE_WEB_VISUALIZER"] == "true"
    monkeypatch.setenv("OPEN3D_DISABLE_WEB_VISUALIZER", "false")
    require("open3d")
    assert os.environ["OPEN3D_DISABLE_WEB_VISUALIZER"] == "false"  # who wants the viewer keeps it


def test_a_line_for_the_terminal_holds_no_control_characters():
    assert one_line("a\x1b[31m\nb\t\x00c\u202e") == "a[31m b c"
    assert one_line("x" * 5000, 10) == "x" * 9 + "…"

import sys

import pytest
import torch

from occlab import machine
from occlab.errors import OcclabError


def test_names_device_profile_and_parts(monkeypatch):
    monkeypatch.setenv("OCCLAB_PROFILE", "tiny")
    lines = machine.describe_machine()
    assert list(lines) == ["device", "profile", "precision", "Open3D", "Chromium"]
    assert lines["profile"].startswith("tiny: grid 32 x 36 x 36, 0.0625 of the full width, ")
    assert lines["device"].startswith("CPU") != torch.cuda.is_available()
    assert all(line and "\n" not in line for line in lines.values())


def test_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)  # import fails, as where it is not installed
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr(machine, "fast_precision", lambda: "32-true")
    lines = machine.describe_machine()
    assert lines["Open3D"].startswith("only the sample frames that ship (open3d could not be imported")
    assert lines["Chromium"].startswith("not found")
    assert lines["precision"].startswith("float32")


def test_a_profile_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv("OCCLAB_PROFILE", "huge")
    with pytest.raises(OcclabError, match="unknown profile 'huge'"):
        machine.describe_machine()

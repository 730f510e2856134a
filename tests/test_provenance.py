"""Where a result comes from."""

import json
import subprocess
from pathlib import Path

import torch

import occlab
from occlab.provenance import _commit, provenance


def git(folder, *arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def test_provenance_names_machine_code_and_command():
    about = provenance("occlab ablate design.yaml", commit="abc")
    assert json.loads(json.dumps(about)) == about
    assert about["command"] == "occlab ablate design.yaml"
    assert about["commit"] == "abc"
    assert (about["torch"], about["occlab"]) == (torch.__version__, occlab.__version__)
    assert about["device"]
    assert "threads" not in provenance("x", threads=False)["device"]


def test_the_commit_is_the_checkouts_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = subprocess.run(
        ["git", "-C", Path(occlab.__file__).parent, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    if expected.returncode == 0:
        assert provenance("x")["commit"].removesuffix("+") == expected.stdout.strip()


def test_a_changed_tree_is_marked_and_a_copy_in_somebody_elses_repository_is_unknown(tmp_path):
    package = tmp_path / "occlab"
    package.mkdir()
    assert _commit(package) == "unknown"
    git(tmp_path, "init", "-q")
    (tmp_path / "theirs").write_text("")
    git(tmp_path, "add", "theirs")
    git(tmp_path, "commit", "-qm", "theirs")
    (package / "__init__.py").write_text("")
    assert _commit(package) == "unknown"
    git(tmp_path, "add", "occlab")
    git(tmp_path, "commit", "-qm", "ours")
    assert _commit(package) == git(tmp_path, "rev-parse", "HEAD")
    (package / "__init__.py").write_text("changed")
    assert _commit(package) == git(tmp_path, "rev-parse", "HEAD") + "+"

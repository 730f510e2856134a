"""occlab ablate, as a process and in this one."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from occlab.ablation import COLUMNS, read_table
from occlab.cli import main
from occlab.frames import Frame, write_frame

DESIGN = """
profile: tiny
base: {steps: 12}
seeds: 2
design: full factorial
factors:
  higher rate: {learning_rate: 1e-3}
  logits: {head: logits}
"""

ABSURD = """
preset: repaired
profile: tiny
base: {steps: 12, clip_norm: null}
seeds: 1
design: one change
factors:
  absurd rate: {learning_rate: 1e30}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three frames in a store."""
    path = tmp_path_factory.mktemp("frames")
    for i in range(3):
        rng = np.random.default_rng(i)
        cloud = lambda n: np.c_[rng.uniform(-10, 10, (n, 2)), rng.uniform(-3, 0, n), rng.random(n)].astype(np.float32)  # noqa: B023, E731
        write_frame(path / f"frame-{i}.npz", Frame(cloud(3000), cloud(3000), f"frame-{i}", {"seed": i}))
    return path


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "design.yaml").write_text(text)
        return tmp_path / "design.yaml"

    return write


def test_a_sweep_as_a_process_twice(write, folder, tmp_path):
    command = [sys.executable, "-m", "occlab", "ablate", write(DESIGN), "--data", folder, "--runs", tmp_path / "runs"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--output", tmp_path / "table.csv"], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    for words in ("settled loss", "higher rate + logits", "±", "effects", "higher rate x logits", "too few seeds", "table.csv"):
        assert words in done.stdout
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, env=env)
    assert again.returncode == 0, again.stderr
    result = json.loads(again.stdout)
    assert result["runs"] == read_table(tmp_path / "table.csv")
    assert len(list((tmp_path / "runs").iterdir())) == len(result["runs"]) == 8
    about = json.loads((tmp_path / "table.about.json").read_text())
    assert about["command"].startswith("occlab ablate ")
    assert about["design"] == DESIGN


def test_json_holds_everything(write, folder, tmp_path, capsys):
    text = DESIGN.replace("full factorial", "one change")
    main(["ablate", str(write(text)), "--data", str(folder), "--runs", str(tmp_path / "runs"), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result.keys() == {"design", "profile", "runs", "arms", "comparisons", "effects"}
    assert result["profile"] == "tiny"
    assert list(result["runs"][0]) == list(COLUMNS)
    assert [(arm["arm"], arm["n"]) for arm in result["arms"]] == [("base", 2), ("higher rate", 2), ("logits", 2)]
    rate, logits = result["comparisons"]["settled_loss"]
    assert (rate["arm"], rate["against"], logits["arm"]) == ("higher rate", "base", "logits")
    losses = {(row["arm"], row["seed"]): row["settled_loss"] for row in result["runs"]}
    for seed in (0, 1):
        assert rate["differences"][str(seed)] == losses["higher rate", seed] - losses["base", seed]
    assert result["effects"]["settled_loss"] == {}


def test_a_dry_run_trains_nothing(write, folder, tmp_path, capsys):
    command = ["ablate", str(write(DESIGN)), "--data", str(folder), "--runs", str(tmp_path / "runs")]
    main([*command, "--dry-run", "--seeds", "3"])
    said = capsys.readouterr().out
    assert "12 runs: 4 arms with 3 seeds each, profile tiny" in said
    assert "0 are there already, 12 to make" in said
    assert not (tmp_path / "runs").exists()
    main([*command, "--seeds", "1", "--json"])
    capsys.readouterr()
    main([*command, "--dry-run", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["planned"], found["found"]) == (8, 4)


def test_a_failed_run_is_exit_code_1(write, folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["ablate", str(write(ABSURD)), "--data", str(folder), "--runs", str(tmp_path / "runs")])
    assert left.value.code == 1
    said = capsys.readouterr().out
    assert "0 (1 failed)" in said
    assert "failed: absurd rate, seed 0: training stopped at step" in said


def test_a_typo_as_a_process_is_one_sentence(write):
    command = [sys.executable, "-m", "occlab", "ablate", write(DESIGN.replace("learning_rate", "learning_rat"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "learning_rate" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--output", "table.xlsx"], ".csv or .parquet"),
        (["--seeds", "0"], "--seeds of at least 1"),
        (["--workers", "0"], "workers must be"),
        (["--address", "auto"], "the engine is here"),
        (["--data", "nowhere"], "nowhere"),
        (["--runs", "design.yaml"], "design.yaml"),
    ],
)
def test_bad_options_are_one_sentence(write, folder, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["ablate", str(write(DESIGN)), "--data", str(folder), *arguments])
    assert left.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_a_missing_design_is_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["ablate", str(tmp_path / "missing.yaml")])
    assert left.value.code == 2
    assert "missing.yaml" in capsys.readouterr().err

"""Recording at a small size: what a record holds, and that it is whole or not there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from occlab.training import load_run

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "record.py"


def run(*arguments, home):
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    env = {"PATH": "", "OMP_NUM_THREADS": "1", "OCCLAB_HOME": str(home), "HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, env=env)


def test_a_small_record(tmp_path):
    samples = SCRIPT.parents[1] / "data_samples"
    names = ("as-it-stood", "recommended", "logits-depth")
    arguments = ("--profile", "tiny", "--seeds", 1, "--steps", 12, "--data", samples, "--out", tmp_path / "recorded")
    arguments += ("--only", *names)
    done = run(*arguments, home=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = sorted(path.name for path in (tmp_path / "recorded").iterdir())
    assert folders == sorted(f"tiny-{name}-seed0" for name in names)
    for name in folders:
        recorded = load_run(tmp_path / "recorded" / name)
        assert len(recorded.steps) == 12
        volumes = np.load(recorded.folder / "volumes.npz", allow_pickle=False)
        predicted, target = (np.unpackbits(volumes[name]).reshape(volumes["shape"]) for name in ("predicted", "target"))
        assert predicted.shape == (32, 36, 36)
        assert target.sum() > 0
        about = json.loads((recorded.folder / "record.json").read_text())
        assert about["torch"] == torch.__version__
        assert about["command"].startswith("python benchmarks/record.py --profile tiny")
        assert not (recorded.folder / "checkpoint.safetensors").exists()
    deep = load_run(tmp_path / "recorded" / "tiny-logits-depth-seed0").config
    assert (deep.model.head, deep.model.channels, deep.model.block) == ("logits", (256, 512, 1024, 2048), "residual")
    assert load_run(tmp_path / "recorded" / "tiny-recommended-seed0").config.output_prior == "measured"
    assert "recorded already" in run(*arguments, home=tmp_path).stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device: this would record at full scale")
def test_full_scale_is_refused_without_a_gpu(tmp_path):
    done = run("--out", tmp_path / "recorded", home=tmp_path)
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr
    assert not (tmp_path / "recorded").exists()


def test_an_unknown_run_is_refused(tmp_path):
    done = run("--profile", "tiny", "--only", "as-it-sat", "--out", tmp_path, home=tmp_path)
    assert done.returncode == 2
    assert "no run named as-it-sat" in done.stderr


@pytest.mark.parametrize("option", ["seeds", "steps", "batch-size"])
def test_none_of_something_is_refused(tmp_path, option):
    done = run("--profile", "tiny", f"--{option}", 0, "--out", tmp_path / "recorded", home=tmp_path)
    assert done.returncode == 2
    assert f"{option.replace('-', '_')} must be at least 1, got 0" in done.stderr

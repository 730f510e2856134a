"""The command line as a process: what it prints, and that every bad input is one sentence and exit code 2."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from occlab.cli import main
from occlab.settings import PROFILES
from occlab.training import preset
from occlab.training.config import to_dict


def occlab(*arguments, **environment):
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-m", "occlab", *map(str, arguments)], capture_output=True, text=True, env=env)


def test_train_prints_one_json_object_and_finds_the_run_again(store, tmp_path):
    command = ("train", "--profile", "tiny", "--steps", 20, "--data", store, "--runs", tmp_path, "--json")
    done = occlab(*command)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    wanted = {"first_loss", "settled_loss", "floor", "floor_name", "gradient_norm_min", "gradient_norm_max", "iou"}
    assert wanted <= result.keys()
    assert result["first_loss"] > result["settled_loss"] > result["floor"] > 1
    assert 0 < result["gradient_norm_min"] <= result["gradient_norm_max"]
    assert result["probability"]["min"] == 0.5
    assert json.loads(occlab(*command).stdout) == result
    assert len(list(tmp_path.iterdir())) == 1


def test_steps_reach_the_schedule_of_the_preset(monkeypatch, tmp_path):
    seen = []

    def stop(settings, *_, **__):
        seen.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr("occlab.training.train", stop)
    monkeypatch.setattr("occlab.training.split_frames", lambda *_: ([], []))
    with pytest.raises(SystemExit):
        main(["train", "--preset", "recommended", "--profile", "tiny", "--steps", "30", "--runs", str(tmp_path)])
    assert (seen[0].steps, seen[0].warmup_steps) == (30, 3)


def test_a_free_output_ends_lower(store, tmp_path):
    command = (
        "train",
        "--profile",
        "tiny",
        "--steps",
        150,
        "--data",
        store,
        "--runs",
        tmp_path,
        "--json",
        "--learning-rate",
        "1e-3",
    )
    rectified, free = (json.loads(occlab(*command, "--head", head).stdout) for head in ("rectified", "logits"))
    assert free["settled_loss"] < rectified["settled_loss"] - 0.02
    assert free["iou"] > rectified["iou"]
    assert free["probability"]["min"] < 0.5 == rectified["probability"]["min"]


def test_train_for_people(store, tmp_path):
    done = occlab("train", "--profile", "tiny", "--steps", 20, "--data", store, "--runs", tmp_path)
    assert done.returncode == 0
    for words in ("first loss", "settled loss", "p = 1/2 everywhere", "run folder"):
        assert words in done.stdout


def test_a_run_is_repeated_from_its_own_configuration(store, tmp_path):
    """Also its seed and precision, which have defaults on the command line."""
    given = ("--seed", 3, "--precision", "32-true")
    command = ("train", "--profile", "tiny", "--steps", 20, "--data", store, "--runs", tmp_path / "a", "--json", *given)
    first = json.loads(occlab(*command).stdout)
    (run,) = (tmp_path / "a").iterdir()
    command = ("train", "--config", run / "config.json", "--data", store, "--runs", tmp_path / "b", "--json")
    again = json.loads(occlab(*command).stdout)
    assert (again["seed"], again["settled_loss"]) == (3, first["settled_loss"])
    (repeated,) = (tmp_path / "b").iterdir()
    assert (repeated / "config.json").read_text() == (run / "config.json").read_text()


@pytest.fixture
def refused(capsys):
    """Type a command that must fail; return its one sentence."""

    def check(*arguments):
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        said = capsys.readouterr()
        assert left.value.code == 2
        assert said.out == ""
        *warnings, sentence = said.err.strip().splitlines()
        assert all(line.startswith("occlab: warning: ") for line in warnings)  # of the alignment of the frames given
        assert sentence.startswith("occlab: ")
        return sentence

    return check


def test_a_refusal_as_a_process(tmp_path):
    done = occlab("train", "--data", tmp_path / "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("occlab: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"lr": 1}, "unknown keys lr"),
        ({"steps": -1}, "steps must be a whole number of at least 1"),
        ([], "an object with the fields"),
    ],
)
def test_a_bad_configuration_is_one_sentence(refused, store, tmp_path, values, says):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    sentence = refused("train", "--config", path, "--data", store)
    assert "config.json" in sentence
    assert says in sentence


def test_a_configuration_for_another_network_is_one_sentence(refused, store, tmp_path):
    config = to_dict(preset("as-it-stood", PROFILES["tiny"]))
    config["model"]["out_channels"] = 7
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert "out_channels" in refused("train", "--config", path, "--data", store)


def test_a_corrupt_store_is_one_sentence(refused, store, tmp_path):
    broken = tmp_path / "frame-0.npz"
    content = bytearray((store / "frame-0.npz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    broken.write_bytes(content)
    sentence = refused("train", "--profile", "tiny", "--data", tmp_path)
    assert "frame-0.npz" in sentence
    assert "damaged" in sentence


def test_a_folder_of_nothing_is_one_sentence(refused, tmp_path):
    assert "expected" in refused("train", "--data", tmp_path)
    assert "no such file or folder" in refused("train", "--data", tmp_path / "nowhere")


@pytest.fixture
def kitti(real_data, tmp_path, monkeypatch):
    """A copy of one real SemanticKITTI frame, to damage."""
    source = real_data / "semantickitti" / "sequences" / "00"
    monkeypatch.setenv("OCCLAB_HOME", str(tmp_path / "home"))
    target = tmp_path / "kitti" / "sequences" / "00"
    for file in ("velodyne/000000.bin", "image_2/000000.png", "image_3/000000.png", "calib.txt"):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (target / file).write_bytes((source / file).read_bytes())
    return target


def damage_truncated(sweep):
    sweep.write_bytes(sweep.read_bytes()[:-5])


def damage_empty(sweep):
    sweep.write_bytes(b"")


def damage_nan(sweep):
    points = np.fromfile(sweep, "<f4")
    points[10] = np.nan
    points.tofile(sweep)


def damage_columns(sweep):
    points = np.fromfile(sweep, "<f4").reshape(-1, 4)
    np.c_[points, np.zeros(len(points))].astype("<f4").tofile(sweep)


def damage_endian(sweep):
    np.fromfile(sweep, "<f4").astype(">f4").tofile(sweep)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_truncated, "whole number"),
        (damage_empty, "empty"),
        (damage_nan, "NaN"),
        (damage_columns, "5"),
        (damage_endian, "endian"),
    ],
)
def test_a_damaged_sweep_is_one_sentence(refused, kitti, damage, says):
    damage(kitti / "velodyne" / "000000.bin")
    sentence = refused("train", "--profile", "tiny", "--data", kitti.parents[1])
    assert "000000.bin" in sentence
    assert says in sentence


def test_a_calibration_without_tr_is_one_sentence(refused, kitti):
    calib = kitti / "calib.txt"
    calib.write_text("".join(line for line in calib.read_text().splitlines(True) if not line.startswith("Tr")))
    sentence = refused("train", "--profile", "tiny", "--data", kitti.parents[1])
    assert "calib.txt" in sentence
    assert "Tr" in sentence


def test_a_home_that_is_a_file_is_one_sentence(refused, store, tmp_path):
    (tmp_path / "file").write_text("in the way")
    sentence = refused("train", "--profile", "tiny", "--data", store, "--runs", tmp_path / "file")
    assert str(tmp_path / "file") in sentence


def test_simulate_leaves_others_files_alone(refused, tmp_path):
    np.savez(tmp_path / "street-000000.npz", mine=np.arange(3))
    before = (tmp_path / "street-000000.npz").read_bytes()
    assert "not written by occlab" in refused("simulate", tmp_path, "--count", 1)
    assert (tmp_path / "street-000000.npz").read_bytes() == before
    assert "--count of at least 1" in refused("simulate", tmp_path, "--count", 0)


def test_unknown_options_are_refused(capsys):
    for arguments in (["train", "--no-such-option"], ["no-such-command"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2


BARE = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"open3d", "plotly", "cv2", "IPython", "ipywidgets", "jupyterlab", "nbformat"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
import torch
import occlab

stats = occlab.voxelize(torch.randn(100, 4), occlab.VoxelGrid())
assert occlab.hard_occupancy(stats).sum() > 0
from occlab.cli import main
main(sys.argv[1:])
"""


def bare(*arguments, **environment):
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-c", BARE, *map(str, arguments)], capture_output=True, text=True, env=env)


def test_voxelizing_and_training_work_on_a_bare_node(store, tmp_path):
    done = bare("train", "--profile", "tiny", "--steps", 12, "--data", store, "--runs", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["floor_name"] == "p = 1/2 everywhere"


def test_simulating_on_a_bare_node_is_one_sentence(tmp_path):
    done = bare("simulate", tmp_path / "frames", "--count", 1, OCCLAB_HOME=str(tmp_path))
    assert done.returncode == 2
    assert "pip install 'occlab[course]'" in done.stderr.strip().splitlines()[-1]


def test_the_readmes_python_runs():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    doctor, floors = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", floors], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "p = 1/2 everywhere" in done.stdout
    yours = """
import torch
from occlab import OccupancyLoss
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1), torch.nn.ReLU())
inputs, loss, optimizer = torch.randn(2, 4, 12, 12), OccupancyLoss(), torch.optim.AdamW(model.parameters())
target = (inputs > 1.5).float()
"""
    done = subprocess.run([sys.executable, "-c", f"{yours}{doctor}\nprint(report.cause)"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "The prediction held." in done.stdout
    assert done.stdout.rstrip().endswith("bounded-output")


@pytest.mark.slow
def test_real_stereo_frames_settle_on_their_own_floor(real_data, tmp_path):
    command = ("train", "--preset", "as-it-stood", "--profile", "small", "--data", real_data, "--json")
    done = subprocess.run(
        [sys.executable, "-m", "occlab", *map(str, command)],
        capture_output=True,
        text=True,
        env={**os.environ, "OCCLAB_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["floor_name"] == "p = 1/2 everywhere"
    assert result["settled_loss"] == pytest.approx(result["floor"], rel=0.01)

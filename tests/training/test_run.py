"""Runs are folders: found again, resumed to the same result after a kill at any moment, read with care."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from occlab import OcclabError
from occlab.frames import write_frame
from occlab.settings import PROFILES
from occlab.training import load_run, preset, recorded_runs, train
from occlab.training import run as run_module
from occlab.training.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def template(tmp_path_factory, frames):
    config = preset("as-it-stood", PROFILES["tiny"], steps=12, snapshot_steps=(0, 5, 12))
    return train(config, frames[:3], frames[3:], name="test", root=tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture
def finished(template, tmp_path):
    """A finished run of one's own, to damage."""
    shutil.copytree(template.folder, tmp_path / template.folder.name)
    return load_run(tmp_path / template.folder.name)


def test_what_a_run_leaves(finished):
    assert [s.step for s in finished.steps] == list(range(1, 13))
    summary = finished.summary
    assert summary["first_loss"] == finished.steps[0].loss
    assert summary["settled_loss"] == pytest.approx(sum(s.loss for s in finished.steps[-10:]) / 10)
    assert summary["probability"]["min"] == 0.5  # the rectified head
    assert summary["held_out"]["trivial"]["all empty"]["iou"] == 0
    ways = [summary["held_out"][f"{kind}_statistics"] for kind in ("batch", "running", "reestimated")]
    assert all(set(way) == set(ways[0]) for way in ways)
    assert len({way["average_precision"] for way in ways}) == 3
    assert len(summary["held_out"]["iou_per_height"]) == 32
    assert max(summary["held_out"]["iou_per_height"]) > 0
    snapshots = finished.snapshots()
    assert list(snapshots) == [0, 5, 12]
    assert all(p.shape == (32, 36, 36) and p.min() > 0.49 for p in snapshots.values())
    assert not finished.model().training
    rows = [json.loads(line) for line in (finished.folder / "scalars.json").read_text().splitlines()]
    assert {"lr", "loss", "loss_bce", "loss_dice", "grad_norm", "time", "iter", "step"} <= set(rows[0])


def test_the_last_snapshot_is_the_final_models_prediction(finished, frames):
    p = finished.predict(frames[0])
    snapshot = finished.snapshots()[12]
    torch.testing.assert_close(snapshot, p, atol=1 / 256, rtol=0)
    assert torch.equal(snapshot > 0.5, p > 0.5)  # never rounded across the threshold
    assert 0 < (p > 0.5).float().mean() < 1


def test_asking_twice_trains_once(finished, frames, tmp_path):
    stamp = (finished.folder / "scalars.json").stat().st_mtime_ns
    again = train(finished.config, frames[:3], frames[3:], name="test", root=tmp_path, progress=False)
    assert again.folder == finished.folder
    assert (finished.folder / "scalars.json").stat().st_mtime_ns == stamp
    other = train(replace(finished.config, seed=1), frames[:3], frames[3:], name="test", root=tmp_path, progress=False)
    assert other.folder != finished.folder
    fewer = train(finished.config, frames[:2], frames[3:], name="test", root=tmp_path, progress=False)
    assert fewer.folder not in (finished.folder, other.folder)


def test_the_same_seed_is_the_same_run(finished, frames, tmp_path):
    again = train(finished.config, frames[:3], frames[3:], name="test", root=tmp_path / "elsewhere", progress=False)
    assert [s.loss for s in again.steps] == [s.loss for s in finished.steps]


def test_a_run_is_found_again_under_another_name(finished, frames, tmp_path):
    again = train(finished.config, frames[:3], frames[3:], name="called otherwise", root=tmp_path, progress=False)
    assert again.folder == finished.folder


def test_a_run_with_larger_batches_is_evaluated_on_fewer_frames(frames, config, tmp_path):
    """One held-out frame, and a prediction of one frame, are less than a batch."""
    run = train(replace(config, batch_size=3), frames[:3], frames[3:], root=tmp_path, progress=False)
    assert run.summary["held_out"]["trivial"]["all empty"]["iou"] == 0
    assert run.predict(frames[3]).shape == (32, 36, 36)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "one-cycle"},
        {"optimizer": "sgd", "momentum": 0.0, "schedule": "cosine"},
        {"quarter_turns": True, "rotation": 10.0, "flip": True, "layer_decay": 0.8, "output_prior": "measured"},
    ],
)
def test_a_run_that_was_stopped_ends_where_an_unbroken_one_does(frames, config, tmp_path, monkeypatch, change):
    monkeypatch.setattr(run_module, "CHECKPOINT_EVERY", 4)
    config = replace(config, **change)
    whole = train(config, frames, root=tmp_path / "whole", progress=False)

    def stop(step):
        if step.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, frames, root=tmp_path / "stopped", progress=False, watch=stop)
    again = train(config, frames, root=tmp_path / "stopped", progress=False)
    assert [s.loss for s in again.steps] == [s.loss for s in whole.steps]
    assert all(torch.equal(a, b) for a, b in zip(again.model().parameters(), whole.model().parameters(), strict=True))


def test_watch_sees_every_step(frames, config, tmp_path):
    seen = []
    train(config, frames[:1], root=tmp_path, progress=False, watch=seen.append)
    assert [s.step for s in seen] == list(range(1, 13))


@pytest.mark.parametrize("keep", [0, 5])
def test_a_log_shorter_than_the_checkpoint_is_one_sentence(finished, frames, keep):
    (finished.folder / "summary.json").unlink()
    log = finished.folder / "scalars.json"
    log.write_text("".join(log.read_text().splitlines(True)[:keep]))
    with pytest.raises(OcclabError, match="expected every step from 1 to at least 12") as error:
        train(finished.config, frames[:3], frames[3:], root=finished.folder.parent, progress=False)
    assert str(log) in str(error.value)


def test_a_half_written_checkpoint_of_a_killed_process_is_cleared_away(finished, frames):
    (finished.folder / "summary.json").unlink()
    left = finished.folder / ".checkpoint.safetensors.12345"
    left.write_bytes(b"half")
    train(finished.config, frames[:3], frames[3:], root=finished.folder.parent, progress=False)
    assert not left.exists()


def test_a_torn_last_line_is_dropped_and_written_again(frames, config, tmp_path):
    whole = train(config, frames[:3], root=tmp_path / "a", progress=False)
    torn = train(config, frames[:3], root=tmp_path / "b", progress=False)
    (torn.folder / "summary.json").unlink()
    (torn.folder / "checkpoint.safetensors").unlink()
    log = torn.folder / "scalars.json"
    log.write_bytes(log.read_bytes()[:-20])
    assert len(load_run(torn.folder).steps) == 11
    again = train(config, frames[:3], root=tmp_path / "b", progress=False)
    assert [s.loss for s in again.steps] == [s.loss for s in whole.steps]


_CHILD = """
import sys, time
from pathlib import Path
import torch
from occlab.frames import read_frames
from occlab.settings import PROFILES
from occlab.training import preset, train
import occlab.training.run as run
run.CHECKPOINT_EVERY = 4
torch.set_num_threads(1)

def watch(step):
    print(step.step, flush=True)
    time.sleep(0.02)  # so that a kill meets every part of a step

config = preset("as-it-stood", PROFILES["tiny"], steps=100)
train(config, read_frames(Path(sys.argv[1])), root=Path(sys.argv[2]), progress=False, watch=watch)
"""


@pytest.mark.slow
def test_ten_kills_lose_nothing_and_end_where_an_unbroken_run_does(frames, tmp_path):
    for frame in frames:
        write_frame(tmp_path / "frames" / f"{frame.name}.npz", frame)
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "frames")]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    (whole,) = (tmp_path / "whole").iterdir()
    expected = load_run(whole)
    assert len(expected.steps) == 100

    rng, log, kills = random.Random(0), tmp_path / "killed" / whole.name / "scalars.json", 0
    while kills < 10:
        process = subprocess.Popen([*command, str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True)
        for _ in range(rng.randint(1, 8)):  # at least one step, so that there is something to lose
            assert process.stdout.readline(), "the run ended before it could be killed ten times"
        time.sleep(rng.uniform(0, 0.05))
        flushed = log.read_bytes()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        kills += 1
        assert log.read_bytes().startswith(flushed[: flushed.rfind(b"\n") + 1]), "a flushed line was lost"
    subprocess.run([*command, str(tmp_path / "killed")], check=True, capture_output=True)
    result = load_run(log.parent)
    assert [s.step for s in result.steps] == list(range(1, 101))
    assert [s.loss for s in result.steps] == [s.loss for s in expected.steps]
    assert result.summary["settled_loss"] == expected.summary["settled_loss"]
    for a, b in zip(result.model().parameters(), expected.model().parameters(), strict=True):
        assert torch.equal(a, b)


def test_two_processes_do_not_fight_over_one_folder(frames, tmp_path):
    for frame in frames:
        write_frame(tmp_path / "frames" / f"{frame.name}.npz", frame)
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "frames"), str(tmp_path / "runs")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    trained = [len(process.communicate()[0].split()) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(trained) == [0, 100]  # one trained, the other waited and found the run


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.json", b"", "expected a JSON file of a run"),
        ("config.json", b"[]", "key 'config'"),
        ("config.json", b'{"config": {"stepps": 3}}', "unknown keys stepps"),
        ("summary.json", b'{"first', "expected a JSON file of a run"),
        ("scalars.json", b"not json\n", "line 1"),
        ("scalars.json", b'{"loss": 1}\n', "line 1"),
        ("scalars.json", b"\xff\xfe\n", "line 1"),
    ],
)
def test_a_damaged_run_is_one_sentence(finished, file, content, says):
    (finished.folder / file).write_bytes(content)
    with pytest.raises(OcclabError, match=says) as error:
        load_run(finished.folder)
    assert str(finished.folder / file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cut", [0, 7, 1000])
def test_a_truncated_checkpoint_is_one_sentence(finished, cut):
    path = finished.folder / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(OcclabError, match="expected a whole safetensors file"):
        finished.model()


def test_a_checkpoint_of_another_network_is_one_sentence(finished):
    from occlab import OccupancyUNet, UNetConfig

    with pytest.raises(OcclabError, match="checkpoint of this network") as error:
        load_checkpoint(finished.folder / "checkpoint.safetensors", OccupancyUNet(UNetConfig(width=1 / 8)))
    assert "\n" not in str(error.value)


def test_no_pickle_in_a_run(finished):
    kinds = {path.suffix for path in finished.folder.rglob("*") if path.is_file() and path.suffix}
    assert kinds == {".json", ".safetensors"}


def test_recorded_runs_say_where_they_come_from_and_agree_with_their_log():
    runs = recorded_runs()
    assert "full-as-it-stood-seed0" in runs
    for name, run in runs.items():
        about = json.loads((run.folder / "record.json").read_text())
        assert {"date", "command", "commit", "device", "torch"} <= about.keys(), name
        assert "+" not in about["commit"], f"{name} was made by code that is in no commit"
        assert len(run.steps) == run.config.steps
        assert run.summary["first_loss"] == run.steps[0].loss
        end = run.steps[-run.config.steps // 5 :]
        assert run.summary["settled_loss"] == pytest.approx(sum(s.loss for s in end) / len(end))

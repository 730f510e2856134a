"""Folders with one log, several, none; files that are no logs."""

import json
import os

import pytest

from occlab.diagnosis.logs import find_logs, read_log
from occlab.errors import OcclabError


def mmcv(path, epochs=(1, 2), loss=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"mode": "train", "epoch": e, "iter": i, "lr": 0.1, "loss": loss} for e in epochs for i in (50, 100)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def csv(path, loss=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"epoch,step,train_loss\n0,1,{loss}\n")
    return path


def test_a_resumed_run_in_several_files(tmp_path):
    mmcv(tmp_path / "20240101_000000.log.json", (1, 2, 3), 1.0)
    mmcv(tmp_path / "20240102_000000.log.json", (3, 4), 2.0)
    mmcv(tmp_path / "20240103_000000.log.json", (5,), 3.0)
    log = read_log(tmp_path)
    assert log.training["loss"].step.tolist() == list(range(50, 501, 50))
    assert log.training["loss"].value.tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert log.restarts == (4, 8)
    assert any("3 files" in note for note in log.notes)


def test_only_the_newest_training_of_a_folder_is_read(tmp_path):
    mmcv(tmp_path / "20240101_000000.log.json", (1, 2, 3), 1.0)
    mmcv(tmp_path / "20240102_000000.log.json", (1,), 2.0)
    mmcv(tmp_path / "20240103_000000.log.json", (2,), 3.0)
    log = read_log(tmp_path)
    assert log.training["loss"].value.tolist() == [2, 2, 3, 3]
    assert any("1 earlier" in note for note in log.notes)


def test_the_highest_version_is_the_newest(tmp_path):
    for version in (9, 10, 2):
        csv(tmp_path / "lightning_logs" / f"version_{version}" / "metrics.csv", loss=version)
    log = read_log(tmp_path)
    assert log.training["loss"].value.tolist() == [10]
    assert "version_9" in log.notes[0]
    assert [path.parent.name for path in find_logs(tmp_path)] == ["version_10", "version_9", "version_2"]


def test_the_fullest_of_several_formats_is_read(tmp_path):
    mmcv(tmp_path / "20240101_000000.log.json")
    (tmp_path / "20240101_000000.log").write_text("Epoch [1][50/100]\tlr: 1.000e-01, loss: 1.0\n")
    (tmp_path / "tf_logs").mkdir()
    (tmp_path / "tf_logs" / "events.out.tfevents.1700000000.a").write_bytes(b"x")
    assert [path.name for path in find_logs(tmp_path)] == ["20240101_000000.log.json"]


def test_a_newer_log_that_says_nothing_gives_way_to_an_older_one(tmp_path):
    csv(tmp_path / "a" / "version_0" / "metrics.csv")
    (tmp_path / "debug.log").write_text("started\n")
    os.utime(tmp_path / "debug.log", (4e9, 4e9))
    log = read_log(tmp_path)
    assert log.format == "Lightning csv"
    assert any("debug.log" in note for note in log.notes)


def test_a_link_in_a_ring_is_not_followed(tmp_path):
    csv(tmp_path / "metrics.csv")
    (tmp_path / "ring").symlink_to(tmp_path)
    assert len(find_logs(tmp_path)) == 1


def test_what_is_no_log_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "empty.log").write_bytes(b"")
    (tmp_path / "weights.pth").write_bytes(bytes(range(256)) * 50)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, said in {
        "empty.log": "an empty file",
        "weights.pth": "a binary file",
        "folder": "found none",
        "pipe": "got something else",
        "absent.log": "no such file or folder",
        "nul\0": "no such file or folder",
    }.items():
        with pytest.raises(OcclabError) as caught:
            read_log(tmp_path / name)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_path_as_text_will_do(tmp_path):
    assert read_log(str(csv(tmp_path / "metrics.csv"))).rows == 1


def test_text_that_a_windows_shell_redirected(tmp_path):
    (tmp_path / "a.log").write_text("Epoch [1][50/100]\tlr: 1.000e-01, loss: 1.5\r\n", encoding="utf-16")
    assert read_log(tmp_path / "a.log").training["loss"].value.tolist() == [1.5]

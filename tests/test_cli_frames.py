"""``occlab frames`` and ``occlab export``: somebody's files looked at, and streets written as somebody else's format."""

import json
from dataclasses import replace

import numpy as np
import pytest

from occlab.cli import main
from occlab.frames import sample_frames, write_frame
from occlab.frames.catalogue import SAMPLES


def test_the_samples_are_described_in_words_and_as_json(capsys):
    main(["frames", str(SAMPLES), "--limit", "2"])
    words = capsys.readouterr().out
    assert "occlab frames, 4 in all" in words
    assert "street-000001" in words
    assert "street-000002" not in words
    main(["frames", str(SAMPLES), "--limit", "1", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["count"], len(told["items"])) == ("frames", 4, 1)
    lidar = told["items"][0]["clouds"]["LiDAR"]
    assert f"{lidar['points']:,} points" in words
    assert 0.8 < lidar["inside"] <= 1


def test_a_picture_is_a_page_that_needs_no_other_file(capsys, tmp_path):
    pytest.importorskip("plotly", reason="Plotly is not installed")
    main(["frames", str(SAMPLES), "--limit", "1", "--picture", str(tmp_path / "street.html")])
    page = (tmp_path / "street.html").read_text(encoding="utf-8")
    assert "street-000000" in page
    assert '<script src="http' not in page
    assert f"picture: {tmp_path / 'street.html'}" in capsys.readouterr().out


def test_an_exported_set_is_recognised(capsys, tmp_path):
    pytest.importorskip("open3d", reason="Open3D is not installed")
    main(["export", "nuscenes", str(tmp_path / "set"), "--count", "1"])
    assert "1 streets as nuscenes" in capsys.readouterr().out
    main(["frames", str(tmp_path / "set")])
    assert "nuScenes v1.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("frames", "{}"), "cannot tell what this is; expected a nuScenes root"),
        (("frames", "{}/nowhere"), "no such file or folder"),
        (("frames", str(SAMPLES), "--limit", "0"), "expected a limit of at least 1"),
        (("export", "nuscenes", "{}", "--count", "0"), "expected --count of at least 1"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, sentence, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main([argument.format(tmp_path) for argument in arguments])
    assert stop.value.code == 2
    told = capsys.readouterr().err.strip()
    assert sentence in told
    assert "\n" not in told


def test_a_folder_of_other_things_is_not_exported_to(capsys, tmp_path):
    pytest.importorskip("open3d", reason="Open3D is not installed")
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(SystemExit) as stop:
        main(["export", "semantickitti", str(tmp_path), "--count", "1"])
    assert stop.value.code == 2
    assert "expected a new or empty folder" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize("lift", [0.25, 0.0])
def test_training_on_somebodys_frames_says_first_when_they_are_misaligned(lift, capsys, tmp_path):
    pytest.importorskip("open3d", reason="Open3D is not installed")
    for frame in sample_frames():
        lifted = replace(frame, pseudo=frame.pseudo + np.float32([0, 0, lift, 0]))
        write_frame(tmp_path / "frames" / f"{frame.name}.npz", lifted)
    main(["train", "--profile", "tiny", "--steps", "2", "--data", str(tmp_path / "frames"), "--runs", str(tmp_path / "runs")])
    told = capsys.readouterr()
    assert "first loss" in told.out
    warnings = [line for line in told.err.splitlines() if line.startswith("occlab: warning")]
    assert len(warnings) == (1 if lift else 0)
    assert all("m too high: subtract it from z" in line for line in warnings)

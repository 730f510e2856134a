"""What ``occlab doctor`` prints, and its exit codes."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from occlab.diagnosis.command import doctor
from occlab.diagnosis.finding import CAUSES
from occlab.errors import OcclabError

KEYS = {"id", "verdict", "title", "evidence", "why", "fix", "next_experiment"}


def write(path, losses, **more):
    """An mmengine scalars.json; ``more``: curves by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"lr": 1e-3, "loss": float(v), "epoch": 1, "iter": 10 * (i + 1), "step": 10 * (i + 1)}
        | {name: float(curve[i]) for name, curve in more.items()}
        for i, v in enumerate(losses)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stalled(seed=0, n=200):
    rng = np.random.default_rng(seed)
    return (1.193 + 0.16 * np.exp(-np.arange(n) / 6)) * (1 + 0.002 * rng.standard_normal(n))


def learns(seed=0, n=200):
    rng = np.random.default_rng(seed)
    return (0.3 + 0.9 * np.exp(-np.arange(n) / 40)) * (1 + 0.03 * rng.standard_normal(n))


def printed(capsys, path, **options):
    code = doctor(path, json=True, **options)
    return code, json.loads(capsys.readouterr().out)


def test_json_has_exactly_the_promised_keys(tmp_path, capsys):
    code, found = printed(capsys, write(tmp_path / "scalars.json", stalled()))
    assert code == 0
    assert set(found) == {"cause", "findings"}
    assert found["cause"] is None
    assert all(set(finding) == KEYS for finding in found["findings"])
    assert sorted(finding["id"] for finding in found["findings"]) == sorted(CAUSES)
    plateau = next(finding for finding in found["findings"] if finding["id"] == "plateau-at-floor")
    assert plateau["verdict"] == "note"
    assert any("ln 2 + 0.5 x 1" in r["reading"] and "Dice weight 0.5" in r["assumes"] for r in plateau["evidence"]["readings"])


def test_a_stated_loss_at_its_floor_exits_with_1(tmp_path, capsys):
    path = write(tmp_path / "scalars.json", stalled())
    code, found = printed(capsys, path, loss="bce+dice", dice_weight=0.5, positive_rate=0.0045)
    assert code == 1
    assert found["cause"] == "plateau-at-floor"
    first = found["findings"][0]
    assert first["verdict"] == "fail"
    assert first["fix"]
    assert first["next_experiment"]
    assert first["evidence"]["floor"] == pytest.approx(math.log(2) + 0.5, abs=0.006)


def test_a_healthy_log_exits_with_0(tmp_path, capsys):
    code, found = printed(
        capsys, write(tmp_path / "scalars.json", learns()), loss="bce+dice", dice_weight=0.5, positive_rate=0.01
    )
    assert code == 0
    assert found["cause"] is None


def test_a_warning_alone_exits_with_0(tmp_path, capsys):
    losses = learns()
    losses[[60, 90, 120, 150]] *= 8
    code, found = printed(capsys, write(tmp_path / "scalars.json", losses))
    assert code == 0
    assert found["cause"] == "spikes"


def test_losses_that_are_no_numbers_stay_valid_json(tmp_path, capsys):
    losses = learns()
    losses[100:] = math.nan
    code, found = printed(capsys, write(tmp_path / "scalars.json", losses))
    assert code == 1
    assert found["cause"] == "non-finite"


def test_text_names_the_file_and_the_plateau_and_holds_no_control_characters(tmp_path, capsys):
    bad = "loss_\x1b[2J\x07x"
    path = write(tmp_path / "scalars.json", stalled(), **{bad: stalled() * 0.99, "loss_b": stalled() * 0.01})
    assert doctor(path) == 0
    text = capsys.readouterr().out
    assert "scalars.json" in text
    assert "plateau-at-floor" in text
    assert all(c.isprintable() or c == "\n" for c in text)


def test_sarif(tmp_path, capsys):
    path, out = write(tmp_path / "scalars.json", stalled()), tmp_path / "new" / "doctor.sarif"
    assert doctor(path, loss="bce+dice", dice_weight=0.5, sarif=out) == 1
    capsys.readouterr()
    results = json.loads(out.read_text())["runs"][0]["results"]
    assert any(result["ruleId"] == "plateau-at-floor" and result["level"] == "error" for result in results)


def test_two_runs_of_which_one_setting_did_nothing(tmp_path, capsys):
    losses = learns()
    for stamp, decay in (("20240101_000000", 0.01), ("20240102_000000", 0.1)):
        work = tmp_path / f"decay-{decay}" / stamp / "vis_data"
        write(work / "scalars.json", losses)
        config = (
            f"optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.001, weight_decay={decay}), clip_grad=dict(max_norm=35))\n"
        )
        (work / "config.py").write_text(config)
    code, found = printed(capsys, tmp_path)
    assert code == 0
    assert found["cause"] == "silent-option"
    assert "weight_decay" in found["findings"][0]["title"]


def test_seeds_of_one_configuration_are_counted(tmp_path, capsys):
    for seed in range(3):
        work = tmp_path / f"seed-{seed}" / f"2024010{seed + 1}_000000" / "vis_data"
        write(work / "scalars.json", learns(seed))
        (work / "config.py").write_text(
            f"optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.001))\nrandomness = dict(seed={seed})\n"
        )
    _, found = printed(capsys, tmp_path)
    seeds = next(finding for finding in found["findings"] if finding["id"] == "too-few-seeds")
    assert seeds["verdict"] == "note"
    assert seeds["evidence"]["least_p"] == 0.25
    assert found["cause"] is None


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "notes.log").write_bytes(bytes(range(256)) * 20)
    for path in (tmp_path / "absent.json", tmp_path / "notes.log", tmp_path):
        with pytest.raises(OcclabError) as refused:
            doctor(path)
        assert "\n" not in str(refused.value)
    with pytest.raises(OcclabError, match="positive rate"):
        doctor(write(tmp_path / "scalars.json", learns()), positive_rate=45.0)


def test_frames_whose_clouds_lie_apart_are_the_cause(tmp_path, capsys, monkeypatch):
    from occlab.frames.store import read_store, write_frame

    samples = Path(__file__).parents[1] / "data_samples"
    path = write(tmp_path / "scalars.json", learns())
    code, found = printed(capsys, path, data=samples)
    assert (code, found["cause"]) == (0, None)
    (tmp_path / "lifted").mkdir()
    for frame in read_store(samples, limit=2):
        lifted = replace(frame, pseudo=frame.pseudo + np.float32([0, 0, 0.5, 0]))
        write_frame(tmp_path / "lifted" / f"{frame.name}.npz", lifted)
    code, found = printed(capsys, path, data=tmp_path / "lifted")
    assert (code, found["cause"]) == (1, "misaligned-target")
    assert found["findings"][0]["evidence"]["z_offset"] == pytest.approx(0.5, abs=0.1)


def test_the_command_is_there_and_its_exit_codes_are_the_process_s(tmp_path):
    stuck = write(tmp_path / "scalars.json", stalled())
    (tmp_path / "empty.json").write_bytes(b"")
    stated = ("--positive-rate", "0.0045", "--loss", "bce+dice", "--dice-weight", "0.5")
    for arguments, code in (((stuck,), 0), ((stuck, *stated), 1), ((tmp_path / "empty.json",), 2), ((tmp_path / "no",), 2)):
        done = subprocess.run([sys.executable, "-m", "occlab", "doctor", *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert ("Traceback" in done.stderr) is False
        assert bool(done.stdout) == (code < 2)
        assert len(done.stderr.strip().splitlines()) == (code == 2)

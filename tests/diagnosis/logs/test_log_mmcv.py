"""mmcv 1.x logs: lines that people posted, and what the reader must make of them."""

import json
import math

import pytest

from occlab.diagnosis.logs import read_log
from occlab.errors import OcclabError

DAOCC = (
    "2025-08-12 11:56:37,566 - mmdet3d - INFO - Epoch [1][27/30895]\tlr: 7.360e-05, eta: 4 days, 13:16:00, time: 1.940, "
    "data_time: 0.090, memory: 12811, loss/object/heatmap/task0: 1.6504, loss/occ/loss_occ: 2.5735, loss: 119.6038, "
    "grad_norm: 775.8964"
)  # ZYang2077/DAOcc, issue 25
BEV_PERCEPTION = (
    "2022-12-05 16:28:38,593 - mmdet - INFO - Epoch [12][700/3953]\tlr: 3.604e-06, eta: 3:08:55, time: 3.157, "
    "data_time: 0.852, memory: 19582, loss_cls: 0.2271, d0.loss_cls: 0.2535, loss: 4.3531, grad_norm: nan"
)  # OpenDriveLab/Birds-eye-view-Perception, issue 13
SPACES = (
    "2022-06-03 06:33:38,427 - mmdet - INFO - Epoch [1][50/7517]     lr: 1.000e-02, eta: 2:00:00, time: 0.240, "
    "data_time: 0.051, memory: 2404, loss_rpn_cls: 0.1461, loss: 0.6188"
)
SPARSEOCC = (
    "[2024-01-01 10:00:00,123][INFO] - Epoch [1/24][50/3516] loss: 61.27, eta: 1:00:00, time: 1.10s, data: 12ms, mem: 14000M"
)

CONFIG = """model = dict(
    type='BEVDetOCC',
    loss_occ=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    aux=[dict(type='LovaszLoss'), dict(type='CrossEntropyLoss')])
data = dict(samples_per_gpu=4, workers_per_gpu=4)
optimizer = dict(type='AdamW', lr=0.0001, weight_decay=0.01)
optimizer_config = dict(grad_clip=dict(max_norm=5, norm_type=2))
runner = dict(type='EpochBasedRunner', max_epochs=24)
"""


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def row(epoch, iteration, mode="train", **values):
    return json.dumps({"mode": mode, "epoch": epoch, "iter": iteration, **values})


def text(epoch, iteration, of=100, rate=1e-3, **values):
    said = ", ".join(f"{name}: {value:.4f}" for name, value in values.items())
    return f"2024-01-01 10:00:00,123 - mmdet - INFO - Epoch [{epoch}][{iteration}/{of}]\tlr: {rate:.3e}, eta: 1:00:00, {said}"


def test_a_line_of_the_text_log(tmp_path):
    log = read_log(write(tmp_path / "a.log", [DAOCC]))
    assert (log.format, log.rows, log.validation_rows, log.restarts) == ("mmcv text", 1, 0, ())
    said = {name: (int(curve.step[0]), float(curve.value[0])) for name, curve in log.training.items()}
    assert said == {
        "learning_rate": (27, 7.36e-5),
        "time": (27, 1.94),
        "data_time": (27, 0.09),
        "memory": (27, 12811),
        "loss/object/heatmap/task0": (27, 1.6504),
        "loss/occ/loss_occ": (27, 2.5735),
        "loss": (27, 119.6038),
        "gradient_norm": (27, 775.8964),
    }


def test_the_days_of_the_eta_are_no_value(tmp_path):
    assert "eta" not in read_log(write(tmp_path / "a.log", [DAOCC])).training


def test_a_norm_that_is_not_a_number_is_kept_as_such(tmp_path):
    log = read_log(write(tmp_path / "a.log", [BEV_PERCEPTION]))
    assert log.training["loss"].step[0] == 11 * 3953 + 700
    assert math.isnan(log.training["gradient_norm"].value[0])
    assert log.training["d0.loss_cls"].value[0] == 0.2535


def test_spaces_for_the_tab(tmp_path):
    log = read_log(write(tmp_path / "copied.txt", [SPACES]))
    assert log.training["learning_rate"].value[0] == 0.01
    assert log.training["loss"].value[0] == 0.6188


def test_sparseoccs_lines(tmp_path):
    log = read_log(write(tmp_path / "train.log", [SPARSEOCC, SPARSEOCC.replace("[50/", "[100/")]))
    assert set(log.training) == {"loss"}  # times and memory carry units
    assert log.training["loss"].step.tolist() == [50, 100]
    assert log.settings.total_steps == 24 * 3516
    assert log.window == 50


def test_colours_and_missing_headers_do_no_harm(tmp_path):
    line = "Epoch [2][50/100]\t\x1b[32mlr: 1.000e-04\x1b[0m, loss: \x1b[1m0.5\x1b[0m"
    log = read_log(write(tmp_path / "a.log", [line]))
    assert log.training["loss"].step.tolist() == [150]
    assert log.training["learning_rate"].value.tolist() == [1e-4]


def test_text_by_iteration(tmp_path):
    lines = [f"2024-01-01 10:00:00,123 - mmseg - INFO - Iter [{i}/80000]\tlr: 1e-2, loss: 1.5" for i in (50, 100)]
    lines.append("2024-01-01 10:00:00,123 - mmseg - INFO - Iter(val) [500]\tmIoU: 0.3, mAcc: 0.4")
    log = read_log(write(tmp_path / "a.log", lines))
    assert log.training["loss"].step.tolist() == [50, 100]
    assert log.settings.total_steps == 80000
    assert log.validation["mIoU"].step.tolist() == [100]  # 500 are batches of the validation


def test_a_validation_row_stands_at_the_end_of_its_epoch(tmp_path):
    lines = [text(1, 50, loss=2), text(1, 90, loss=1), "Epoch(val) [1][81]\tmIoU: 0.2100", text(2, 50, loss=1)]
    log = read_log(write(tmp_path / "a.log", lines))
    assert log.validation["mIoU"].step.tolist() == [100]
    assert (log.rows, log.validation_rows) == (3, 1)
    json_lines = [row(1, 50, loss=2.0), row(1, 100, loss=1.0), row(1, 81, "val", lr=1e-4, mIoU=0.21), row(2, 50, loss=1.0)]
    log = read_log(write(tmp_path / "b.log.json", json_lines))
    assert {name: curve.step.tolist() for name, curve in log.validation.items()} == {"mIoU": [100]}


def test_the_configuration_dumped_into_the_text_log(tmp_path):
    dump = ["2024-01-01 10:00:00,123 - mmdet - INFO - Config:", *CONFIG.splitlines(), ""]
    seed = "2024-01-01 10:00:01,123 - mmdet - INFO - Set random seed to 7, deterministic: False"
    log = read_log(write(tmp_path / "a.log", [*dump, seed, text(1, 50, loss=2.0)]))
    settings = log.settings
    assert (settings.optimizer, settings.learning_rate, settings.weight_decay) == ("AdamW", 1e-4, 0.01)
    assert (settings.clip_norm, settings.batch_size, settings.seed) == (5.0, 4, 7)
    assert settings.loss == "CrossEntropyLoss, LovaszLoss"
    assert settings.total_steps == 24 * 100
    assert "samples_per_gpu" in settings.text


def test_the_first_line_of_the_json_holds_the_configuration(tmp_path):
    meta = json.dumps({"env_info": "Linux", "config": CONFIG, "seed": 3, "exp_name": "x.py"})
    log = read_log(write(tmp_path / "a.log.json", [meta, row(1, 20, lr=0.0001, loss=5.7, grad_norm=2.3)]))
    assert (log.format, log.rows) == ("mmcv json", 1)
    assert (log.settings.clip_norm, log.settings.seed, log.settings.optimizer) == (5.0, 3, "AdamW")
    assert log.training["gradient_norm"].value.tolist() == [2.3]


def test_a_configuration_that_is_no_python_is_said_so(tmp_path):
    meta = json.dumps({"env_info": "Linux", "config": "optimizer = dict(type='AdamW',, lr=1)\n<html>"})
    log = read_log(write(tmp_path / "a.log.json", [meta, row(1, 20, loss=5.7)]))
    assert log.settings.optimizer is None
    assert any("could not be parsed" in note for note in log.notes)


def test_iterations_of_the_json_become_steps_by_the_longest_epoch(tmp_path):
    rows = [row(e, i, loss=1.0) for e in (1, 2, 3) for i in (50, 100, 150)]
    log = read_log(write(tmp_path / "a.log.json", rows))
    assert log.training["loss"].step.tolist() == list(range(50, 451, 50))
    assert any("150 iterations" in note for note in log.notes)


def test_iterations_that_count_on_over_epochs_are_steps(tmp_path):
    rows = [row(1, 50, loss=1.0), row(1, 100, loss=1.0), row(2, 150, loss=1.0), row(3, 200, loss=1.0)]
    log = read_log(write(tmp_path / "a.log.json", [*rows[:3], row(2, 9, "val", mIoU=0.5), rows[3]]))
    assert log.training["loss"].step.tolist() == [50, 100, 150, 200]
    assert log.validation["mIoU"].step.tolist() == [150]


def test_the_text_beside_the_json_gives_rates_and_epochs(tmp_path):
    rates = {50: 7.36e-5, 100: 2e-6}
    write(tmp_path / "x.log", [text(e, i, of=117, rate=rates[i], loss=1) for e in (1, 2) for i in (50, 100)])
    rounded = [row(e, i, lr=round(rates[i], 5), loss=1.0) for e in (1, 2) for i in (50, 100)]
    log = read_log(write(tmp_path / "x.log.json", rounded))
    assert log.training["loss"].step.tolist() == [50, 100, 167, 217]
    assert log.training["learning_rate"].value.tolist() == [7.36e-5, 2e-6, 7.36e-5, 2e-6]
    assert any("x.log" in note for note in log.notes)
    (tmp_path / "x.log").unlink()
    log = read_log(tmp_path / "x.log.json")
    assert log.training["learning_rate"].value.tolist() == [7e-5, 0, 7e-5, 0]
    assert any("rounded" in note for note in log.notes)


def test_a_repeated_epoch_is_kept_once_and_marked(tmp_path):
    first = [row(e, i, loss=float(e)) for e in (1, 2, 3) for i in (50, 100)]
    again = [row(e, i, loss=10.0 + e) for e in (3, 4) for i in (50, 100)]
    log = read_log(write(tmp_path / "a.log.json", first + again))
    assert log.training["loss"].step.tolist() == list(range(50, 401, 50))
    assert log.training["loss"].value.tolist() == [1, 1, 2, 2, 13, 13, 14, 14]
    assert (log.restarts, log.rows) == ((4,), 10)
    assert any("2 rows" in note for note in log.notes)


def test_a_restart_drops_the_validation_behind_it(tmp_path):
    rows = [row(1, 50, loss=1.0), row(1, 5, "val", mIoU=0.1), row(2, 50, loss=1.0), row(2, 5, "val", mIoU=0.2)]
    log = read_log(write(tmp_path / "a.log.json", [*rows, row(2, 50, loss=3.0)]))
    assert log.validation["mIoU"].value.tolist() == [0.1]


def test_a_training_that_begins_anew_in_the_same_file_replaces_the_first(tmp_path):
    rows = [row(1, i, loss=1.0) for i in (50, 100, 150)] + [row(1, i, loss=2.0) for i in (50, 100)]
    log = read_log(write(tmp_path / "a.log.json", rows))
    assert log.training["loss"].value.tolist() == [2, 2]
    assert log.restarts == ()
    assert any("starts over" in note for note in log.notes)


def test_several_learning_rates_are_kept_apart(tmp_path):
    log = read_log(write(tmp_path / "a.log.json", [row(1, 1, lr={"encoder": 1e-2, "head": 1e-1}, loss=1.0)]))
    assert log.training["learning_rate"].value.tolist() == [0.01]
    assert log.training["lr_head"].value.tolist() == [0.1]


def test_damaged_lines_are_counted(tmp_path):
    log = read_log(write(tmp_path / "a.log.json", [row(1, 1, loss=1.0), '{"mode": "train", "epo', row(1, 2, loss=1.0)]))
    assert log.rows == 2
    assert "1 lines were not understood." in log.notes


@pytest.mark.parametrize("text", ["loss went down nicely\n", '{"a": 1}\n{"b": 2}\n', "Epoch 1 done\n"])
def test_a_text_without_rows_is_refused_in_one_sentence(tmp_path, text):
    (tmp_path / "a.log").write_text(text)
    with pytest.raises(OcclabError, match=r"a\.log: expected a log of .* training row$"):
        read_log(tmp_path / "a.log")

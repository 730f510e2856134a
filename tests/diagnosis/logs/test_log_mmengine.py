"""mmengine logs, and the occlab runs that have their form."""

import json

import pytest

from occlab.diagnosis.logs import read_log

CONFIG = """optim_wrapper = dict(
    clip_grad=dict(max_norm=35, norm_type=2),
    optimizer=dict(lr=0.0002, type='AdamW', weight_decay=0.01),
    type='OptimWrapper')
train_dataloader = dict(batch_size=2, num_workers=4)
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=1)
randomness = dict(seed=11)
log_processor = dict(by_epoch=True, type='LogProcessor', window_size=50)
"""


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows))
    return path


def epochs(count, length=16, every=10):
    """Rows of runs that are evaluated after each epoch."""
    for epoch in range(1, count + 1):
        for i in range(every, length + 1, every):
            yield {"lr": 0.005, "loss": 2.0 / epoch, "epoch": epoch, "memory": 5, "step": (epoch - 1) * length + i}
        yield {"mIoU": epoch / 10, "data_time": 0.1, "time": 0.7, "step": epoch}


def test_the_text_of_mmengines_documentation(tmp_path):
    lines = [
        "08/21 02:58:41 - mmengine - INFO - Epoch(train) [1][10/25]  lr: 1.0000e-02  eta: 0:00:00  time: 0.0019  "
        "data_time: 0.0004  loss1: 0.8381  loss2: 0.9007  loss: 1.7388",
        "2022/08/21 02:58:42 - mmengine - INFO - Epoch(train)  [2][ 10/25]  lr: 3.3333e-04  eta: 0:13:14  loss: 6.1887",
        "2022/08/21 02:58:42 - mmengine - INFO - Epoch(val) [2][ 50/1000]    eta: 0:00:01  time: 0.0450  data_time: 0.0020",
        "2022/08/21 02:58:43 - mmengine - INFO - Epoch(val) [2][1000/1000]    mIoU: 0.2100  data_time: 0.0020  time: 0.0450",
    ]
    log = read_log(write(tmp_path / "a.log", lines))
    assert log.format == "mmengine text"
    assert log.training["loss"].step.tolist() == [10, 35]
    assert log.training["loss"].value.tolist() == [1.7388, 6.1887]
    assert log.training["loss2"].value.tolist() == [0.9007]
    assert {name: curve.step.tolist() for name, curve in log.validation.items()} == {"mIoU": [50]}
    assert log.validation_rows == 1  # the progress of the evaluation is no row


def test_text_by_iteration(tmp_path):
    lines = [
        f"2022/08/21 02:58:41 - mmengine - INFO - Iter(train) [{i:5d}/80000]  base_lr: 2.0e-04 lr: 1.0e-04  loss: 1.5"
        for i in (50, 100)
    ]
    log = read_log(write(tmp_path / "a.log", lines))
    assert log.training["loss"].step.tolist() == [50, 100]
    assert log.training["learning_rate"].value.tolist() == [1e-4, 1e-4]
    assert log.settings.total_steps == 80000


def test_a_validation_step_that_is_an_epoch_becomes_its_end(tmp_path):
    log = read_log(write(tmp_path / "scalars.json", epochs(5)))
    assert log.format == "mmengine scalars"
    assert log.training["loss"].step.tolist() == [10, 26, 42, 58, 74]
    assert log.validation["mIoU"].step.tolist() == [16, 32, 48, 64, 80]
    assert set(log.validation) == {"mIoU"}
    assert (log.rows, log.validation_rows, log.restarts, log.window) == (5, 5, (), None)


def test_one_epoch_does_not_tell_its_length(tmp_path):
    log = read_log(write(tmp_path / "scalars.json", epochs(1)))
    assert log.validation["mIoU"].step.tolist() == [10]


def test_a_validation_step_that_is_an_iteration_stays(tmp_path):
    rows = [{"lr": 0.1, "loss": 1.0, "iter": i, "step": i} for i in (50, 100, 150)]
    log = read_log(write(tmp_path / "scalars.json", [*rows[:2], {"mIoU": 0.3, "step": 100}, rows[2]]))
    assert log.validation["mIoU"].step.tolist() == [100]
    rows = [{"lr": 0.1, "loss": 1.0, "epoch": 1 + i // 120, "step": i} for i in (50, 100, 150, 200)]
    log = read_log(write(tmp_path / "scalars.json", [*rows, {"mIoU": 0.3, "step": 180}]))
    assert log.validation["mIoU"].step.tolist() == [180]


def test_training_by_iterations_evaluated_at_epoch_0_is_placed_where_it_stands(tmp_path):
    rows = [{"lr": 0.1, "loss": 1.0, "iter": i, "step": i} for i in (50, 100, 150)]
    log = read_log(write(tmp_path / "scalars.json", [*rows[:2], {"mIoU": 0.3, "step": 0}, rows[2], {"mIoU": 0.4, "step": 0}]))
    assert log.validation["mIoU"].step.tolist() == [100, 150]


def test_hierarchical_names(tmp_path):
    rows = [{"train/lr": 0.1, "train/loss": 1.0, "train/grad_norm": 3.0, "epoch": 1, "step": 10}, {"val/mIoU": 0.3, "step": 1}]
    log = read_log(write(tmp_path / "scalars.json", rows))
    assert set(log.training) == {"loss", "learning_rate", "gradient_norm"}
    assert set(log.validation) == {"val/mIoU"}


@pytest.mark.parametrize("at", ["vis_data/config.py", "../model.py"])
def test_the_configuration_in_the_work_dir(tmp_path, at):
    stamp = tmp_path / "work" / "20240101_100000"
    path = write(stamp / "vis_data" / "scalars.json", epochs(3))
    (stamp / at).write_text(CONFIG)
    log = read_log(path)
    settings = log.settings
    assert (settings.optimizer, settings.learning_rate, settings.clip_norm) == ("AdamW", 2e-4, 35)
    assert (settings.batch_size, settings.seed, settings.total_steps) == (2, 11, 20 * 16)
    assert log.window == 50


def test_a_resumed_run_is_read_as_one(tmp_path):
    rows = list(epochs(6))
    write(tmp_path / "20240101_100000/vis_data/scalars.json", rows[:8])
    write(tmp_path / "20240102_100000/vis_data/scalars.json", rows[6:])
    log = read_log(tmp_path)
    assert log.training["loss"].step.tolist() == [10, 26, 42, 58, 74, 90]
    assert log.validation["mIoU"].step.tolist() == [16, 32, 48, 64, 80, 96]
    assert log.restarts == (3,)
    assert log.path.parts[-3] == "20240102_100000"


def test_a_run_that_begins_anew_is_read_alone(tmp_path):
    write(tmp_path / "20240101_100000/vis_data/scalars.json", epochs(6))
    write(tmp_path / "20240102_100000/vis_data/scalars.json", epochs(2))
    log = read_log(tmp_path)
    assert log.training["loss"].step.tolist() == [10, 26]
    assert any("1 earlier" in note for note in log.notes)


def test_an_occlab_run(tmp_path):
    rows = [
        {"lr": 1e-4, "loss": 1.35 - i / 100, "loss_bce": 0.8, "grad_norm": 0.1, "clip_coefficient": 1.0, "iter": i, "step": i}
        for i in range(1, 4)
    ]
    write(tmp_path / "scalars.json", rows)
    loss = {"bce": 1.0, "dice": 0.5, "focal": 0.0}
    config = {
        "optimizer": "sgd",
        "learning_rate": 1e-4,
        "clip_norm": 0.1,
        "batch_size": 4,
        "steps": 600,
        "seed": 2,
        "loss": loss,
    }
    (tmp_path / "config.json").write_text(json.dumps({"config": config, "frames": []}, indent=1))
    log = read_log(tmp_path)
    assert (log.format, log.rows, log.window) == ("occlab run", 3, 1)
    assert set(log.training) == {"loss", "loss_bce", "learning_rate", "gradient_norm", "clip_coefficient"}
    settings = log.settings
    assert (settings.optimizer, settings.clip_norm, settings.loss) == ("SGD", 0.1, "BCE + 0.5 Dice")
    assert (settings.total_steps, settings.seed, settings.batch_size) == (600, 2, 4)

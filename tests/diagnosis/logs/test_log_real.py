"""Logs of other people's runs."""

import numpy as np
import pytest

from occlab.diagnosis.logs import find_logs, read_log


@pytest.fixture(scope="module")
def logs(real_data):
    folder = real_data / "logs"
    if not folder.is_dir():
        pytest.skip(f"needs real logs: {folder} is not there")
    return folder


def test_one_run_as_json_and_as_events_gives_the_same_curves(logs):
    json = read_log(next((logs / "mmrotate_run").glob("*.log.json")))
    events = read_log(next((logs / "mmrotate_run").glob("*tfevents*")))
    assert (json.rows, json.validation_rows) == (events.rows, events.validation_rows) == (180, 5)
    assert json.window == events.window == 10
    for name in ("loss", "gradient_norm"):
        assert json.training[name].step.tolist() == events.training[name].step.tolist() == list(range(10, 1801, 10))
        np.testing.assert_allclose(json.training[name].value, events.training[name].value, rtol=1e-6, atol=5.1e-6)
    # mmcv's TensorBoard hook writes a validation one step behind the last one of the epoch.
    assert (
        json.validation["mAP"].step.tolist()
        == [step - 1 for step in events.validation["val/mAP"].step]
        == [360, 720, 1080, 1440, 1800]
    )
    np.testing.assert_allclose(json.validation["mAP"].value, events.validation["val/mAP"].value, atol=5.1e-6)


def test_a_log_without_a_loss(logs):
    log = read_log(next((logs / "mmcv").iterdir()))
    assert (log.rows, log.format, log.window) == (10, "mmcv json", 1)
    assert "loss" not in log.training
    assert log.training["learning_rate"].step.tolist() == list(range(1, 11))


def test_mmengines_validation_stands_at_the_ends_of_epochs(logs):
    log = read_log(next((logs / "mmengine").iterdir()))
    assert (log.rows, log.validation_rows, log.format) == (20, 20, "mmengine scalars")
    assert log.training["loss"].step.tolist() == list(range(10, 315, 16))
    assert log.validation["bbox_mAP"].step.tolist() == list(range(16, 321, 16))


def test_lightnings_steps_and_settings(logs):
    log = read_log(logs / "lightning")
    assert log.training["loss"].step.tolist() == list(range(49, 17250, 50))
    assert len(log.validation["val_loss"].step) == log.validation_rows == 69
    assert (log.settings.loss, log.window, log.restarts) == ("Dice", 1, ())


def test_every_real_log_is_found(logs):
    assert len(find_logs(logs)) == 4  # of the run with two formats the JSON

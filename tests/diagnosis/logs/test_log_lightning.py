"""Lightning's metrics.csv and hparams.yaml."""

import csv

import pytest

from occlab.diagnosis.logs import read_log
from occlab.diagnosis.logs.names import is_validation, recognise
from occlab.errors import OcclabError

ROWS = """epoch,step,train_loss_epoch,train_loss_step,val_loss
0,49,,0.6931,
0,99,,0.6928,
0,99,,,0.7012
0,99,0.6930,,
1,149,,0.6500,
"""


def write(folder, text, **others):
    (folder / "metrics.csv").write_text(text)
    for name, content in others.items():
        (folder / f"{name}.yaml").write_text(content)
    return folder / "metrics.csv"


def test_steps_before_means_of_epochs(tmp_path):
    log = read_log(write(tmp_path, ROWS))
    assert (log.format, log.rows, log.validation_rows, log.window) == ("Lightning csv", 4, 1, 1)
    assert log.training["loss"].step.tolist() == [49, 99, 149]
    assert log.training["loss"].value.tolist() == [0.6931, 0.6928, 0.65]
    assert log.training["train_loss_epoch"].value.tolist() == [0.693]
    assert {name: (curve.step.tolist(), curve.value.tolist()) for name, curve in log.validation.items()} == {
        "val_loss": ([99], [0.7012])
    }


def test_an_older_header_and_quoted_cells(tmp_path):
    text = 'step,"lr-AdamW/pg1","train/loss","val/loss",epoch\n"9","0.001",,,"0"\n9,,"1.25",,0\n19,,inf,,0\n19,,,nan,0\n'
    log = read_log(write(tmp_path, text))
    assert log.training["loss"].value.tolist() == [1.25, float("inf")]
    assert log.training["learning_rate"].step.tolist() == [9]
    assert log.validation["val/loss"].step.tolist() == [19]


def test_a_log_is_read_without_a_change_to_the_readers_of_the_whole_process(tmp_path):
    before = csv.field_size_limit()
    read_log(write(tmp_path, 'epoch,step,train_loss\n0,1,1.0\n"0",2,0.5\n'))
    assert csv.field_size_limit() == before


def test_the_last_of_several_values_of_a_step_counts(tmp_path):
    log = read_log(write(tmp_path, "epoch,step,train_loss\n0,5,1.0\n0,5,2.0\n0,6,3.0\n"))
    assert log.training["loss"].value.tolist() == [2, 3]
    assert log.restarts == ()


def test_means_of_epochs_alone_are_windows_of_an_epoch(tmp_path):
    log = read_log(write(tmp_path, "epoch,step,train_loss_epoch\n0,246,0.9\n1,493,0.8\n2,740,0.7\n"))
    assert log.training["loss"].step.tolist() == [246, 493, 740]
    assert log.window == 247


def test_a_plain_column_does_not_say_what_it_is_a_mean_over(tmp_path):
    assert read_log(write(tmp_path, "epoch,step,train/loss\n0,4,0.9\n0,9,0.8\n")).window is None


def test_settings_from_the_yaml_files(tmp_path):
    hparams = "batch_size: 8\nlr: 0.0005\nloss_function: Dice\nseed: 1\n"
    config = "trainer:\n  gradient_clip_val: 0.5\n  max_steps: -1\n"
    config += "optimizer:\n  class_path: torch.optim.AdamW\n  init_args:\n    lr: 1.0\n    weight_decay: 0.02\n"
    settings = read_log(write(tmp_path, ROWS, hparams=hparams, config=config)).settings
    assert (settings.optimizer, settings.learning_rate, settings.weight_decay) == ("AdamW", 5e-4, 0.02)
    assert (settings.clip_norm, settings.batch_size, settings.seed, settings.loss) == (0.5, 8, 1, "Dice")
    assert settings.total_steps is None  # -1 is Lightning's "no limit"


def test_python_tags_construct_nothing(tmp_path):
    victim = tmp_path / "made"
    tags = f"lr: 0.01\nmodel: !!python/object/apply:os.mkdir ['{victim}']\nloss: !!python/name:builtins.exit ''\n"
    settings = read_log(write(tmp_path, ROWS, hparams=tags)).settings
    assert not victim.exists()
    assert (settings.learning_rate, settings.loss) == (0.01, None)


def test_anchors_that_multiply_take_no_time(tmp_path):
    lines = ["a0: &a0 {lr: 0.1}"] + [f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(9))}}}" for i in range(1, 12)]
    assert read_log(write(tmp_path, ROWS, hparams="\n".join(lines))).settings.learning_rate == 0.1


@pytest.mark.parametrize(
    "text", ["[" * 3000, "a: !!int ''", "a: !!bool x", "? [a]\n: b", "a: 2001-13-45", "\x00", "- 1", "a: &a [*a]"]
)
def test_yaml_that_cannot_be_read_costs_only_the_settings(tmp_path, text):
    assert read_log(write(tmp_path, ROWS, hparams=text)).rows == 4


def test_no_column_of_training_is_refused(tmp_path):
    with pytest.raises(OcclabError, match=r"metrics\.csv: expected training rows"):
        read_log(write(tmp_path, "epoch,step,val_loss\n0,1,0.5\n"))


def test_lines_that_do_not_fit_the_header_are_counted(tmp_path):
    log = read_log(write(tmp_path, ROWS + "x\n1,abc,,1\n1,159,,oops,\n1,169,,0.6,,,,,\n"))
    assert log.training["loss"].step.tolist() == [49, 99, 149, 169]
    assert "2 lines were not understood." in log.notes


@pytest.mark.parametrize(
    "name",
    ["loss", "train/loss", "train_loss_step", "trainLoss", "Loss/train", "Loss_train/Loss", "training_loss", "total_loss"],
)
def test_names_of_the_loss(name):
    assert recognise({name: 3, "loss_cls": 9, "lr": 3})[0]["loss"] == name


@pytest.mark.parametrize("name", ["lr", "learning_rate", "train/lr", "lr-AdamW", "lr-AdamW/pg1", "base_lr", "lr/group_0"])
def test_names_of_the_learning_rate(name):
    assert recognise({name: 3})[0]["learning_rate"] == name


@pytest.mark.parametrize(
    "name", ["grad_norm", "train/grad_norm", "grad_2.0_norm_total", "gradient_norm", "train_grad_norm_step"]
)
def test_names_of_the_gradient_norm(name):
    assert recognise({name: 3})[0]["gradient_norm"] == name


def test_of_two_names_for_one_thing_the_longer_curve_is_read_and_the_other_named():
    found, notes = recognise({"loss": 3, "train/loss": 30})
    assert found == {"loss": "train/loss"}
    assert "loss" in notes[0]


def test_terms_without_a_total_are_not_called_the_loss():
    found, notes = recognise({"loss_cls": 3, "loss_bbox": 3})
    assert "loss" not in found
    assert "loss_bbox, loss_cls" in notes[0]
    assert recognise({"loss_occ": 3, "acc": 3})[0] == {"loss": "loss_occ"}


def test_names_of_validation():
    assert all(
        is_validation(name) for name in ("val_loss", "val/mIoU", "Loss/test", "validation_loss", "valid-acc", "evalLoss")
    )
    assert not any(is_validation(name) for name in ("train/loss", "value", "loss_interval", "evaluate"))

"""Configurations of mmcv and mmengine, parsed and never run."""

import pytest

from occlab.diagnosis.logs.mm_config import read_mm_config


def test_names_and_sums_of_numbers_are_followed():
    text = "samples = 8\nlr = 2e-4\noptimizer = dict(type='AdamW', lr=lr * samples / 16, weight_decay=-0.5 + 0.51)\n"
    settings = read_mm_config(text).settings
    assert (settings.learning_rate, settings.weight_decay) == pytest.approx((1e-4, 0.01))


def test_what_would_run_code_is_not_known(tmp_path):
    victim = tmp_path / "made"
    text = f"import os\nx = os.mkdir({str(victim)!r})\n"
    text += "optimizer = dict(type=x, lr=eval('1'), weight_decay=0.01, f=[i for i in x])\n"
    settings = read_mm_config(text).settings
    assert not victim.exists()
    assert (settings.optimizer, settings.learning_rate, settings.weight_decay) == (None, None, 0.01)


def test_a_text_that_is_cut_off_says_what_it_said_before():
    text = "optimizer = dict(type='SGD', lr=0.02, momentum=0.9)\nlog_config = dict(interval=50,\n    hooks=[dict(ty"
    config = read_mm_config(text)
    assert (config.settings.optimizer, config.settings.learning_rate) == ("SGD", 0.02)
    assert config.notes == ("Of the configuration, log_config could not be parsed.",)


def test_bases_joined_with_their_file_names():
    text = "/home/u/configs/_base_/schedule.py\noptimizer = dict(type='SGD', lr=0.02)\n\n"
    text += "configs/x.py\noptimizer = dict(lr=0.01, type='Adam')\n"
    config = read_mm_config(text)
    assert (config.settings.optimizer, config.settings.learning_rate, config.notes) == ("Adam", 0.01, ())


def test_no_clipping_and_clipping_by_value_have_no_norm():
    for said in (
        "optimizer_config = dict(grad_clip=None)",
        "optim_wrapper = dict(clip_grad=dict(type='value', clip_value=0.2))",
    ):
        assert read_mm_config(said).settings.clip_norm is None


def test_wrong_types_are_not_taken():
    text = "optimizer = dict(type=3, lr='high')\ndata = dict(samples_per_gpu=-1)\nseed = None\n"
    text += "runner = 7\nmodel = [dict(type=Loss)]\n"
    settings = read_mm_config(text).settings
    assert {name: value for name, value in vars(settings).items() if name != "text" and value is not None} == {}

"""What is written is read back as it was, and trains as it does here."""

import ast
import math
import re
from dataclasses import replace

import pytest
import torch
from any_config import configs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from occlab import OcclabError
from occlab.interop import read_mmdet3d, to_mmdet3d, write_mmdet3d
from occlab.settings import PROFILES
from occlab.training import PRESETS, TrainConfig, preset
from occlab.training.optimizer import learning_rate

STYLES = ["mmcv", "mmengine"]


def literal(node):
    """An independent reader: dict(...) calls and literals, by ast.literal_eval."""
    if isinstance(node, ast.Call) and node.func.id == "dict" and not node.args:
        return {word.arg: literal(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(key): literal(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.List):
        return [literal(item) for item in node.elts]
    return ast.literal_eval(node)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(configs(), st.sampled_from(STYLES))
def test_every_configuration_is_read_back_exactly(config, style):
    text = write_mmdet3d(config, style)
    read = read_mmdet3d(text)
    assert read.config == config
    assert read.style == style
    assert read.not_carried == ()
    values = to_mmdet3d(config, style)
    assert {node.targets[0].id: literal(node.value) for node in ast.parse(text).body} == values
    assert read_mmdet3d(values).config == config


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_are_written_and_read_without_a_remark(name, style, tmp_path):
    config = preset(name, PROFILES["full"])
    path = tmp_path / "recipe.py"
    path.write_text(write_mmdet3d(config, style))
    read = read_mmdet3d(path)
    assert (read.config, read.not_carried, read.changes_nothing, read.bases) == (config, (), (), ())
    assert max(map(len, path.read_text().splitlines())) <= 128


def test_only_what_the_format_has_no_word_for_stands_under_occlab():
    changes = {"targets": "hard", "layer_decay": 0.9, "output_prior": 0.1, "learning_rate": 1e-3, "precision": "bf16-mixed"}
    config = TrainConfig(**changes)
    assert to_mmdet3d(TrainConfig(), "mmcv").keys() == to_mmdet3d(TrainConfig(learning_rate=1), "mmcv").keys()
    assert "occlab" not in to_mmdet3d(TrainConfig(), "mmcv")
    assert set(to_mmdet3d(config, "mmcv")["occlab"]) == {"targets", "layer_decay", "output_prior", "precision"}
    assert set(to_mmdet3d(config, "mmengine")["occlab"]) == {"targets", "layer_decay", "output_prior"}
    assert to_mmdet3d(config, "mmengine")["optim_wrapper"]["type"] == "AmpOptimWrapper"


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 180))
def test_an_angle_survives_radians(degrees):
    config = TrainConfig(rotation=degrees)
    written = to_mmdet3d(config, "mmcv")
    if degrees:
        assert math.isclose(written["train_pipeline"][0]["rot_range"][1], math.radians(degrees))
    assert read_mmdet3d(written).config == config


def test_mmdet3d_s_own_angle_counts_where_somebody_changed_it():
    text = write_mmdet3d(TrainConfig(rotation=7.3), "mmcv")
    edited = re.sub(r"rot_range=\[[^]]*\]", "rot_range=[-0.5, 0.5]", text) + "occlab = dict(rotation=7.3)\n"
    read = read_mmdet3d(edited)
    assert math.isclose(read.config.rotation, math.degrees(0.5))
    assert "occlab.rotation" in read.changes_nothing[-1]
    assert "rot_range" in read.changes_nothing[-1]


def mmcv_rate(values, step):
    """mmcv 1.x's LrUpdaterHook with by_epoch=False, from its formulas."""
    config, steps, base = values["lr_config"], values["runner"]["max_iters"], values["optimizer"]["lr"]
    assert config["by_epoch"] is False
    rate = base
    if "CosineAnnealing" in config["policy"]:
        start = round(steps * config.get("start_percent", 0.0))
        share = max(0, step - start) / (steps - start)
        end = base * config["min_lr_ratio"]
        rate = end + (base - end) * (1 + math.cos(math.pi * share)) / 2
    if step < config.get("warmup_iters", 0):
        rate *= 1 - (1 - step / config["warmup_iters"]) * (1 - config["warmup_ratio"])
    return rate


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, 60, 599])
def test_mmcv_s_rate_is_ours_but_for_a_step_at_the_end_of_the_cosine(schedule, warmup):
    config = TrainConfig(schedule=schedule, warmup_steps=warmup, learning_rate=1e-3)
    values = to_mmdet3d(config, "mmcv")
    ours = [learning_rate(config, step) / 1e-3 for step in range(config.steps)]
    theirs = [mmcv_rate(values, step) / 1e-3 for step in range(config.steps)]
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < (0.003 if schedule == "cosine" else 1e-12)


@pytest.mark.parametrize(
    ("schedule", "warmup"), [*((name, steps) for name in ("constant", "cosine") for steps in (0, 1, 60)), ("one-cycle", 0)]
)
def test_mmengine_s_rate_is_ours_but_for_a_step_of_the_warmup(schedule, warmup):
    """mmengine's schedulers are PyTorch's, one after the other."""
    config = TrainConfig(schedule=schedule, warmup_steps=warmup, learning_rate=1e-3)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedulers = []
    for values in to_mmdet3d(config, "mmengine")["param_scheduler"]:
        assert values["by_epoch"] is False
        if values["type"] == "LinearLR":
            schedulers.append((0, torch.optim.lr_scheduler.LinearLR(optimizer, values["start_factor"], 1.0, values["end"] - 1)))
        elif values["type"] == "ConstantLR":
            schedulers.append((0, torch.optim.lr_scheduler.ConstantLR(optimizer, values["factor"], values["end"] - 1)))
        elif values["type"] == "OneCycleLR":
            peak = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, values["eta_max"], total_steps=values["total_steps"], cycle_momentum=False
            )
            schedulers.append((0, peak))
        else:
            end = 1e-3 * values["eta_min_ratio"]
            curve = lambda s, v=values, end=end: end + (1e-3 - end) * (1 + math.cos(math.pi * s / v["T_max"])) / 2  # noqa: E731
            schedulers.append((values["begin"], curve))
    worst = 0.0
    for step in range(config.steps):
        rate = optimizer.param_groups[0]["lr"]
        for begin, scheduler in schedulers:
            if not isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler) and step > begin:
                rate = scheduler(step - begin)
        worst = max(worst, abs(rate - learning_rate(config, step)) / 1e-3)
        optimizer.step()
        for _, scheduler in schedulers:
            if isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler) and step < config.steps - 1:
                scheduler.step()
    assert worst < (2 / 3 / 59 * 1.01 if warmup == 60 else 1e-12)


def test_one_cycle_says_that_a_multiplier_is_not_heeded():
    config = TrainConfig(schedule="one-cycle", custom_keys={"refine": {"lr_mult": 10}})
    for style in STYLES:
        assert "lr_mult changes nothing" in write_mmdet3d(config, style).splitlines()[1]
        read = read_mmdet3d(write_mmdet3d(config, style))
        assert read.config == config
        assert any("lr_mult of custom_keys changes nothing there" in sentence for sentence in read.changes_nothing)
        plain = write_mmdet3d(replace(config, custom_keys={}), style)
        assert "changes nothing" not in plain
        assert read_mmdet3d(plain).changes_nothing == ()


def test_another_style_is_refused():
    with pytest.raises(OcclabError, match="style must be 'mmcv' or 'mmengine', got 'yaml'"):
        write_mmdet3d(TrainConfig(), "yaml")

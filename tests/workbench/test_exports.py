"""A configuration as text is the configuration, whoever reads it."""

import json
import subprocess
import sys

import pytest

from occlab.ablation import read_design
from occlab.losses import OccupancyLoss
from occlab.settings import PROFILES
from occlab.training import TrainConfig, preset
from occlab.training.config import to_dict
from occlab.workbench import exports

TINY = PROFILES["tiny"]
CONFIGS = [
    TrainConfig(),
    preset("recommended", PROFILES["small"].for_recipe(), seed=7),
    preset("as-it-stood", TINY, steps=30, snapshot_steps=(0, 3), head="logits", precision="bf16-mixed", rotation=7.3),
    preset("as-it-stood", TINY, optimizer="sgd", momentum=0.5, clip_norm=None, custom_keys={"refine": {"lr_mult": 10.0}}),
    TrainConfig(loss=OccupancyLoss(bce=0, dice=0, focal=1, height_weights=(3.0,) * 32), init="xavier", output_prior=0.1),
]


def test_the_python_runs_and_makes_the_configuration(tmp_path):
    for number, config in enumerate(CONFIGS):
        (tmp_path / f"{number}.py").write_text(exports.as_python(config), encoding="utf-8")
    program = """
import json, runpy, sys
from occlab.training.config import to_dict
print(json.dumps([to_dict(runpy.run_path(path)["config"]) for path in sys.argv[1:]]))
"""
    paths = [str(tmp_path / f"{number}.py") for number in range(len(CONFIGS))]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True, timeout=300)
    assert json.loads(done.stdout) == [to_dict(config) for config in CONFIGS]


def test_the_python_says_only_what_differs_and_what_no_configuration_can():
    text = exports.as_python(TrainConfig(learning_rate=1e-3), {12: 0.01})
    assert "config = TrainConfig(learning_rate=0.001)" in text
    assert "By hand the learning rate became 0.01 after step 12" in text
    assert "VoxelGrid" not in text


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"steps={config.steps}")
def test_the_yaml_is_a_design_of_one_arm_which_is_the_configuration(config, tmp_path):
    path = tmp_path / "design.yaml"
    path.write_text(exports.as_design_file(config), encoding="utf-8")
    design = read_design(path)
    assert [design.config(arm, seed) for arm in design.arms for seed in design.seeds] == [config]


def test_what_a_file_names_breaks_no_line_of_python():
    config = TrainConfig(custom_keys={"\"\n'#": {"lr_mult": 2.0}})
    found: dict = {}
    exec(exports.as_python(config), found)
    assert found["config"] == config

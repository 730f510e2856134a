"""A configuration is plain data: hashed, written, read back, refused where it makes no sense."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from occlab import OcclabError, OccupancyLoss, UNetConfig
from occlab.settings import PROFILES
from occlab.training import PRESETS, TrainConfig, preset, read_config, run, run_hash
from occlab.training.config import from_dict, to_dict

FULL = PROFILES["full"]


def test_as_it_stood_is_what_was_reported():
    config = preset("as-it-stood", FULL)
    assert (config.learning_rate, config.weight_decay, config.clip_norm) == (1e-4, 0.01, 0.1)
    assert (config.loss.bce, config.loss.dice, config.loss.focal) == (1.0, 0.5, 0.0)
    assert config.model.head == "rectified"
    assert config.targets == "soft"
    assert config.grid.shape == (32, 180, 180)


def test_repaired_changes_two_things():
    a, b = to_dict(preset("as-it-stood", FULL)), to_dict(preset("repaired", FULL))
    a["model"]["head"], a["learning_rate"] = "logits", 1e-3
    assert a == b


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_every_preset_fits_every_profile(profile):
    for name in PRESETS:
        config = preset(name, profile)
        assert (config.grid, config.steps, config.model.width) == (profile.grid, profile.steps, profile.width)
        assert preset(name, profile, head="rectified").model.head == "rectified"
    recommended = preset("recommended", profile, targets="soft")
    assert (recommended.model.head, recommended.output_prior, recommended.targets) == ("logits", "measured", "soft")


@given(
    st.floats(1e-6, 1),
    st.integers(1, 1000),
    st.sampled_from(["soft", "hard"]),
    st.none() | st.floats(1e-3, 100),
    st.integers(0, 9),
)
def test_written_and_read_back(rate, steps, targets, clip, seed):
    config = preset(
        "as-it-stood",
        FULL,
        learning_rate=rate,
        steps=steps,
        targets=targets,
        clip_norm=clip,
        seed=seed,
        snapshot_steps=(10, 0),
        custom_keys={"head": {"lr_mult": 10.0}},
        loss=OccupancyLoss(height_weights=tuple(range(32))),
    )
    again = from_dict(json.loads(json.dumps(to_dict(config))), "x.json")
    assert again == config
    assert run_hash(again, []) == run_hash(config, [])


def test_every_field_is_in_the_hash():
    base = preset("as-it-stood", PROFILES["tiny"])
    changed = [
        replace(base, **change)
        for change in (
            {"seed": 1},
            {"learning_rate": 2e-4},
            {"clip_norm": None},
            {"targets": "hard"},
            {"model": replace(base.model, head="logits")},
            {"loss": OccupancyLoss(dice=1)},
            {"steps": 61},
            {"flip": True},
            {"quarter_turns": True},
            {"rotation": 5.0},
            {"optimizer": "sgd"},
            {"optimizer": "sgd", "momentum": 0.5},
            {"adam_epsilon": 1e-6},
            {"schedule": "cosine"},
            {"layer_decay": 0.9},
            {"init": "kaiming"},
            {"zero_last": True},
            {"output_prior": 0.1},
            {"output_prior": "measured"},
            {"output_prior": 0.1, "prior_in": "norm"},
        )
    ]
    assert len({run_hash(config, []) for config in [base, *changed]}) == len(changed) + 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "as JSON"),
        ("[1]", "an object with the fields of TrainConfig"),
        ('{"learning_rat": 1}', "unknown keys learning_rat in TrainConfig"),
        ('{"model": {"heads": 2}}', "unknown keys heads in UNetConfig"),
        ('{"model": 3}', "an object with the fields of UNetConfig"),
        ('{"steps": "many"}', "steps must be a whole number"),
        ('{"targets": "softish"}', "targets"),
        ('{"clip_norm": -1}', "clip_norm"),
        ('{"steps": 1.5}', "steps must be a whole number"),
        ('{"seed": "x"}', "seed must be a whole number"),
        ('{"weight_decay": NaN}', "weight_decay must be a finite number"),
        ('{"custom_keys": []}', "custom_keys must map names"),
        ('{"custom_keys": {"head": {"lr_mult": "a"}}}', "lr_mult and decay_mult"),
        ('{"snapshot_steps": ["a"]}', "snapshot_steps"),
        ('{"model": {"bn_momentum": "x"}}', "bn_momentum"),
        ('{"model": {"channels": [256.5]}}', "whole channel counts"),
        ('{"loss": {"focal_gamma": -1}}', "focal_gamma"),
        ('{"loss": {"dice": "half"}}', "finite numbers"),
        ('{"grid": {"point_cloud_range": [-54, -54, -5, 54, 54, Infinity]}}', "finite numbers"),
        ('{"grid": {"voxel_size": [0.7, 0.6, 0.25]}}', "whole number of cells"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, text, says):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(OcclabError, match=says) as error:
        read_config(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(OcclabError, match=r"nowhere\.json"):
        read_config(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0},
        {"weight_decay": -1},
        {"precision": "fp8"},
        {"custom_keys": {"head": {"lr": 1}}},
        {"custom_keys": {"head": {"lr_mult": True}}},
        {"custom_keys": {3: {"lr_mult": 1}}},
        {"optimizer": "adam"},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"adam_epsilon": 0},
        {"schedule": "one cycle"},
        {"layer_decay": 0},
        {"layer_decay": 1.1},
        {"flip": 1},
        {"quarter_turns": "yes"},
        {"rotation": -1},
        {"rotation": 181},
        {"rotation": float("nan")},
        {"init": "he"},
        {"zero_last": None},
        {"output_prior": 0},
        {"output_prior": 1.0},
        {"output_prior": "mean"},
        {"output_prior": 0.1, "prior_in": "bias"},
    ],
)
def test_impossible_settings_are_refused(change):
    with pytest.raises(OcclabError, match=list(change)[-1]) as error:
        TrainConfig(**change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schedule": "one-cycle", "warmup_steps": 5}, "has a warm-up of its own; warmup_steps must be 0, got 5"),
        ({"prior_in": "norm"}, "but output_prior is None"),
        ({"warmup_steps": 600}, "fewer than the steps of the run, got warmup_steps=600 and steps=600"),
        ({"momentum": 0.5}, "momentum=0.5 changes nothing: it is a setting of the optimizer 'sgd'"),
        ({"optimizer": "sgd", "adam_epsilon": 1e-3}, "adam_epsilon=0.001 changes nothing: .* of the optimizer 'adamw'"),
        ({"prior_in": "norm", "output_prior": 0.1, "model": UNetConfig(head="logits")}, "the head 'logits' has none"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(change, says):
    with pytest.raises(OcclabError, match=says):
        TrainConfig(**change)


def test_a_configuration_written_before_a_setting_existed_is_read_with_its_default():
    written = to_dict(TrainConfig(learning_rate=1e-3))
    for name in ("optimizer", "momentum", "schedule", "layer_decay", "quarter_turns", "rotation", "init", "output_prior"):
        del written[name]
    assert from_dict(written, "x.json") == TrainConfig(learning_rate=1e-3)


def test_the_new_settings_are_written_and_read_back():
    config = TrainConfig(optimizer="sgd", schedule="cosine", layer_decay=0.9, rotation=5, quarter_turns=True)
    config = replace(config, init="xavier", zero_last=True, output_prior="measured", prior_in="norm")
    assert from_dict(json.loads(json.dumps(to_dict(config))), "x.json") == config
    assert type(config.rotation) is float


@pytest.mark.parametrize(
    "written",
    [
        lambda one: {"clip_norm": one},
        lambda one: {"custom_keys": {"head": {"lr_mult": one}}},
        lambda one: {"loss": OccupancyLoss(dice=one, focal=one, focal_gamma=one)},
        lambda one: {"loss": OccupancyLoss(tversky=one, tversky_beta=one, height_weights=(one,) * 32)},
        lambda one: {"model": UNetConfig(width=one, bn_eps=one, bn_momentum=one)},
    ],
)
def test_one_setting_written_two_ways_is_one_run(written):
    a, b = (preset("as-it-stood", FULL, **written(one)) for one in (1, 1.0))
    assert run_hash(a, []) == run_hash(b, [])


def test_prose_is_no_other_code_and_a_number_is():
    code = '"""About."""\nx = 1.0\n"""What x is."""\n\nclass A:\n    """A."""\n\n'
    code += '    def f(self):\n        """F."""\n        return "kept"\n'
    before = run._meaning(code)
    for a, b in (("About", "Of"), ("What x is", "x"), ("A.", "Another."), ("F.", "G."), ("x = 1.0\n", "x = 1.0  # one\n\n")):
        assert a in code
        assert run._meaning(code.replace(a, b)) == before
    for a, b in (("1.0", "1.5"), ("kept", "lost"), ("self", "that")):
        assert run._meaning(code.replace(a, b)) != before
    assert run._meaning('def f():\n    """Only prose."""\n') != run._meaning("")


def test_other_code_is_another_run(monkeypatch):
    config = preset("as-it-stood", FULL)
    before = run_hash(config, [])
    monkeypatch.setattr(run, "_code", lambda: "another text")
    assert run_hash(config, []) != before


def test_the_code_a_result_depends_on_is_all_named():
    """Whatever a training run imports of the package is in the list, or is known to leave the result alone."""
    package = Path(run.__file__).parents[1]
    named = {path for pattern in run.CODE for path in package.glob(pattern)}
    command = (
        "import sys, occlab.training; print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('occlab')), sep='\\n')"
    )
    loaded = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.split()
    rest = {Path(path).relative_to(package).as_posix() for path in loaded if Path(path) not in named}
    frames = {name for name in rest if name.startswith("frames/")}  # what frames hold is in their fingerprints
    diagnosis = {name for name in rest if name.startswith("diagnosis/")}  # its package imports them; no run uses them, below
    assert rest - frames - diagnosis == {
        "__init__.py",
        "errors.py",
        "files.py",
        "ray_metrics.py",
        "settings.py",
        "training/__init__.py",
        "training/checkpoint.py",
        "training/evaluate.py",
        "training/operated.py",
        "training/presets.py",
        "training/range_test.py",
        "visibility.py",
    }
    imports = [re.findall(r"from \.+diagnosis(\S*) import|import .*diagnosis", path.read_text()) for path in named]
    assert {module for found in imports for module in found} == {".floors"}


def test_unknown_names_are_refused():
    with pytest.raises(OcclabError, match="unknown preset"):
        preset("as-it-sat", FULL)
    with pytest.raises(OcclabError, match="unknown settings lr"):
        preset("as-it-stood", FULL, lr=1)

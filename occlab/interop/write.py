"""A training configuration as an mmdetection3d configuration file."""

import keyword
import math
from dataclasses import asdict, fields
from typing import Any

from ..errors import OcclabError
from ..training import TrainConfig
from .mmdet3d import Style
from .model_sections import INITS, LOSS, NETWORK

WIDTH = 100

_SPOKEN = {
    "mmcv": {
        "model", "grid", "loss", "init", "optimizer", "momentum", "adam_epsilon", "learning_rate", "weight_decay",
        "warmup_steps", "schedule", "clip_norm", "custom_keys", "steps", "batch_size", "flip", "rotation", "seed",
    },
}  # fmt: skip
_SPOKEN["mmengine"] = _SPOKEN["mmcv"] | {"precision"}
"""The fields that the format has words for."""


def write_mmdet3d(config: TrainConfig, style: Style) -> str:
    """A configuration as the text of a Python file, which :func:`read_mmdet3d` reads back as it was.

    Data sets, logging and checkpoints are not part of it. What the format has no word for stands under ``occlab = dict(...)``,
    where it differs from TrainConfig's default, and means nothing to mmdetection3d: targets, output prior, ``zero_last``,
    layer-wise decay, quarter turns, snapshots, and bf16 in mmcv 1.x. ``model`` names occlab's own network and loss, to be
    registered where the file is used. Three things differ when mmdetection3d trains with it: mmcv's cosine ends one step
    later, mmengine's linear warm-up one step earlier, and one-cycle gives all parameters one rate, whatever ``custom_keys``
    say.

    >>> print(write_mmdet3d(TrainConfig(), "mmengine").splitlines()[-1])
    randomness = dict(seed=0)
    """
    lines = ["# Written by occlab: the training part of a recipe. Add your data set, and register the network and the loss."]
    values = to_mmdet3d(config, style)
    if "occlab" in values:
        lines.append(f"# Under occlab: settings that {style} has no word for.")
    if config.schedule == "one-cycle" and any(chosen.get("lr_mult", 1) != 1 for chosen in config.custom_keys.values()):
        lines.append("# One-cycle sets one rate for all parameters in this format: lr_mult changes nothing.")
    return "\n".join([*lines, *(f"{name} = {_python(value, 0, len(name) + 3)}" for name, value in values.items())]) + "\n"


def to_mmdet3d(config: TrainConfig, style: Style) -> dict[str, Any]:
    """The same as a dict, for ``mmengine.Config`` or mmcv's.

    Raises:
        OcclabError: another style.
    """
    if style not in _SPOKEN:
        raise OcclabError(f"style must be 'mmcv' or 'mmengine', got {style!r}")
    values: dict[str, Any] = {
        "point_cloud_range": list(config.grid.point_cloud_range),
        "voxel_size": list(config.grid.voxel_size),
        "model": _model(config),
    }
    if pipeline := _pipeline(config):
        values["train_pipeline"] = pipeline
    values |= _mmcv(config) if style == "mmcv" else _mmengine(config)
    if own := _own(config, _SPOKEN[style]):
        values["occlab"] = own
    return values


def _mmcv(config: TrainConfig) -> dict[str, Any]:
    clip = None if config.clip_norm is None else {"max_norm": config.clip_norm, "norm_type": 2}
    return {
        "data": {"samples_per_gpu": config.batch_size},
        "optimizer": _optimizer(config) | _paramwise(config),
        "optimizer_config": {"grad_clip": clip},
        "lr_config": _lr_config(config),
        "runner": {"type": "IterBasedRunner", "max_iters": config.steps},
        "seed": config.seed,
    }


def _mmengine(config: TrainConfig) -> dict[str, Any]:
    clip = None if config.clip_norm is None else {"max_norm": config.clip_norm, "norm_type": 2}
    mixed = config.precision == "bf16-mixed"
    kind = {"type": "AmpOptimWrapper", "dtype": "bfloat16"} if mixed else {"type": "OptimWrapper"}
    return {
        "train_dataloader": {"batch_size": config.batch_size},
        "optim_wrapper": kind | {"optimizer": _optimizer(config), "clip_grad": clip} | _paramwise(config),
        "param_scheduler": _param_scheduler(config),
        "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": config.steps},
        "randomness": {"seed": config.seed},
    }


def _model(config: TrainConfig) -> dict[str, Any]:
    init = {name: {"type": kind, "layer": "Conv2d"} | settings for kind, (name, settings) in INITS.items()}
    network = {"type": NETWORK} | {name: _listed(value) for name, value in asdict(config.model).items()}
    if config.init != "default":
        network["init_cfg"] = init[config.init]
    return network | {"loss_occ": {"type": LOSS} | {name: _listed(value) for name, value in asdict(config.loss).items()}}


def _optimizer(config: TrainConfig) -> dict[str, Any]:
    rate = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return {"type": "SGD"} | rate | {"momentum": config.momentum}
    return {"type": "AdamW"} | rate | {"betas": (0.9, 0.999), "eps": config.adam_epsilon}


def _paramwise(config: TrainConfig) -> dict[str, Any]:
    keys = {key: dict(chosen) for key, chosen in config.custom_keys.items()}
    return {"paramwise_cfg": {"custom_keys": keys}} if keys else {}


def _lr_config(config: TrainConfig) -> dict[str, Any]:
    warmup = {"warmup": "linear", "warmup_iters": config.warmup_steps, "warmup_ratio": 1 / 3} if config.warmup_steps else {}
    if config.schedule == "one-cycle":
        return {"policy": "OneCycle", "max_lr": config.learning_rate, "total_steps": config.steps, "by_epoch": False}
    if config.schedule == "constant":
        return {"policy": "fixed", "by_epoch": False} | warmup
    if not warmup:
        return {"policy": "CosineAnnealing", "by_epoch": False, "min_lr_ratio": 1e-3}
    # mmcv's CosineAnnealing starts with the run; this one starts when the warm-up is over.
    start = {"start_percent": config.warmup_steps / config.steps, "min_lr_ratio": 1e-3}
    return {"policy": "FlatCosineAnnealing", "by_epoch": False} | start | warmup


def _param_scheduler(config: TrainConfig) -> list[dict[str, Any]]:
    warmup, steps = config.warmup_steps, config.steps
    if config.schedule == "one-cycle":
        peak = {"eta_max": config.learning_rate, "total_steps": steps}
        return [{"type": "OneCycleLR"} | peak | {"begin": 0, "end": steps, "by_epoch": False}]
    schedulers = []
    if warmup == 1:  # of a single step, mmengine's LinearLR would never come back to the full rate
        schedulers.append({"type": "ConstantLR", "factor": 1 / 3, "begin": 0, "end": 2, "by_epoch": False})
    elif warmup:
        schedulers.append({"type": "LinearLR", "start_factor": 1 / 3, "begin": 0, "end": warmup, "by_epoch": False})
    if config.schedule == "cosine":
        span = {"T_max": max(1, steps - 1 - warmup), "eta_min_ratio": 1e-3}
        schedulers.append({"type": "CosineAnnealingLR"} | span | {"begin": warmup, "end": steps, "by_epoch": False})
    return schedulers


def _pipeline(config: TrainConfig) -> list[dict[str, Any]]:
    steps = []
    if config.flip:
        halves = {"flip_ratio_bev_horizontal": 0.5, "flip_ratio_bev_vertical": 0.5}
        steps.append({"type": "RandomFlip3D", "sync_2d": False} | halves)
    if config.rotation:
        turn = math.radians(config.rotation)
        still = {"scale_ratio_range": [1.0, 1.0], "translation_std": [0, 0, 0]}
        steps.append({"type": "GlobalRotScaleTrans", "rot_range": [-turn, turn]} | still)
    return steps


def _own(config: TrainConfig, spoken: set[str]) -> dict[str, Any]:
    standing = TrainConfig()
    changed = [f.name for f in fields(config) if getattr(config, f.name) != getattr(standing, f.name)]
    own = {name: _listed(getattr(config, name)) for name in changed if name not in spoken}
    if math.degrees(math.radians(config.rotation)) != config.rotation:  # radians cost the last digit
        own["rotation"] = config.rotation
    return own


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _python(value: Any, indent: int, taken: int) -> str:
    """A value as Python, broken over lines where it is wide.

    Args:
        taken: characters that stand before it in its line.
    """
    line = _inline(value)
    if indent + taken + len(line) <= WIDTH or not isinstance(value, dict | list) or not value:
        return line
    if isinstance(value, list):
        if not any(isinstance(item, dict | list) for item in value):
            return line
        parts, brackets = [("", item) for item in value], ("[", "]")
    elif _keywords(value):
        parts, brackets = [(f"{key}=", item) for key, item in value.items()], ("dict(", ")")
    else:
        parts, brackets = [(f"{key!r}: ", item) for key, item in value.items()], ("{", "}")
    inner = indent + 4
    rows = [f"{' ' * inner}{name}{_python(item, inner, len(name) + 1)}," for name, item in parts]
    return "\n".join([brackets[0], *rows, f"{' ' * indent}{brackets[1]}"])


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        if _keywords(value):
            return f"dict({', '.join(f'{key}={_inline(item)}' for key, item in value.items())})"
        return f"{{{', '.join(f'{key!r}: {_inline(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return repr(value)


def _keywords(value: dict[str, Any]) -> bool:
    """Whether the keys can stand as keywords. Python spells other than ASCII names its own way."""
    return bool(value) and all(key.isascii() and key.isidentifier() and not keyword.iskeyword(key) for key in value)

"""What a TrainConfig may hold. A setting that makes no sense is refused before anything is trained."""

import math
from typing import TYPE_CHECKING, Any

from ..errors import OcclabError

if TYPE_CHECKING:
    from .config import TrainConfig

_WHOLE = {"steps": 1, "batch_size": 1, "warmup_steps": 0, "seed": 0}
"""Lowest value of each whole number."""

_NUMBERS = {
    "learning_rate": ("a finite number above 0", lambda x: x > 0),
    "weight_decay": ("a finite number of at least 0", lambda x: x >= 0),
    "clip_norm": ("a finite number above 0, or None", lambda x: x > 0),
    "momentum": ("a number of at least 0 and below 1", lambda x: 0 <= x < 1),
    "adam_epsilon": ("a finite number above 0", lambda x: x > 0),
    "layer_decay": ("a number above 0 and at most 1", lambda x: 0 < x <= 1),
    "rotation": ("a number of degrees from 0 to 180", lambda x: 0 <= x <= 180),
    "output_prior": ("a probability above 0 and below 1, 'measured' or None", lambda x: 0 < x < 1),
}
"""What each number must be, in words and as a test."""

_INSTEAD = {"clip_norm": (None,), "output_prior": (None, "measured")}
"""What may stand in place of a number."""

_CHOICES = {
    "targets": ("soft", "hard"),
    "init": ("default", "kaiming", "xavier"),
    "prior_in": ("convolution", "norm"),
    "optimizer": ("adamw", "sgd"),
    "schedule": ("constant", "cosine", "one-cycle"),
    "precision": ("32-true", "bf16-mixed"),
}

_SWITCHES = ("flip", "quarter_turns", "zero_last")


def checked(config: "TrainConfig") -> dict[str, Any]:
    """The fields that have several spellings in their one form: numbers as floats, snapshot steps in order.

    Raises:
        OcclabError: a value that is not what its field takes, or two settings that contradict each other.
    """
    for name, low in _WHOLE.items():
        value = getattr(config, name)
        if type(value) is not int or value < low:
            raise OcclabError(f"{name} must be a whole number of at least {low}, got {value!r}")
    plain: dict[str, Any] = {}
    for name, (expected, fits) in _NUMBERS.items():
        value = getattr(config, name)
        if value in _INSTEAD.get(name, ()):
            continue
        if type(value) not in (int, float) or not (math.isfinite(value) and fits(value)):
            raise OcclabError(f"{name} must be {expected}, got {value!r}")
        plain[name] = float(value)
    for name, choices in _CHOICES.items():
        if getattr(config, name) not in choices:
            *most, last = map(repr, choices)
            raise OcclabError(f"{name} must be {', '.join(most)} or {last}, got {getattr(config, name)!r}")
    for name in _SWITCHES:
        if type(getattr(config, name)) is not bool:
            raise OcclabError(f"{name} must be True or False, got {getattr(config, name)!r}")
    if not all(type(step) is int and step >= 0 for step in config.snapshot_steps):
        raise OcclabError(f"snapshot_steps must be whole numbers of at least 0, got {config.snapshot_steps!r}")
    plain["snapshot_steps"] = tuple(sorted(config.snapshot_steps))
    plain["custom_keys"] = _custom_keys(config.custom_keys)
    _check_together(config)
    return plain


def _custom_keys(custom_keys: Any) -> dict[str, dict[str, float]]:
    if not isinstance(custom_keys, dict):
        raise OcclabError(f"custom_keys must map names to lr_mult and decay_mult, got {custom_keys!r}")
    for key, chosen in custom_keys.items():
        if not isinstance(key, str):
            raise OcclabError(f"custom_keys must map parts of parameters' names, got the key {key!r}")
        known = isinstance(chosen, dict) and not set(chosen) - {"lr_mult", "decay_mult"}
        if not (known and all(type(x) in (int, float) and 0 <= x < math.inf for x in chosen.values())):
            raise OcclabError(f"custom_keys[{key!r}] may hold lr_mult and decay_mult, numbers of at least 0, got {chosen!r}")
    return {key: {name: float(x) for name, x in chosen.items()} for key, chosen in custom_keys.items()}


def _check_together(config: "TrainConfig") -> None:
    for name, optimizer in (("momentum", "sgd"), ("adam_epsilon", "adamw")):
        if config.optimizer != optimizer and getattr(config, name) != getattr(type(config), name):
            raise OcclabError(f"{name}={getattr(config, name)} changes nothing: it is a setting of the optimizer {optimizer!r}")
    if config.warmup_steps >= config.steps:
        raise OcclabError(
            f"warmup_steps must be fewer than the steps of the run, got warmup_steps={config.warmup_steps} "
            f"and steps={config.steps}"
        )
    if config.schedule == "one-cycle" and config.warmup_steps:
        raise OcclabError(f"schedule 'one-cycle' has a warm-up of its own; warmup_steps must be 0, got {config.warmup_steps}")
    if config.prior_in == "norm" and config.output_prior is None:
        raise OcclabError("prior_in 'norm' says where an output_prior is set, but output_prior is None")
    if config.prior_in == "norm" and config.model.head == "logits":
        raise OcclabError("prior_in 'norm' needs a BatchNorm behind the last convolution; the head 'logits' has none")
    if config.model.out_channels != config.grid.shape[0]:
        raise OcclabError(f"model.out_channels is {config.model.out_channels}, but the grid has {config.grid.shape[0]} heights")

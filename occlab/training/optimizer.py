"""The optimiser with per-parameter settings by name, and the learning rate's schedule."""

import math

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from ..errors import OcclabError
from .config import TrainConfig


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict]:
    """One group for each distinct (lr_mult, decay_mult), as mmcv's DefaultOptimizerConstructor reads ``custom_keys``:
    a key matches a parameter whose name contains it, and the longest (then alphabetically first) key wins. ``layer_decay``
    multiplies into lr_mult.

    Raises:
        OcclabError: a key that matches no parameter, which would be an option that changes nothing.
    """
    keys = sorted(sorted(config.custom_keys), key=len, reverse=True)
    groups: dict[tuple[float, float], dict] = {}
    used = set()
    for name, parameter in model.named_parameters():
        key = next((key for key in keys if key in name), None)
        used.update(k for k in keys if k in name)
        chosen = config.custom_keys.get(key, {})
        lr_mult, decay_mult = float(chosen.get("lr_mult", 1.0)), float(chosen.get("decay_mult", 1.0))
        if config.layer_decay < 1:
            lr_mult *= config.layer_decay ** stages_before_the_head(model, name)
        if (lr_mult, decay_mult) not in groups:
            decay = config.weight_decay * decay_mult
            groups[lr_mult, decay_mult] = {"params": [], "lr_mult": lr_mult, "weight_decay": decay}
        groups[lr_mult, decay_mult]["params"].append(parameter)
    unused = sorted(set(keys) - used)
    if unused:
        raise OcclabError(f"custom_keys {', '.join(unused)} match no parameter; names begin with {_roots(model)}")
    return list(groups.values())


def stages_before_the_head(model: nn.Module, name: str) -> int:
    """How many stages a parameter lies before the head: 0 for the head's own, 1 for the refinement's, and so on.

    Raises:
        OcclabError: a parameter of no stage of the U-Net.
    """
    encoders = [f"encoders.{i}." for i in range(len(getattr(model, "encoders", ())))]
    decoders = [f"decoders.{i}." for i in range(len(getattr(model, "decoders", ())))]
    backwards = ["head.", "refine.", *decoders, *reversed(encoders), "stem."]  # the last decoder to run is decoders.0
    for distance, stage in enumerate(backwards):
        if name.startswith(stage):
            return distance
    raise OcclabError(
        f"layer_decay knows the stages {', '.join(s.rstrip('.') for s in backwards)}; {name!r} is in none of them"
    )


def _roots(model: nn.Module) -> str:
    return ", ".join(dict.fromkeys(name.partition(".")[0] for name, _ in model.named_parameters()))


def make_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    groups = parameter_groups(model, config)
    if config.optimizer == "sgd":
        return SGD(groups, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)
    return AdamW(groups, lr=config.learning_rate, eps=config.adam_epsilon, weight_decay=config.weight_decay)


def learning_rate(config: TrainConfig, step: int) -> float:
    """The base learning rate of step number ``step``, from 0."""
    peak, last = config.learning_rate, config.steps - 1
    if config.schedule == "one-cycle":
        top = 0.3 * config.steps - 1  # not rounded, as in PyTorch: the peak may lie between two steps
        if step <= top:
            return _cosine(peak / 25, peak, step / top)
        return _cosine(peak, peak / 25e4, (step - top) / (last - top))
    if step < config.warmup_steps:
        return peak * (1 / 3 + 2 / 3 * step / config.warmup_steps)
    if config.schedule == "cosine":
        return _cosine(peak, peak / 1000, (step - config.warmup_steps) / max(1, last - config.warmup_steps))
    return peak


def _cosine(start: float, end: float, share: float) -> float:
    """From ``start`` to ``end`` along half a cosine, as ``share`` goes from 0 to 1."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

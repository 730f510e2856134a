"""AdamW with per-parameter settings by name, and the learning rate's schedule."""

from torch import nn
from torch.optim import AdamW

from ..errors import OcclabError
from .config import TrainConfig


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict]:
    """One group for each distinct (lr_mult, decay_mult), as mmcv's DefaultOptimizerConstructor reads ``custom_keys``:
    a key matches a parameter whose name contains it, and the longest (then alphabetically first) key wins.

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
        if (lr_mult, decay_mult) not in groups:
            decay = config.weight_decay * decay_mult
            groups[lr_mult, decay_mult] = {"params": [], "lr_mult": lr_mult, "weight_decay": decay}
        groups[lr_mult, decay_mult]["params"].append(parameter)
    unused = sorted(set(keys) - used)
    if unused:
        raise OcclabError(f"custom_keys {', '.join(unused)} match no parameter; names begin with {_roots(model)}")
    return list(groups.values())


def _roots(model: nn.Module) -> str:
    return ", ".join(dict.fromkeys(name.partition(".")[0] for name, _ in model.named_parameters()))


def make_optimizer(model: nn.Module, config: TrainConfig) -> AdamW:
    return AdamW(parameter_groups(model, config), lr=config.learning_rate, weight_decay=config.weight_decay)


def learning_rate(config: TrainConfig, step: int) -> float:
    """The base learning rate of step number ``step``, from 0."""
    if step >= config.warmup_steps:
        return config.learning_rate
    return config.learning_rate * (1 / 3 + 2 / 3 * step / config.warmup_steps)

"""``paramwise_cfg.custom_keys`` against the names of a network's parameters."""

from dataclasses import replace

import torch

from ..errors import OcclabError
from ..models import OccupancyUNet, UNetConfig
from ..training import TrainConfig
from .notes import Notes, Said


def check_custom_keys(config: TrainConfig, notes: Notes, own: bool) -> TrainConfig:
    """Report keys and multipliers that change nothing, and leave out keys for parameters that occlab's network does not have.

    Args:
        own: the file is about occlab's network: a key that matches nothing changes nothing there either, and is kept.
    """
    keys, names = config.custom_keys, parameter_names(config.model)
    if not keys or names is None:
        return config
    ranked = sorted(sorted(keys), key=len, reverse=True)  # as mmcv: the longest key wins, then the first by alphabet
    matching = dict.fromkeys(keys, 0)
    wins: dict[str, list[list[str]]] = {key: [] for key in keys}
    for name in names:
        found = [key for key in ranked if key in name]
        for key in found:
            matching[key] += 1
        if found:
            wins[found[0]].append(found[1:])
    kept = dict(keys)
    for key in keys:
        where, gap, line = notes.said["custom_keys"].where.partition(" (line")
        place = f"{where}[{key!r}]{gap}{line}"
        if not matching[key] and own:
            notes.changes_nothing.append(f"{place}: no parameter's name contains it")
        elif not matching[key]:
            notes.not_carried.append(f"{place}: no parameter of occlab's network has this in its name")
            del kept[key]
        elif not wins[key]:
            notes.changes_nothing.append(f"{place}: longer keys override it for every parameter that it matches")
        else:
            _check_multipliers(config, notes, key, place, wins[key])
    if kept != keys:
        config = replace(config, custom_keys=kept)
        notes.said["custom_keys"] = Said(kept, notes.said["custom_keys"].where)
    return config


def _check_multipliers(config: TrainConfig, notes: Notes, key: str, place: str, shadowed: list[list[str]]) -> None:
    chosen = config.custom_keys[key]
    for name, setting in (("lr_mult", "learning rate"), ("decay_mult", "weight decay")):
        if chosen.get(name) == 1 and not any(config.custom_keys[k].get(name, 1) != 1 for keys in shadowed for k in keys):
            notes.changes_nothing.append(f"{place}: {name} 1 leaves the {setting} as it is")
    if chosen.get("decay_mult", 1) != 1 and config.weight_decay == 0:
        notes.changes_nothing.append(f"{place}: decay_mult changes nothing where the weight decay is 0")


def parameter_names(model: UNetConfig) -> list[str] | None:
    """The names of a network's parameters, without any numbers behind them; None where it is too large to be one."""
    if len(model.channels) > 16 or max(*model.channels, model.stem, model.head_channels) * max(1, model.width) > 2**16:
        return None
    try:
        with torch.device("meta"):
            return [name for name, _ in OccupancyUNet(model).named_parameters()]
    except (OcclabError, RuntimeError, OverflowError):
        return None

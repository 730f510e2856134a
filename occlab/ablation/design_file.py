"""A design as a YAML file:

    preset: as-it-stood                     # repaired or recommended; as-it-stood by default
    profile: small                          # full, small or tiny; what suits the machine by default
    base: {steps: 100}                      # changes that all arms share
    seeds: 6                                # how many, or a list of them
    for_each: {head: [rectified, logits]}   # repeats the whole design
    design: one change                      # ladder, leave one out, full factorial, fractional factorial
    factors:
      higher rate: {learning_rate: 1e-3, warmup_steps: 50}
      clip_norm: [0.1, 1, 10]

Instead of design and factors, arms one by one; the first is the one that the others are compared with:

    arms:
      as it stood: {}
      higher rate: {learning_rate: 1e-3}
"""

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from ..errors import OcclabError
from ..models import OccupancyUNet
from ..settings import PROFILES, Profile
from ..settings import profile as profile_
from ..training import PRESETS, TrainConfig
from ..training import preset as preset_
from ..training.augmentation import check_grid
from ..training.optimizer import parameter_groups
from . import designs
from .changes import changed, nearest, setting_names
from .designs import Arm, apply

KINDS: dict[str, Callable[[designs.Factors], list[Arm]]] = {
    "one change": designs.one_change,
    "ladder": designs.ladder,
    "leave one out": designs.leave_one_out,
    "full factorial": designs.full_factorial,
    "fractional factorial": designs.fractional_factorial,
}

EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
"""YAML 1.1 takes 1e-4 for a text, because it wants a point in a number: here it is a number."""


@dataclass(frozen=True)
class Design:
    """What to train: every arm with every seed."""

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    preset: str = "as-it-stood"
    base: Mapping[str, Any] | None = None
    """Changes that all arms share."""
    profile: str | None = None
    """None: what suits the machine."""

    def size(self) -> Profile:
        """The profile of the runs; of the recommended recipe, with its frames and steps."""
        size = profile_(self.profile)
        return size.for_recipe() if self.preset == "recommended" else size

    def config(self, arm: Arm, seed: int) -> TrainConfig:
        """The configuration of one run.

        Raises:
            OcclabError: an unknown setting (the sentence holds the nearest valid one), or a value that does not fit.
        """
        start = changed(preset_(self.preset, self.size()), self.base or {})
        return replace(apply(arm, start), seed=seed)


def read_design(path: Path | str) -> Design:
    """A design from a YAML file of the form above, with every configuration in it checked.

    Raises:
        OcclabError: the file is missing or no YAML, an unknown key (the sentence holds the nearest valid one), a value
            that does not fit, or two arms that are the same training.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OcclabError(f"{path}: expected a design as YAML ({error})") from error
    return parse_design(text, str(path))


def parse_design(text: str, where: str) -> Design:
    """A design from the text of such a file.

    Args:
        where: the file or table that it came from, for the message.

    Raises:
        OcclabError: as :func:`read_design`.
    """
    try:
        return _design(_read_yaml(text))
    except OcclabError as error:
        raise OcclabError(f"{where}: {error}") from error
    except (TypeError, ValueError, OverflowError, AttributeError) as error:  # a date that is none, a number too large
        raise OcclabError(f"{where}: expected a design as YAML ({str(error).partition(chr(10))[0]})") from error


def _design(values: Any) -> Design:
    if not isinstance(values, dict):
        raise OcclabError(f"expected keys such as preset, seeds and factors, got {type(values).__name__}")
    known = [f.name for f in fields(Design)] + ["design", "factors", "for_each"]
    for key in values:
        if key in {"head", *setting_names(TrainConfig())} - {*known, "seed"}:
            raise OcclabError(f"{key} is a setting of the training: write it under base, factors or arms")
        _one_of(key, known, "key")
    for key in ("base", "factors", "arms", "for_each"):
        if not isinstance(values.get(key, {}), dict):
            raise OcclabError(f"{key} must be a mapping of names, got {values[key]!r}")
    design = Design(
        arms=tuple(_arms(values)),
        seeds=_seeds(values.get("seeds")),
        preset=_one_of(values.get("preset", "as-it-stood"), list(PRESETS), "preset"),
        base=values.get("base"),
        profile=_one_of(values["profile"], list(PROFILES), "profile") if "profile" in values else None,
    )
    _check(design)
    return design


def _arms(values: dict[str, Any]) -> list[Arm]:
    if ("arms" in values) == ("factors" in values):
        raise OcclabError("expected either factors with a design, or arms one by one")
    if "factors" in values:
        if "design" not in values:
            raise OcclabError(f"factors need a design: one of {', '.join(KINDS)}")
        arms = KINDS[_one_of(re.sub("[-_]", " ", str(values["design"])), list(KINDS), "design")](values["factors"])
    else:
        if "design" in values:
            raise OcclabError("design goes with factors; arms are taken one by one")
        for name, changes in values["arms"].items():
            if not isinstance(changes or {}, dict):
                raise OcclabError(f"arm {name!r} must be a mapping of changes, got {changes!r}")
        first = str(next(iter(values["arms"]), ""))
        arms = [Arm(str(name), changes or {}, first) for name, changes in values["arms"].items()]
        arms[:1] = [replace(arm, against=None) for arm in arms[:1]]
    if not arms:
        raise OcclabError("expected at least one arm")
    return designs.for_each(values["for_each"], arms) if "for_each" in values else arms


def _seeds(value: Any) -> tuple[int, ...]:
    seeds = tuple(range(value)) if type(value) is int else tuple(value) if isinstance(value, list) else ()
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise OcclabError(f"seeds must be a number of seeds, or a list of different whole numbers, got {value!r}")
    return seeds


def _check(design: Design) -> None:
    """Better now than after an hour of training."""
    seen: dict[str, str] = {}
    for arm in design.arms:
        config = design.config(arm, design.seeds[0])
        try:
            _check_fits(config)
        except OcclabError as error:
            raise OcclabError(f"arm {arm.name!r}: {error}") from error
        if repr(config) in seen:
            raise OcclabError(f"arms {seen[repr(config)]!r} and {arm.name!r} are the same training")
        seen[repr(config)] = arm.name
    if len(set(seen.values())) < len(design.arms):
        raise OcclabError(f"two arms have the same name, among {', '.join(seen.values())}")


def _check_fits(config: TrainConfig) -> None:
    """What a training would refuse at its first step."""
    check_grid(config)
    weights, nz = config.loss.height_weights, config.grid.shape[0]
    if weights is not None and len(weights) != nz:
        raise OcclabError(f"loss.height_weights needs one weight for each of {nz} heights, got {len(weights)}")
    if config.custom_keys:
        with torch.device("meta"):  # names only, no numbers
            parameter_groups(OccupancyUNet(config.model), config)


def _one_of(value: Any, valid: list[str], what: str) -> str:
    if value not in valid:
        raise OcclabError(f"unknown {what} {value!r}; the nearest valid one is {nearest(str(value), valid)!r}")
    return value


def _read_yaml(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader: makes plain data only
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise OcclabError(f"expected YAML, found {getattr(error, 'problem', None) or 'something else'}{line}") from error


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number, and refuses a key given twice, where the first would be lost."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value if isinstance(key.value, str) and key.value != "<<"]
        for i, name in enumerate(names):
            if name in names[:i]:
                line = node.value[i][0].start_mark.line + 1
                raise OcclabError(f"{name!r} is there twice, the second time in line {line}")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))

"""Changes to a training configuration by dotted name: ``{"learning_rate": 1e-3, "loss.dice": 1.0}``."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from ..errors import OcclabError
from ..training import TrainConfig


def setting_names(config: Any) -> list[str]:
    """Every name a change may have: fields, and fields of fields with a dot between.

    >>> "loss.dice" in setting_names(TrainConfig())
    True
    """
    names = []
    for f in fields(config):
        value = getattr(config, f.name)
        names += [f.name, *(f"{f.name}.{inner}" for inner in setting_names(value))] if is_dataclass(value) else [f.name]
    return names


def changed(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """The configuration with all changes made at once, so that settings which must agree may change together.

    Args:
        changes: dotted names to values; ``head`` is short for ``model.head``, and ``{"loss": {"dice": 1}}`` for
            ``{"loss.dice": 1}``.

    Raises:
        OcclabError: an unknown name (the sentence holds the nearest valid one), or a value that does not fit.
    """
    names = ["head", *setting_names(config)]
    wanted = flatten(changes, config)
    for name in wanted:
        if name not in names:
            raise OcclabError(f"unknown setting {name!r}; the nearest valid one is {nearest(name, names)!r}")
        if name == "seed":
            raise OcclabError("seed is not a setting to change, because every change is compared over the same seeds")
    try:
        return _rebuild(config, wanted)
    except (TypeError, ValueError, OverflowError) as error:
        raise OcclabError(f"the values of {', '.join(wanted)} do not fit ({error})") from error


def flatten(changes: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Changes by their full dotted names."""
    flat: dict[str, Any] = {}
    for key, value in changes.items():
        name = "model.head" if key == "head" else str(key)
        if isinstance(value, Mapping) and is_dataclass(getattr(config, name, None)):
            new = {f"{name}.{inner}": v for inner, v in flatten(value, getattr(config, name)).items()}
        else:
            new = {name: value}
        if twice := set(new) & set(flat):
            raise OcclabError(f"{min(twice)} is set twice")
        flat |= new
    return flat


def overlap(a: Iterable[str], b: Iterable[str]) -> str | None:
    """A setting that both lists of full dotted names change; ``loss`` and ``loss.dice`` overlap."""
    for one in a:
        for other in b:
            if one == other or one.startswith(f"{other}.") or other.startswith(f"{one}."):
                return max(one, other, key=len)
    return None


def nearest(word: str, valid: Iterable[str]) -> str:
    """The valid name a mistyped one most likely meant, by difflib's ratio; the last part of a dotted name, one of its
    words and their initials count nearly as the name.

    >>> nearest("lr", ["loss", "loss.dice", "learning_rate"])
    'learning_rate'
    """

    def likeness(name: str) -> float:
        last = name.rpartition(".")[2]
        initials = "".join(part[:1] for part in last.split("_"))
        if word.lower() == last or (word.lower() == initials and len(initials) > 1):
            return 1.0
        if word.lower() in last.split("_"):
            return 0.9
        return max(SequenceMatcher(None, word.lower(), candidate).ratio() for candidate in (name.lower(), last.lower()))

    return max(valid, key=likeness)


def _rebuild(config: Any, changes: Mapping[str, Any]) -> Any:
    direct: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        first, _, rest = name.partition(".")
        if rest:
            nested.setdefault(first, {})[rest] = value
            continue
        old = getattr(config, name)
        if is_dataclass(old) and not isinstance(value, type(old)):
            some = setting_names(old)[0]
            raise OcclabError(f"{name} is made of settings such as {name}.{some}, and cannot be {value!r}")
        if isinstance(old, bool) and not isinstance(value, bool):
            raise OcclabError(f"{name} must be true or false, got {value!r}")
        direct[name] = tuple(value) if isinstance(value, list) else value
    for name, inner in nested.items():
        direct[name] = _rebuild(direct.get(name, getattr(config, name)), inner)
    return replace(config, **direct)

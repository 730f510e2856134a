"""What Lightning's ``hparams.yaml`` and ``config.yaml``, and the ``config.json`` of an occlab run, say of the training."""

from pathlib import Path
from typing import Any

import yaml

from .lines import clean, number, parse_object, text_of, whole
from .log import LogSettings

LONGEST = 200_000
LONGEST_YAML = 50_000
"""The safe YAML parser is written in Python and takes a second for ten times as much."""

_KEYS = {
    "learning_rate": ("lr", "learning_rate", "base_lr"),
    "weight_decay": ("weight_decay", "wd"),
    "clip_norm": ("gradient_clip_val", "clip_norm", "clip_grad_norm", "max_grad_norm", "grad_clip", "gradient_clip"),
    "batch_size": ("batch_size", "train_batch_size", "batch_size_per_gpu"),
    "seed": ("seed", "seed_everything", "random_seed"),
    "total_steps": ("max_steps", "total_steps", "num_training_steps"),
}


class _PlainLoader(yaml.SafeLoader):
    """The safe loader, to which any other tag (``!!python/object``) is a value it does not know; nothing is constructed."""


_PlainLoader.add_multi_constructor("", lambda loader, suffix, node: None)


def hparams_beside(path: Path) -> tuple[LogSettings, list[str]]:
    """Settings from the ``hparams.yaml`` and ``config.yaml`` in a log's folder."""
    texts, values, notes = [], {}, []
    own = path.name.removesuffix("metrics.csv")  # copies are often named version_1_metrics.csv, version_1_hparams.yaml
    for name in dict.fromkeys((f"{own}hparams.yaml", "hparams.yaml", "config.yaml")):
        text = text_of(path.with_name(name), LONGEST)
        if not text:
            continue
        texts.append(text)
        try:
            if len(text) > LONGEST_YAML:
                raise ValueError("too long")
            found = yaml.load(text, _PlainLoader)
        except Exception:  # its constructors raise whatever a bad value leads to: KeyError, IndexError, AttributeError, ...
            notes.append(f"{name} beside the log could not be parsed.")
            continue
        if isinstance(found, dict):
            for key, value in _flat(found):
                values.setdefault(key, value)
    return _settings(values, "\n".join(texts)[:LONGEST]), notes


def _settings(values: dict[str, Any], text: str) -> LogSettings:
    def first(noun: str) -> Any:
        return next((values[key] for key in _KEYS[noun] if number(values.get(key)) is not None), None)

    def name_of(word: str) -> str | None:
        for key, value in values.items():
            parent, _, own = key.rpartition(".")
            if isinstance(value, str) and 0 < len(value) <= 100 and word in (parent or own):
                return clean(value.rpartition(".")[2])
        return None

    total = whole(first("total_steps"))
    return LogSettings(
        optimizer=name_of("optimizer"),
        learning_rate=number(first("learning_rate")),
        weight_decay=number(first("weight_decay")),
        clip_norm=number(first("clip_norm")),
        batch_size=whole(first("batch_size")),
        seed=whole(first("seed")),
        loss=name_of("loss"),
        total_steps=total or None,
        text=text,
    )


def _flat(values: dict[Any, Any]) -> list[tuple[str, Any]]:
    """Keys and plain values, level by level; ``optimizer: {class_path: X}`` becomes optimizer.class_path and X."""
    found: list[tuple[str, Any]] = []
    waiting: list[tuple[str, Any]] = [("", values)]
    for _ in range(2000):  # anchors make a tree of any size, or a ring
        if not waiting:
            break
        parent, level = waiting.pop(0)
        for key, value in list(level.items())[:500]:
            if not isinstance(key, str):
                continue
            key = key.lower()
            if isinstance(value, dict):
                waiting.append((key, value))
            elif isinstance(value, str | int | float):
                found.append((f"{parent}.{key}" if key in ("class_path", "type", "name", "_target_") else key, value))
    return found


def occlab_settings(folder: Path) -> LogSettings | None:
    """Settings of an occlab run; None where its ``config.json`` is not there or is something else."""
    text = text_of(folder / "config.json", LONGEST)
    values = (parse_object(text) or {}).get("config")
    if not isinstance(values, dict):
        return None
    kind, loss = values.get("optimizer", "adamw"), values.get("loss")  # older runs had no other optimiser
    return LogSettings(
        optimizer={"adamw": "AdamW", "sgd": "SGD"}.get(kind) if isinstance(kind, str) else None,
        learning_rate=number(values.get("learning_rate")),
        weight_decay=number(values.get("weight_decay")),
        clip_norm=number(values.get("clip_norm")),
        batch_size=whole(values.get("batch_size")),
        seed=whole(values.get("seed")),
        loss=_loss_name(loss) if isinstance(loss, dict) else None,
        total_steps=whole(values.get("steps")),
        text=text,
    )


def _loss_name(loss: dict[str, Any]) -> str | None:
    """The weighted sum in words: "BCE + 0.5 Dice"."""
    titles = {"bce": "BCE", "dice": "Dice", "focal": "focal", "tversky": "Tversky", "lovasz": "Lovász"}
    weights = {title: number(loss.get(key)) for key, title in titles.items()}
    return " + ".join(title if w == 1 else f"{w:g} {title}" for title, w in weights.items() if w) or None

"""Grid, network, loss, initial weights and augmentation, out of the sections of a configuration."""

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from ..losses import OccupancyLoss
from ..models import UNetConfig
from .notes import Said, Section
from .python_file import shown

NETWORK, LOSS = "OccupancyUNet", "OccupancyLoss"
INITS = {
    "Kaiming": ("kaiming", {"mode": "fan_out", "nonlinearity": "relu", "distribution": "normal"}),
    "Xavier": ("xavier", {"distribution": "uniform"}),
}
"""mmengine's initialisers, and the settings with which they draw what :func:`occlab.models.initialise` draws."""

_INIT_DEFAULTS = {
    "Kaiming": {"mode": "fan_out", "nonlinearity": "relu", "distribution": "normal"},
    "Xavier": {"distribution": "normal"},
}


def read_grid(root: Section) -> None:
    for key in ("point_cloud_range", "voxel_size"):
        value = root.take(key)
        if isinstance(value, list | tuple):
            root.say(f"grid.{key}", tuple(value), key)
        elif value is not None:
            root.drop(key, f"expected a list of numbers, got {shown(value)}")


def read_model(root: Section) -> bool:
    """Whether the network is occlab's own. Of another one, the losses and the initial weights are read."""
    model = root.section("model")
    if model is None:
        return False
    _read_init(model)
    kind = model.name()
    if kind == NETWORK:
        for f in fields(UNetConfig):
            if f.name in model:
                model.say(f"model.{f.name}", model.take(f.name), f.name)
        if (loss := model.section("loss_occ")) is not None:
            _read_own_loss(loss) if loss.values.get("type", LOSS) == LOSS else _read_losses(model)
        model.finish()
        return True
    model.drop("type", f"{shown(kind) or 'this'} is not occlab's network; only losses and initial weights were read from it")
    _read_losses(model)
    return False


def _read_own_loss(loss: Section) -> None:
    loss.taken.add("type")
    for f in fields(OccupancyLoss):
        if f.name in loss:
            value = loss.take(f.name)
            loss.say(f"loss.{f.name}", tuple(value) if isinstance(value, list) else value, f.name)
    loss.finish()


def _losses(section: Section) -> Iterator[Section]:
    """Every ``dict(type='...Loss')``, at any depth, in the order of the file; those for occupancy first."""
    found = []
    waiting: list[tuple[tuple[str, ...], Any]] = [(section.path, section.values)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            kind = value.get("type")
            if isinstance(kind, str) and kind.endswith("Loss"):
                found.append(Section(value, path, section.notes))
                continue
            waiting += reversed([((*path, shown(str(key))), inner) for key, inner in value.items()])
        elif isinstance(value, list | tuple):
            waiting += reversed([((*path, f"[{i}]"), inner) for i, inner in enumerate(value) if not isinstance(inner, float)])
    yield from sorted(found, key=lambda loss: not any("occ" in part for part in loss.path[1:]))


def _read_losses(model: Section) -> None:
    """mmdetection's CrossEntropyLoss, FocalLoss and DiceLoss as terms of occlab's loss; the first of each kind."""
    said: dict[str, str] = {}
    for loss in _losses(model):
        kind = loss.name()
        term = {"CrossEntropyLoss": "bce", "FocalLoss": "focal", "DiceLoss": "dice"}.get(kind)
        weight = loss.number("loss_weight", 1.0)
        if term is None:
            loss.drop(None, f"occlab has no {shown(kind)} in this form")
            continue
        if term in said:
            loss.drop(None, f"a second {kind}; the one at {said[term]} was read")
            continue
        sigmoid = loss.take("use_sigmoid", kind != "CrossEntropyLoss")
        if not sigmoid:
            loss.drop("use_sigmoid", f"a {kind} over classes; occlab's is of occupied or empty, a sigmoid each")
            continue
        said[term] = loss.where()
        loss.say(f"loss.{term}", weight, "loss_weight" if "loss_weight" in loss else None)
        if weight:
            _read_term(loss, kind)
        loss.taken |= {"reduction"} if loss.values.get("reduction", "mean") == "mean" else set()
        loss.finish()
    if said:
        for name in {"bce", "dice", "focal"} - set(said):
            model.notes.said[f"loss.{name}"] = Said(0.0, f"{model.where()}, which has no loss of this kind")


def _read_term(loss: Section, kind: str) -> None:
    if kind == "FocalLoss":
        for name, default in (("alpha", 0.25), ("gamma", 2.0)):
            loss.say(f"loss.focal_{name}", loss.number(name, default), name if name in loss else None)
    elif kind == "DiceLoss":
        loss.take("activate")
        if loss.take("naive_dice", False):
            loss.say("loss.dice_smooth", loss.number("eps", 1e-3), "eps" if "eps" in loss else None)
        else:
            loss.drop(
                "naive_dice", "the sums in its denominator are of squares; occlab's Dice is linear, as with naive_dice=True"
            )
            loss.take("eps")


def _read_init(model: Section) -> None:
    listed = model.take("init_cfg")
    for values in listed if isinstance(listed, list | tuple) else [listed]:
        if not isinstance(values, dict):
            continue
        section = Section(values, (*model.path, "init_cfg"), model.notes)
        kind = section.name().removesuffix("Init")
        if kind not in INITS:
            section.drop(None, f"initial weights of kind {shown(kind)}; occlab draws PyTorch's own, Kaiming's or Xavier's")
            continue
        name, wanted = INITS[kind]
        section.say("init", name, "type")
        for key, value in wanted.items():
            if (got := section.take(key, _INIT_DEFAULTS[kind][key])) != value:
                section.drop(key, f"occlab's {name} has {key} {value!r}, not {shown(got)}")
        section.taken |= {"layer"} if section.values.get("layer") in ("Conv2d", ["Conv2d"]) else set()
        section.finish()


def read_augmentation(root: Section) -> None:
    """``RandomFlip3D`` and ``GlobalRotScaleTrans`` of the training pipeline that is in force."""
    pipeline = _pipeline(root)
    root.taken.add("train_pipeline")
    if pipeline is None:
        return
    path, steps = pipeline
    others = []
    for i, values in enumerate(steps):
        if not isinstance(values, dict):
            continue
        section = Section(values, (*path, f"[{i}]"), root.notes)
        kind = section.name()
        if kind == "RandomFlip3D":
            _read_flip(section)
        elif kind == "GlobalRotScaleTrans":
            _read_turn(section)
        else:
            others.append(kind)
    if others:
        root.notes.not_carried.append(
            f"{root.notes.where(path)}: steps that occlab has no setting for: {shown(', '.join(others))}"
        )


def _pipeline(root: Section) -> tuple[tuple[str, ...], list[Any]] | None:
    places: list[tuple[str, ...]] = [("train_pipeline",)]
    for start in (("data", "train"), ("train_dataloader", "dataset")):  # a data set may be wrapped in others
        places += [(*start, *["dataset"] * wrapped, "pipeline") for wrapped in range(4)]
    for place in reversed(places):
        value: Any = root.values
        for key in place:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, list | tuple):
            return place, list(value)
    return None


def _read_flip(section: Section) -> None:
    section.take("sync_2d")
    x, y = (section.number(f"flip_ratio_bev_{name}", 0.0) for name in ("horizontal", "vertical"))
    if x == y == 0.5:
        section.say("flip", True)
    elif x == y == 0:
        section.idle(None, "mirrored with probability 0")
    else:
        section.drop(
            None, f"mirrored with probabilities {x:g} and {y:g}; occlab mirrors along x and y with 0.5 each, or not at all"
        )
    section.finish()


def _read_turn(section: Section) -> None:
    turn = section.take("rot_range", [-0.78539816, 0.78539816])
    turn = [-turn, turn] if type(turn) in (int, float) else turn
    if isinstance(turn, list | tuple) and len(turn) == 2 and all(type(x) in (int, float) for x in turn) and turn[0] == -turn[1]:
        section.say("rotation", math.degrees(abs(turn[1])), "rot_range")
    else:
        section.drop("rot_range", f"occlab turns by up to an angle either way, not by {shown(turn)}")
    if section.take("scale_ratio_range", [0.95, 1.05]) not in ([1, 1], (1, 1)):
        section.drop("scale_ratio_range", "frames are scaled; occlab does not scale them")
    if section.take("translation_std", 0) not in (0, [0, 0, 0], (0, 0, 0)):
        section.drop("translation_std", "frames are shifted; occlab does not shift them")
    section.finish()

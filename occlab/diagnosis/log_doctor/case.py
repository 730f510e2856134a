"""A log under examination, with what is measured on it once and read by many checks."""

import json
import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..finding import Finding
from ..logs.log import Curve, TrainingLog
from ..logs.names import TRAINING_WORDS, VALIDATION_WORDS, words
from ..report.wording import clean
from .readings import Family, Reading, Stated, readings, readings_at
from .trend import FEWEST_ROWS, Trend, trend

_WHOLE = {"epoch", "step", "total", "all", "sum", "avg", "mean", "batch"}
_COMMON = {"scalars.json", "metrics.csv"}
_KNOWN_TERM = re.compile(r"bce|ce|cross|entropy|dice|focal|occ|voxel|seg|mask|sem")


@dataclass
class LogCase:
    """A log, and what was said of its loss beside it."""

    log: TrainingLog
    stated: Stated

    @property
    def name(self) -> str:
        """The file's name, with its folder's where many files are called so."""
        path = self.log.path
        parts = [part for part in path.parts if part != "vis_data"][-2 if path.name in _COMMON else -1 :]
        return clean("/".join(parts) or path, 120)

    @cached_property
    def loss(self) -> Curve | None:
        """Finite rows of the training loss; None where there is none."""
        return finite(self.log.training.get("loss"))

    @cached_property
    def norm(self) -> Curve | None:
        """Finite rows of the gradient norm."""
        return finite(self.log.training.get("gradient_norm"))

    @cached_property
    def rate(self) -> Curve | None:
        """Finite rows of the learning rate."""
        return finite(self.log.training.get("learning_rate"))

    @cached_property
    def trend(self) -> Trend | None:
        return None if self.loss is None else trend(self.loss.step, self.loss.value)

    @cached_property
    def epoch_trend(self) -> Trend | None:
        """Of the mean over an epoch, where that is logged beside the loss of a row."""
        for name, raw in self.log.training.items():
            mean = finite(raw)
            if name != "loss" and is_total(name) and mean is not None and self.loss is not None:
                return trend(mean.step, mean.value) if len(mean.value) < len(self.loss.value) else None
        return None

    @cached_property
    def length(self) -> int:
        """Steps of the whole run: as planned, where that is known and not yet reached, else the last one logged."""
        last = max((int(c.step[-1]) for c in (self.loss, self.rate, self.norm) if c is not None), default=0)
        return max(last, self.log.settings.total_steps or 0)

    @cached_property
    def terms(self) -> dict[str, Curve]:
        """The logged terms of the loss."""
        curves = {name: finite(curve) for name, curve in self.log.training.items() if name != "loss" and "loss" in words(name)}
        return {name: curve for name, curve in curves.items() if curve is not None and not is_total(name)}

    @property
    def of_other_terms(self) -> bool:
        """Is the loss a sum with terms (boxes, depth, ...) whose trivial values nobody can write down?"""
        text = (self.log.settings.loss or "").lower()
        if "tversky" in text or "lov" in text or ("dice" in text and "focal" in text):
            return True
        if self.log.format == "occlab run" and self.log.settings.text:
            return _own_loss(self.log) is None
        return len(self.terms) > 1 and not all(_KNOWN_TERM.search(name.lower()) for name in self.terms)

    @cached_property
    def known(self) -> Stated:
        """The loss as it was stated, else as far as the log's own configuration says it."""
        return self.stated if self.stated.loss is not None else _from_settings(self.log, self.stated)

    @cached_property
    def readings(self) -> list[Reading]:
        """What a settled loss may mean, as far as its level says; empty where it has not settled."""
        t, known = self.trend, self.known
        if t is None or t.state != "settled":
            return []
        if known.whole and known.positive_rate is not None:
            return readings_at(known, t.level, t.error, known.positive_rate)
        return readings(known, t.level, t.error)

    def too_short(self, id: str) -> Finding:
        """Why there is no trend."""
        if self.loss is None:
            return unmeasured(id, "The log holds no training loss that could be recognised.")
        return unmeasured(id, f"Only {len(self.loss.value)} rows of the loss: at least {FEWEST_ROWS} are needed.")


def finite(curve: Curve | None) -> Curve | None:
    """Rows with a number; None where there is none."""
    if curve is None:
        return None
    kept = np.isfinite(curve.value)
    return Curve(curve.step[kept], curve.value[kept]) if kept.any() else None


def is_total(name: str) -> bool:
    """Does a name mean the loss itself, and no term of it?"""
    return [w for w in words(name) if w not in TRAINING_WORDS | VALIDATION_WORDS | _WHOLE] == ["loss"]


def unmeasured(id: str, reason: str) -> Finding:
    return Finding(id, "not-measurable", reason)


def _from_settings(log: TrainingLog, stated: Stated) -> Stated:
    """What a configuration says of the loss: all of it in a run of ours, elsewhere its family."""
    own = _own_loss(log) if log.format == "occlab run" else None
    if own is not None:
        return Stated(stated.positive_rate, **own)
    text = (log.settings.loss or "").lower()
    family: Family | None = None
    if "dice" in text:
        family = "bce+dice" if re.search(r"bce|cross.?entropy|\bce\b", text) else "dice"
    elif "focal" in text:
        family = None if re.search(r"bce|cross.?entropy|l1|iou", text) else "focal"
    if family == "dice" and stated.pos_weight not in (None, 1):
        family = "bce+dice"
    return Stated(stated.positive_rate, family, stated.dice_weight, stated.pos_weight)


def _own_loss(log: TrainingLog) -> dict | None:
    try:
        config = json.loads(log.settings.text)
        loss = config.get("config", config)["loss"]
        bce, dice, focal = (float(loss[name]) for name in ("bce", "dice", "focal"))
        others = float(loss.get("tversky", 0)) + float(loss.get("lovasz", 0))
        if others or (bce, dice, focal) not in ((1, dice, 0), (0, 1, 0), (0, 0, 1)):
            return None
        if focal:
            return {"loss": "focal", "alpha": float(loss["focal_alpha"]), "gamma": float(loss["focal_gamma"])}
        return {"loss": "bce+dice", "dice_weight": dice} if bce and dice else {"loss": "bce" if bce else "dice"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None

"""Checks of what a log holds beside the training loss: validation losses, accuracy, overlap."""

import re

import numpy as np

from ..finding import Experiment, Finding
from ..logs.log import Curve
from ..report.wording import clean
from .case import LogCase, finite, is_total, unmeasured

GAP = 1.5
"""Validation loss over training loss (TheDeepChecker: 50 % between modes)."""
ROSE = 1.2
"""Validation loss at the end over its minimum."""
TRAPPED, EMPTY = 0.9, 0.05
"""Accuracy that looks good, and an overlap that says nothing was found."""
FEWEST = 5
"""Rows of a metric."""

ACCURACY = {"acc", "accuracy", "top1", "oa"}
OVERLAP = {"iou", "miou", "jaccard", "f1", "recall"}


def eval_gap(c: LogCase) -> Finding:
    """Validation loss against training loss."""
    found = [(name, curve) for name, raw in c.log.validation.items() if is_total(name) and (curve := finite(raw)) is not None]
    if not found:
        return unmeasured("eval-gap", "The log holds no validation loss.")
    _name, curve = max(found, key=lambda item: len(item[1].value))
    if c.trend is None or len(curve.value) < FEWEST:
        return unmeasured("eval-gap", f"Only {len(curve.value)} rows of the validation loss, or too few of the training loss.")
    t, end = c.trend, _end(curve)
    lowest, ratio = float(curve.value.min()), end / t.level if t.level > 0 else np.nan
    evidence = {"validation": end, "training": t.level, "ratio": float(ratio), "lowest": lowest, "cutoff": [GAP, ROSE]}
    evidence["source"] = "TheDeepChecker: 50 %"
    if not ratio > 0:
        return unmeasured("eval-gap", "The losses are not positive, so that they have no ratio.")
    title = f"The validation loss ends at {end:.4g}, {ratio:.2f} times the training loss."
    never = lowest > 0.9 * t.first and t.level < 0.5 * t.first and ratio > 2
    if never:
        title = f"The validation loss stays at {end:.4g}; the training loss went from {t.first:.4g} to {t.level:.4g}."
        why = "Either nothing carries over, or eval() computes something else: BatchNorm averages that lag behind."
        fix = """for module in model.modules():
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
        module.momentum = 0.1"""
        experiment = Experiment("Evaluate in train() mode on the same frames", "the validation loss", 0.0, 0.7 * end)
        return Finding("eval-gap", "warn", title, evidence, why, fix, experiment)
    if end > ROSE * lowest and end - lowest > 0.1 * abs(t.first - t.level) and ratio > GAP:
        return Finding("eval-gap", "note", f"{title} It had been {lowest:.4g}: the network overfits.", evidence)
    return Finding("eval-gap", "note" if ratio > GAP else "pass", title, evidence)


def accuracy_trap(c: LogCase) -> Finding:
    """A high accuracy of a network that finds nothing."""
    worst = None
    measured = False
    for group in (c.log.training, c.log.validation):
        for accuracy_name, accuracy in _of(group, ACCURACY).items():
            for overlap_name, overlap in _of(group, OVERLAP).items():
                measured = True
                high, found = _half(accuracy), _half(overlap)
                scale = 100 if accuracy.value.max() > 1.5 else 1
                if high.min() / scale >= TRAPPED and np.ptp(high) / scale < 0.02 and found.max() < EMPTY:
                    worst = (accuracy_name, float(high.mean() / scale), overlap_name, float(found.max()))
    if not measured:
        return unmeasured("accuracy-trap", "The log holds no accuracy beside an IoU, F1 or recall.")
    if worst is None:
        return Finding("accuracy-trap", "pass", "No accuracy is high with an overlap near 0.", {"cutoff": [TRAPPED, EMPTY]})
    accuracy_name, high, overlap_name, low = worst
    title = f"{clean(accuracy_name, 60)} stays at {high:.1%} while {clean(overlap_name, 60)} stays under {max(low, 0.001):.3f}."
    evidence = {"accuracy": high, "overlap": low, "cutoff": [TRAPPED, EMPTY], "source": "accuracy of all empty is 1 - rate"}
    why = "Where few cells are occupied, all empty is right nearly everywhere: this accuracy says nothing."
    fix = "p = torch.sigmoid(logits) > 0.5\niou = (p & target.bool()).sum() / (p | target.bool()).sum()"
    change = "Compute the accuracy of predicting empty everywhere"
    experiment = Experiment(change, "that accuracy", max(high - 0.02, 0), min(high + 0.02, 1))
    return Finding("accuracy-trap", "warn", title, evidence, why, fix, experiment)


def _of(group: dict[str, Curve], wanted: set[str]) -> dict[str, Curve]:
    found = {}
    for name, raw in group.items():
        split = set(re.split(r"[^a-z0-9]+", name.lower()))  # not by capitals: IoU is one word
        curve = finite(raw)
        if split & wanted and "loss" not in split and curve is not None and len(curve.value) >= FEWEST:
            found[name] = curve
    return found


def _half(curve: Curve) -> np.ndarray:
    return curve.value[len(curve.value) // 2 :]


def _end(curve: Curve) -> float:
    return float(np.median(curve.value[-max(len(curve.value) // 4, 2) :]))


CHECKS = (eval_gap, accuracy_trap)

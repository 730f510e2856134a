"""Synthetic training logs, with one fault planted or none: noise of batches, windows, warm-up, seeds."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from occlab.diagnosis.logs import Curve, LogSettings, TrainingLog


@dataclass
class Plan:
    """A log to make, and what the doctor is told and should say of it."""

    loss: np.ndarray
    expected: str = ""
    """Id of the finding; empty where nothing may fail or warn."""
    verdict: str = "alarm"
    """``"alarm"``: the root cause; else the verdict of that finding."""
    window: int | None = 50
    training: dict[str, np.ndarray] = field(default_factory=dict)
    validation: dict[str, np.ndarray] = field(default_factory=dict)
    settings: LogSettings = field(default_factory=LogSettings)
    format: str = "mmengine scalars"
    said: dict[str, Any] = field(default_factory=dict)
    others: int = 0


def log(plan: Plan, name: str = "scalars.json", **settings: Any) -> TrainingLog:
    """The plan as a log that might have been read."""
    every = plan.window or 50
    n = len(plan.loss)
    training = {name: curve(v, n * every, every) for name, v in {"loss": plan.loss, **plan.training}.items()}
    validation = {name: curve(v, n * every, n * every // len(v)) for name, v in plan.validation.items()}
    with_more = LogSettings(**{**vars(plan.settings), **settings})
    rows = sum(len(v) for v in plan.validation.values())
    return TrainingLog(Path("work_dirs/run") / name, plan.format, training, validation, with_more, plan.window, (), n, rows, ())


def curve(value: np.ndarray, last: int, every: int) -> Curve:
    value = np.asarray(value, float)
    return Curve(np.linspace(min(every, last), last, len(value)).astype(np.int64), value)


def noisy(rng: np.random.Generator, mean: np.ndarray, scatter: float) -> np.ndarray:
    """Batches differ by a factor."""
    return mean * np.exp(scatter * rng.standard_normal(len(mean)))


def falls(n: int, first: float, last: float, share: float = 0.2) -> np.ndarray:
    """Exponentially, in that share of the run."""
    return last + (first - last) * np.exp(-np.arange(n) / (share * n))


def power(n: int, first: float, exponent: float) -> np.ndarray:
    return first * (1 + np.arange(n) / (0.01 * n)) ** -exponent


def cosine(n: int, peak: float, warm: float = 0.05, end: float = 0.0) -> np.ndarray:
    t = np.arange(1, n + 1) / n
    return np.where(
        t < warm, peak * t / max(warm, 1e-9), end + (peak - end) * 0.5 * (1 + np.cos(np.pi * (t - warm) / (1 - warm)))
    )


def entropy(rate: float) -> float:
    return -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)


ADAMW, SGD = LogSettings(optimizer="AdamW", clip_norm=0.1), LogSettings(optimizer="SGD", clip_norm=0.1)


def faults(seed: int) -> dict[str, Plan]:
    """One fault each."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(120, 400))
    rate = float(rng.uniform(0.003, 0.01))
    healthy = noisy(rng, falls(n, 1.2, 0.4), 0.03)
    dead = math.log(2) + 0.5 * (1 - rate / (0.5 + rate))
    norms = noisy(rng, np.full(n, 3.0), 0.4)
    weighted = 10 * rate / (10 * rate + 1 - rate)
    spiked = healthy.copy()
    spiked[rng.choice(np.arange(20, n), 8, replace=False)] *= rng.uniform(4, 9, 8)
    lost = healthy.copy()
    lost[n // 2 :] = np.nan
    skipped = norms.copy()
    skipped[rng.random(n) < 0.7] = np.nan
    jumps = healthy.copy()
    jumps[int(0.7 * n) :] = noisy(rng, np.full(n - int(0.7 * n), 1.5), 0.05)
    ends = noisy(rng, falls(n, 1.2, 0.4, 0.08), 0.02)
    early = np.where(np.arange(n) < 0.2 * n, 1e-3, 1e-6)
    flat = noisy(rng, np.full(n, 1.2), 0.01)
    few = np.linspace(1.3, 1.2, 20)
    beside = {"loss": "bce+dice", "dice_weight": 0.5}
    return {
        "dead head": Plan(noisy(rng, falls(n, 1.35, dead, 0.03), 0.002), "plateau-at-floor", said=beside),
        "dead head, rate known": Plan(
            noisy(rng, falls(n, 1.35, dead, 0.03), 0.004), "plateau-at-floor", said={**beside, "positive_rate": rate}
        ),
        "dead head, BCE": Plan(noisy(rng, falls(n, 0.85, math.log(2), 0.03), 0.003), "plateau-at-floor", said={"loss": "bce"}),
        "dead head, focal": Plan(
            noisy(rng, falls(n, 0.18, 0.25 * 0.75 * math.log(2), 0.04), 0.004), "plateau-at-floor", said={"loss": "focal"}
        ),
        "dead head, said by the log": Plan(
            noisy(rng, falls(n, 1.35, dead, 0.03), 0.002),
            "plateau-at-floor",
            format="occlab run",
            settings=LogSettings(loss="BCE + 0.5 Dice", text='{"config": {"loss": {"bce": 1, "dice": 0.5, "focal": 0}}}'),
        ),
        "dead head, nothing known": Plan(noisy(rng, falls(n, 1.35, dead, 0.03), 0.002), "plateau-at-floor", "note"),
        "base rate": Plan(
            noisy(rng, falls(n, 0.69, entropy(rate), 0.02), 0.01),
            "plateau-at-floor",
            said={"loss": "bce", "positive_rate": rate},
        ),
        "base rate, pos_weight 10": Plan(
            noisy(rng, falls(n, 0.75, -10 * rate * math.log(weighted) - (1 - rate) * math.log(1 - weighted), 0.02), 0.01),
            "plateau-at-floor",
            said={"loss": "bce", "positive_rate": rate, "pos_weight": 10.0},
        ),
        "base rate, loss not stated": Plan(
            noisy(rng, falls(n, 0.69, entropy(rate), 0.02), 0.01), "plateau-at-floor", said={"positive_rate": rate}
        ),
        "Dice finds nothing": Plan(noisy(rng, falls(n, 0.999, 0.994, 0.02), 0.001), "plateau-at-floor", said={"loss": "dice"}),
        "little skill": Plan(
            noisy(rng, falls(n, 0.69, 0.94 * entropy(rate), 0.02), 0.01),
            "low-skill",
            said={"loss": "bce", "positive_rate": rate},
        ),
        "loss lost": Plan(lost, "non-finite"),
        "steps skipped": Plan(healthy, "non-finite", training={"gradient_norm": skipped}),
        "spikes": Plan(spiked, "spikes"),
        "diverges slowly": Plan(noisy(rng, falls(n, 1.2, 0.3) + np.linspace(0, 1, n) ** 4, 0.03), "diverged"),
        "diverges at once": Plan(jumps, "diverged"),
        "rate gone": Plan(ends, "schedule", training={"learning_rate": early}),
        "cosine too short": Plan(
            ends, "schedule", training={"learning_rate": np.append(cosine(n // 3, 1e-3), np.zeros(n - n // 3))}
        ),
        "rate 0": Plan(flat, "schedule", training={"learning_rate": np.zeros(n)}),
        "rate 1e-9": Plan(flat, "schedule", training={"learning_rate": np.full(n, 1e-9)}),
        "SGD clipped": Plan(
            noisy(rng, falls(n, 1.2, 1.0), 0.02), "clipping", window=1, training={"gradient_norm": norms}, settings=SGD
        ),
        "SGD clipped, means": Plan(
            noisy(rng, falls(n, 1.2, 1.0), 0.02), "clipping", training={"gradient_norm": norms}, settings=SGD
        ),
        "no gradient": Plan(flat, "gradient-scale", training={"gradient_norm": noisy(rng, np.full(n, 1e-9), 0.5)}),
        "divided by itself": Plan(np.ones(n), "loss-normalisation", training={"gradient_norm": norms}),
        "eval lags": Plan(healthy, "eval-gap", validation={"val_loss": noisy(rng, np.full(15, 1.4), 0.05)}),
        "accuracy trap": Plan(
            healthy, "accuracy-trap", validation={"val_acc": 1 - rate + few * 1e-4, "val_IoU": noisy(rng, few * 0.01, 0.2)}
        ),
        "silent option": Plan(healthy, "silent-option", others=1, settings=LogSettings(optimizer="AdamW", weight_decay=0.01)),
        "still falling": Plan(noisy(rng, power(n, 1.2, 0.4), 0.02), "not-finished", "note"),
        "one term is all": Plan(
            healthy, "loss-term-dominance", "note", training={"loss_depth": 0.98 * healthy, "loss_occ": 0.02 * healthy}
        ),
        "Adam clipped": Plan(healthy, "clipping", "note", window=1, training={"gradient_norm": norms}, settings=ADAMW),
        "limit never reached": Plan(
            healthy,
            "silent-option",
            "note",
            window=1,
            training={"gradient_norm": norms},
            settings=LogSettings(clip_norm=1000.0),
        ),
    }


def healthy(seed: int) -> dict[str, Plan]:
    """Trainings that go well, or of which nothing bad can be said."""
    rng = np.random.default_rng(1000 + seed)
    n = int(rng.integers(120, 600))
    rate = float(rng.uniform(0.003, 0.05))
    usual = noisy(rng, falls(n, 1.2, 0.3), 0.04)
    norms = noisy(rng, power(n, 20.0, 0.3), 0.5)
    boxes, classes = noisy(rng, power(n, 0.7, 0.2), 0.05), noisy(rng, power(n, 2.0, 0.3), 0.05)
    amp = norms.copy()
    amp[rng.random(n) < 0.02] = np.nan
    amp[:8] = np.nan
    stairs = np.concatenate([np.full(n - 2 * (n // 6), 1e-3), np.full(n // 6, 1e-4), np.full(n // 6, 1e-5)])
    on_stairs = np.where(stairs < 1e-3, 0.7, 1.0) * np.where(stairs < 1e-4, 0.9, 1.0) * falls(n, 2.0, 0.8, 0.1)
    restarts = np.tile(cosine(n // 3, 1e-3, 0.0), 4)[:n]
    said = {"loss": "bce", "positive_rate": rate}
    learnt = noisy(rng, falls(n, 0.69, 0.4 * entropy(rate), 0.15), 0.03)
    over = noisy(rng, falls(20, 1.0, 0.5, 0.2) + np.linspace(0, 0.1, 20), 0.02)
    return {
        "exponential": Plan(usual),
        "settled early": Plan(noisy(rng, falls(n, 1.2, 0.3, 0.03), 0.02)),
        "power law": Plan(noisy(rng, power(n, 2.0, 0.3), 0.04)),
        "cosine": Plan(usual, training={"learning_rate": cosine(n, 1e-3), "gradient_norm": norms}),
        "one cycle": Plan(usual, training={"learning_rate": cosine(n, 1e-2, 0.3)}),
        "batch 1": Plan(noisy(rng, falls(4 * n, 0.95, 0.4), 0.5), window=1),
        "batch 1, hard frames": Plan(falls(8 * n, 1.0, 0.4) * np.exp(0.25 * rng.standard_t(3, 8 * n)), window=1),
        "gamma noise": Plan(falls(4 * n, 1.0, 0.2) * rng.gamma(2.0, 0.5, 4 * n), window=1),
        "staircase": Plan(noisy(rng, on_stairs, 0.03), training={"learning_rate": stairs}),
        "rounded rate": Plan(
            usual, training={"learning_rate": np.round(cosine(n, 1e-4), 5), "gradient_norm": norms}, format="mmcv json"
        ),
        "rate rounded to 0": Plan(usual, training={"learning_rate": np.zeros(n)}, format="mmcv json"),
        "detector": Plan(
            boxes + classes, training={"loss_bbox": boxes, "loss_cls": classes, "gradient_norm": norms}, window=10
        ),
        "detector, settled": Plan(
            noisy(rng, falls(n, 2.5, 1.19, 0.05), 0.02),
            training={"loss_bbox": np.full(n, 0.6), "loss_cls": np.full(n, 0.59)},
        ),
        "warm restarts": Plan(
            noisy(rng, falls(n, 1.2, 0.4) * (1 + 100 * restarts), 0.03), training={"learning_rate": restarts}
        ),
        "BCE, learnt": Plan(learnt, said=said),
        "BCE, learnt, loss not stated": Plan(learnt, said={"positive_rate": rate}),
        "BCE and Dice, learnt": Plan(
            noisy(rng, falls(n, 1.19, 0.3), 0.03), said={"loss": "bce+dice", "dice_weight": 0.5, "positive_rate": rate}
        ),
        "leaves p = 1/2 slowly": Plan(
            noisy(rng, np.linspace(1.19, 1.15, n), 0.004), said={"loss": "bce+dice", "dice_weight": 0.5}, window=1
        ),
        "focal, prior in the bias": Plan(noisy(rng, falls(n, 0.02, 0.004), 0.05), said={"loss": "focal"}),
        "Dice, learnt": Plan(noisy(rng, falls(n, 0.99, 0.35), 0.1), said={"loss": "dice"}, window=1),
        "AdamW, all clipped": Plan(usual, window=1, training={"gradient_norm": norms}, settings=ADAMW),
        "SGD, some clipped": Plan(
            usual,
            training={"gradient_norm": noisy(rng, np.full(n, 20.0), 0.5)},
            settings=LogSettings(optimizer="SGD", clip_norm=35.0),
        ),
        "mixed precision": Plan(usual, training={"gradient_norm": amp}),
        "fine-tuning": Plan(noisy(rng, falls(n, 0.22, 0.2, 0.5), 0.03), training={"gradient_norm": norms}),
        "memorised": Plan(
            noisy(rng, falls(n, 1.0, 1e-5, 0.08), 0.3), training={"gradient_norm": noisy(rng, falls(n, 5, 1e-4), 0.5)}
        ),
        "overfits a little": Plan(usual, validation={"val_loss": over}),
        "generalises": Plan(usual, validation={"val_loss": noisy(rng, falls(20, 1.0, 0.4), 0.03)}),
        "accurate": Plan(usual, validation={"acc": np.linspace(0.97, 0.99, 20), "IoU": np.linspace(0.1, 0.45, 20)}),
        "a loss below 0": Plan(noisy(rng, falls(n, 3.0, 1.0), 0.05) - 1.5),
        "short": Plan(usual[:12]),
        "seeds": Plan(usual, others=3, settings=LogSettings(optimizer="AdamW", learning_rate=1e-3, clip_norm=1.0)),
    }

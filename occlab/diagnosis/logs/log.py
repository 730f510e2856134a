"""What a training log says, whatever wrote it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Curve:
    """One logged quantity."""

    step: np.ndarray
    """(N,) int64, the global optimiser step, increasing: of steps that were repeated the last are kept."""
    value: np.ndarray
    """(N,) float64; NaN and infinity where the log says so."""


@dataclass(frozen=True)
class LogSettings:
    """What the log's own configuration says; None where it does not say."""

    optimizer: str | None = None
    """``"AdamW"``, ``"SGD"``, ..."""
    learning_rate: float | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    batch_size: int | None = None
    """Samples a GPU."""
    seed: int | None = None
    loss: str | None = None
    """The name or names of losses in the configuration."""
    total_steps: int | None = None
    """The planned length."""
    text: str = ""
    """The configuration as found, at most 200 kB of it. Untrusted: never to be run."""


@dataclass(frozen=True)
class TrainingLog:
    """A log as read."""

    path: Path
    """The file that was read; of several pieces the newest."""
    format: str
    """``"mmcv text"``, ``"mmcv json"``, ``"mmengine text"``, ``"mmengine scalars"``, ``"Lightning csv"``,
    ``"TensorBoard events"`` or ``"occlab run"``."""
    training: dict[str, Curve]
    """Under ``"loss"``, ``"learning_rate"`` and ``"gradient_norm"`` where recognised, the others under the log's own name."""
    validation: dict[str, Curve]
    """At the training step at which it was taken, where that can be told."""
    settings: LogSettings
    window: int | None
    """How many iterations one logged value is a mean over; 1: each its own; None: cannot be told."""
    restarts: tuple[int, ...]
    """Rows of the loss curve (of the longest curve where there is no loss) at which a resumed piece begins."""
    rows: int
    """Training rows read, those that were thinned out or repeated later included."""
    validation_rows: int
    notes: tuple[str, ...]
    """What had to be guessed or left out, a sentence each."""

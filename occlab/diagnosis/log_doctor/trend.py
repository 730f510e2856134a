"""Has a curve settled, at what level, and how surely?

A logged loss is noisy, so a slope alone says little: each is held against its own error. Where the last quarter of the rows is
too noisy to tell 1 % of the level, the last half is asked, then the last three quarters.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import theilslopes

FEWEST_ROWS = 20
"""Fewer rows say nothing about a slope. Chosen here: ten in the last half leave 30 % error on their own scatter."""
FLAT = 0.01
"""Settled: less than 1 % of the level from end to end of the last quarter, the usual meaning of "has stopped"."""
SURE = 3.0
"""A slope counts as one from 3 standard errors on."""
COARSE = 0.05
"""A window that cannot tell 5 % of the level (two standard errors) is too noisy, and a longer one is asked."""
STEADY = 0.6
"""A last quarter that changes by more than this share of what the two quarters before it did on average has not settled, it is
a slow decline. Calibrated on 99 recorded runs: networks that learn slowly give 0.7 to 1.1, stuck ones 0.05 to 0.57."""
POINTS = 200
"""Points of a fit: more are first put together in blocks."""

State = Literal["settled", "falling", "rising", "unclear"]


@dataclass(frozen=True)
class Trend:
    """How a curve ends."""

    state: State
    rows: int
    """Finite rows."""
    first: float
    level: float
    """Mean of the last quarter, without its outliers."""
    error: float
    """Standard error of the level, neighbouring rows not taken for independent."""
    change: float
    """From end to end of the window, by the Theil-Sen slope."""
    change_error: float
    window: float
    """Share of the rows that was asked: 0.25, 0.5 or 0.75."""
    longer: float
    """The change over the last three quarters."""
    arrived: float
    """Share of the run after which 95 % of the fall was done; 0 where there was none."""

    @property
    def fallen(self) -> float:
        """Share of the first value that is gone; 0 where the first value is 0."""
        return (self.first - self.level) / abs(self.first) if self.first else 0.0

    @property
    def stuck(self) -> bool:
        """Settled beyond doubt: flat for three quarters of the run, or at the end of a fall that has clearly slowed down."""
        slowed = abs(self.change) + self.change_error < STEADY * abs(self.longer) / 3
        return self.state == "settled" and (abs(self.longer) <= FLAT * abs(self.level) or (slowed and self.fallen > 8 * FLAT))

    @property
    def resolution(self) -> float:
        """The change that could not be told from noise, as a share of the level."""
        return 2 * self.change_error / abs(self.level) if self.level else 0.0


def trend(step: np.ndarray, value: np.ndarray) -> Trend | None:
    """How a curve ends; None of fewer than 20 finite rows.

    Shape:
        step, value: (N,), in order.
    """
    finite = np.isfinite(value)
    step, value = np.asarray(step, float)[finite], np.asarray(value, float)[finite]
    n = len(value)
    if n < FEWEST_ROWS:
        return None
    quarter = value[-max(n // 4, 10) :]
    level, error = mean_with_error(quarter)
    first = float(value[0])
    state: State = "unclear"
    changes = {w: change_with_error(step[-max(int(n * w), 10) :], value[-max(int(n * w), 10) :]) for w in (0.25, 0.5, 0.75)}
    longer, longer_error = changes[0.75]
    slow = longer < -FLAT * abs(level) and -longer > SURE * longer_error
    for window, (change, change_error) in changes.items():
        flat = FLAT * max(abs(level), 1e-12) * window / 0.25
        if abs(change) > flat and abs(change) > SURE * change_error:
            state = "falling" if change < 0 else "rising"
        elif window == 0.25 and slow and change < STEADY * longer / 3:
            state = "falling"
        elif 2 * change_error <= COARSE * abs(level) or (window == 0.75 and 2 * change_error <= 0.5 * abs(first - level)):
            state = "settled"
        else:
            continue
        break
    return Trend(state, n, first, level, error, change, change_error, window, longer, _arrived(value, first, level))


def thinned(step: np.ndarray, value: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """A curve as at most so many means of neighbouring rows."""
    if len(value) <= points:
        return np.asarray(step, float), np.asarray(value, float)
    edges = np.linspace(0, len(value), points + 1).astype(int)
    counts = np.diff(edges)
    return np.add.reduceat(step.astype(float), edges[:-1]) / counts, np.add.reduceat(value, edges[:-1]) / counts


def mean_with_error(value: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error; what lies more than 5 robust deviations off is drawn in."""
    value = without_outliers(value)
    blocks = np.array([block.mean() for block in np.array_split(value, min(10, len(value)))])
    of_rows, of_blocks = value.std(ddof=1) / np.sqrt(len(value)), blocks.std(ddof=1) / np.sqrt(len(blocks))
    return float(value.mean()), float(max(of_rows, of_blocks))


def change_with_error(step: np.ndarray, value: np.ndarray) -> tuple[float, float]:
    """What a straight line gains over the window, and its standard error."""
    x, y = thinned(step, without_outliers(value), POINTS)
    if x[-1] == x[0]:
        return 0.0, 0.0
    slope, intercept = theilslopes(y, x)[:2]
    rest = y - slope * x - intercept
    scatter = rest.std(ddof=2)
    together = float(np.clip((rest[1:] * rest[:-1]).sum() / max((rest**2).sum(), 1e-300), 0, 0.9))
    independent = len(y) * (1 - together) / (1 + together)
    return float(slope * (x[-1] - x[0])), float(scatter * np.sqrt(12 / max(independent, 3)))


def deviation(value: np.ndarray) -> float:
    """Robust standard deviation: the median distance from the median."""
    return float(1.4826 * np.median(np.abs(value - np.median(value)))) if len(value) else 0.0


def without_outliers(value: np.ndarray) -> np.ndarray:
    """Values more than 5 robust deviations from the median, drawn in to there; untouched where most are equal."""
    middle, spread = float(np.median(value)), deviation(value)
    return np.clip(value, middle - 5 * spread, middle + 5 * spread) if spread > 0 else value


def smoothed(value: np.ndarray, share: float = 0.05) -> np.ndarray:
    """Means of neighbouring rows, of a 20th of the rows each: at most 20 values."""
    blocks = np.array_split(value, max(1, min(round(1 / share), len(value) // 3)))
    return np.array([float(np.median(block)) for block in blocks])


def _arrived(value: np.ndarray, first: float, level: float) -> float:
    if first - level <= 2 * FLAT * abs(level):
        return 0.0
    blocks = smoothed(value)
    there = blocks <= level + 0.05 * (first - level) + 2 * deviation(value[-len(value) // 4 :]) / np.sqrt(
        len(value) / len(blocks)
    )
    return float((int(there.argmax()) + 1) / len(blocks)) if there.any() else 1.0

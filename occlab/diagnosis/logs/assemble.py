"""From rows collected to a log: names recognised, steps made global, restarts found."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from .curves import NAMES, Curves, Series
from .lines import clean
from .log import Curve, LogSettings, TrainingLog
from .names import recognise

Steps = Callable[[np.ndarray], np.ndarray]


def assemble(
    path: Path,
    form: str,
    curves: Curves,
    *,
    settings: LogSettings,
    rows: int,
    validation_rows: int,
    notes: list[str],
    window: int | None = None,
    steps: Steps = lambda raw: raw,
    validation_steps: Steps = lambda raw: raw,
) -> TrainingLog:
    """A log of what was collected.

    Args:
        steps: from what was kept as the step of a training row to the global step; must not reverse an order.
        validation_steps: the same for validation rows.
    """
    names, remarks = recognise({name: series.seen for name, series in curves.training.items()})
    nouns = set(names.values())
    training = {noun: _curve(curves.training[own], steps) for noun, own in names.items()}
    for name, series in curves.training.items():
        if name not in nouns:
            training.setdefault(
                clean(name) if clean(name) not in names else f"{clean(name)} (in the log)", _curve(series, steps)
            )
    validation = {clean(name): _curve(series, validation_steps) for name, series in curves.validation.items()}
    main = main_series(curves)
    restarts = _restarts(main, steps) if main else ()
    remarks = [*notes, *(clean(remark, 400) for remark in remarks)]
    for noun, own in names.items():
        if own not in (noun, "lr", "grad_norm"):
            remarks.append(f"{noun} is the log's {clean(own)}.")
    if main and main.left_out and main.restarts:
        kept = "goes on" if restarts else "starts over"
        remarks.append(f"The log {kept} after an interruption: {main.left_out} rows whose steps come again are left out.")
    stride = max((series.stride for series in (*curves.training.values(), *curves.validation.values())), default=1)
    if stride > 1:
        remarks.append(f"Of the long curves one row in {stride} is kept.")
    if curves.names_left_out:
        remarks.append(f"Curves beyond the first {NAMES}, or with very long names, are left out.")
    return TrainingLog(path, form, training, validation, settings, window, restarts, rows, validation_rows, tuple(remarks))


def main_series(curves: Curves) -> Series | None:
    """The loss, or the longest curve of training where there is no loss."""
    names, _ = recognise({name: series.seen for name, series in curves.training.items()})
    if "loss" in names:
        return curves.training[names["loss"]]
    return max(curves.training.values(), key=lambda series: series.seen, default=None)


def interval(series: Series | None, steps: Steps) -> int | None:
    """The most common distance of two logged rows, in steps."""
    if series is None or len(series.steps) < 2:
        return None
    distances = np.diff(steps(_raw(series))) // series.stride
    values, counts = np.unique(distances[distances > 0], return_counts=True)
    return int(values[counts.argmax()]) if len(values) else None


def _restarts(series: Series, steps: Steps) -> tuple[int, ...]:
    step = _curve(series, steps).step
    rows = np.searchsorted(step, steps(np.array(series.restarts, np.int64)))
    return tuple(sorted({int(row) for row in rows if 0 < row < len(step)}))


def _raw(series: Series) -> np.ndarray:
    return np.frombuffer(series.steps, np.int64) if len(series.steps) else np.zeros(0, np.int64)


def _curve(series: Series, steps: Steps) -> Curve:
    step = steps(_raw(series)).astype(np.int64)
    value = np.frombuffer(series.values, np.float64) if len(series.values) else np.zeros(0)
    if (np.diff(step) > 0).all():
        return Curve(step, value)
    last = step < np.append(np.minimum.accumulate(step[::-1])[-2::-1], np.iinfo(np.int64).max)
    return Curve(step[last], value[last])  # of steps that come again, or before one that came later, the last count

"""Rows of mmcv and mmengine logs, which count by epoch and iteration, collected into curves with global steps.

While a log is read, the length of an epoch may not be known yet. So a row's place is kept as one integer, the epoch in
its high bits and the iteration in its low ones, which keeps the order; it becomes a step at the end.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .assemble import Steps, assemble, interval, main_series
from .curves import Curves
from .lines import LARGEST_STEP
from .log import LogSettings, TrainingLog

BITS = 40
LARGEST_EPOCH = 1 << 22
NOT_MEASURED = {"lr", "base_lr", "momentum", "time", "data_time", "memory", "eta"}
"""What a validation row carries beside its metrics."""


class Row(NamedTuple):
    """A line of the log."""

    validation: bool
    epoch: int
    """From 1; 0 where the row does not say."""
    iteration: int
    """Of training rows: within the epoch, or from the start of the run. Of validation rows: the training iteration if it is
    known, else 0."""
    values: Iterable[tuple[str, float]]


@dataclass
class Found:
    """What a reader learns of a log beside its rows."""

    form: str = ""
    config: str = ""
    seed: int | None = None
    epoch_length: int = 0
    """As the log says it; 0: it does not."""
    epochs: int = 0
    """Planned, as the log says it."""
    total_steps: int = 0
    counts_on: bool | None = None
    """Whether iterations count on over epochs. None: to be told from the rows."""
    not_understood: int = 0
    too_long: int = 0
    notes: list[str] = field(default_factory=list)


class RowCollector:
    """Puts rows into curves, and knows how to make their places steps."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.curves = Curves()
        self.rows = self.validation_rows = 0
        self.epoch = self.iteration = 0
        """Of the last training row."""
        self._longest = 0
        self._by_epoch = True  # what the validation rows count
        self._rises = self._falls = 0
        self._begun = 0  # the iteration of the first row of this epoch
        self._lengths: Counter[int] = Counter()

    def collect(self, rows: Iterator[Row]) -> None:
        """Take up the rows of one file; each file after the first is a piece that was resumed."""
        curves = self.curves
        resumed, paused = self.rows > 0, True
        for row in rows:
            if row.validation:
                self._validation(row)
                paused = True
                continue
            epoch, iteration = row.epoch, row.iteration
            place = epoch << BITS | iteration
            if epoch != self.epoch:
                self._new_epoch(epoch, iteration)
            reached = self.epoch << BITS | self.iteration
            if resumed or place < reached or (place == reached and paused and self.rows):
                curves.go_back(place)
                resumed = False
            paused = False
            self.epoch, self.iteration = epoch, iteration
            self._longest = max(self._longest, iteration)
            self.rows += 1
            curves.add(curves.training, place, row.values)

    def _new_epoch(self, epoch: int, iteration: int) -> None:
        if epoch > self.epoch > 0:
            if iteration > self.iteration:
                self._rises += 1
            else:
                self._falls += 1
            if epoch == self.epoch + 1 and len(self._lengths) < 1000:
                self._lengths[iteration - self._begun] += 1
        self._begun = iteration

    def _validation(self, row: Row) -> None:
        values = [(name, value) for name, value in row.values if name not in NOT_MEASURED]
        if not values:  # progress of an evaluation, no result
            return
        epoch = row.epoch or self.epoch
        iteration = row.iteration or (self.iteration if epoch == self.epoch else 0)
        self._by_epoch = not row.iteration
        if row.iteration:
            epoch = self.epoch  # so that places keep their order
        self.validation_rows += 1
        self.curves.add(self.curves.validation, epoch << BITS | iteration, values)

    @property
    def counts_on(self) -> bool:
        said = self.found.counts_on
        return self._rises > 0 and self._falls == 0 if said is None else said

    @property
    def epoch_length(self) -> int:
        """Iterations an epoch; 0 where it plays no part."""
        if not self.counts_on:
            return max(self.found.epoch_length, self._longest, 1)
        lengths = [(count, length) for length, count in self._lengths.items() if length > 0]
        return max(lengths)[1] if lengths and self.found.counts_on else 0

    def steps(self, places: np.ndarray) -> np.ndarray:
        """Global steps of training rows."""
        epoch, iteration = places >> BITS, places & (LARGEST_STEP - 1)
        if self.counts_on:
            return iteration
        return (np.maximum(epoch, 1) - 1) * self.epoch_length + iteration

    def validation_steps(self, places: np.ndarray) -> np.ndarray:
        """Global steps of validation rows: the end of the epoch, where they go by epochs."""
        epoch, iteration = places >> BITS, places & (LARGEST_STEP - 1)
        ends = epoch * self.epoch_length
        if self.counts_on:
            return np.maximum(ends, iteration) if self._by_epoch else iteration
        return ends

    def log(
        self, path: Path, settings: LogSettings, *, window: int | None, windowed: bool = False, epochs: int = 0
    ) -> TrainingLog:
        """The log.

        Args:
            window: as the configuration says it.
            windowed: a value is the mean since the row before it, as in mmcv.
            epochs: planned, as the configuration says it.
        """
        found, main = self.found, main_series(self.curves)
        steps: Steps = self.steps
        every = interval(main, steps) if windowed else None
        notes = list(found.notes)
        if not self.counts_on and not found.epoch_length and self.epoch > 1:
            notes.append(f"An epoch is taken to have {self.epoch_length} iterations, the largest number seen.")
        if found.not_understood:
            notes.append(f"{found.not_understood} lines were not understood.")
        if found.too_long:
            notes.append(f"{found.too_long} lines of over 1 MB are left out.")
        total = found.total_steps or settings.total_steps or (found.epochs or epochs) * self.epoch_length or None
        return assemble(
            path,
            found.form,
            self.curves,
            settings=replace(settings, total_steps=total, seed=settings.seed if settings.seed is not None else found.seed),
            rows=self.rows,
            validation_rows=self.validation_rows,
            notes=notes,
            window=window or every,
            steps=steps,
            validation_steps=self.validation_steps,
        )

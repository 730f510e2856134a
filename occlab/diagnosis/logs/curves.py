"""Curves that are filled row by row, in memory that does not grow with the log."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable

ROWS = 200_000
"""Most rows kept of one curve."""
VALUES = 4_000_000
"""Most values kept of all curves together, 16 bytes each."""
NAMES = 512
LONGEST_NAME = 200
RESTARTS = 1000


class Series:
    """One curve. When it is full every second row is dropped, and from then on every second one is not taken up."""

    __slots__ = ("last", "left_out", "restarts", "seen", "steps", "stride", "values")

    def __init__(self) -> None:
        self.steps = array("q")
        self.values = array("d")
        self.stride = 1
        """One row in so many is kept."""
        self.seen = 0
        self.last = -1
        """The step of the last row, kept or not."""
        self.left_out = 0
        """Rows that were replaced by those of a restart."""
        self.restarts: list[int] = []
        """Steps at which a resumed piece begins."""

    def thin(self, most: int) -> None:
        """Drop every second row until no more than so many are left."""
        while len(self.steps) > most:
            del self.steps[1::2], self.values[1::2]
            self.stride *= 2

    def go_back(self, step: int, *, restart: bool = True) -> None:
        """Drop the rows from a step on, which are about to come again."""
        if restart and self.last >= 0:
            self.restarts = [*[s for s in self.restarts if s < step][: RESTARTS - 1], step]
        first = bisect_left(self.steps, step)
        self.left_out += (len(self.steps) - first) * self.stride
        del self.steps[first:], self.values[first:]
        self.last = min(self.last, step - 1)


class Curves:
    """The curves of a log, those of training and those of validation."""

    def __init__(self) -> None:
        self.training: dict[str, Series] = {}
        self.validation: dict[str, Series] = {}
        self.names_left_out = False
        self.most = ROWS

    def add(self, group: dict[str, Series], step: int, values: Iterable[tuple[str, float]]) -> None:
        """One row. The group is ``self.training`` or ``self.validation``."""
        most = self.most
        for name, value in values:
            series = group.get(name)
            if series is None:
                series = self._new(group, name)
                if series is None:
                    continue
                most = self.most
            if step <= series.last:
                series.go_back(step, restart=step < series.last)  # the same step again is a correction
            series.last = step
            if series.seen % series.stride == 0:
                series.steps.append(step)
                series.values.append(value)
                if len(series.steps) > most:
                    series.thin(most)
            series.seen += 1

    def go_back(self, step: int) -> None:
        """A restart: what lies at or behind a step is about to come again."""
        for series in (*self.training.values(), *self.validation.values()):
            series.go_back(step)

    def _new(self, group: dict[str, Series], name: str) -> Series | None:
        names = len(self.training) + len(self.validation) + 1
        if names > NAMES or len(name) > LONGEST_NAME:
            self.names_left_out = True
            return None
        self.most = min(ROWS, VALUES // names)
        return group.setdefault(name, Series())

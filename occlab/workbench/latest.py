"""Jobs that overtake each other: while one is being done, only the last of those asked for waits."""

from collections.abc import Callable
from typing import Any

from .desk import Desk


class Latest:
    """Jobs of one kind in the background, one at a time.

    Args:
        what: the jobs in a few words.
    """

    def __init__(self, desk: Desk, what: str) -> None:
        self._desk, self._what, self._next = desk, what, None
        self.busy = False
        """Whether one is being done."""

    def ask(self, job: Callable[[], Any], then: Callable[[Any], Any], failed: Callable[[Exception], Any] | None = None) -> None:
        """As :meth:`Desk.work`; a job that waits is forgotten for this one."""
        self._next = (job, then, failed or self._desk.fail)
        if not self.busy:
            self._begin()

    def _begin(self) -> None:
        (job, then, failed), self._next, self.busy = self._next, None, True
        self._desk.work(job, lambda result: self._end(then, result), lambda e: self._end(failed, e), what=self._what)

    def _end(self, tell: Callable[[Any], Any], result: Any) -> None:
        self.busy = False
        if self._next is not None:
            self._begin()
        tell(result)

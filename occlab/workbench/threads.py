"""What crosses from one thread to another: news of the training to those who listen, and their questions to it."""

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from typing import Any


class Listeners:
    """Functions that are told that something has changed. None of them can break what it listens to.

    Args:
        about: what they are called with.
    """

    def __init__(self, about: Any) -> None:
        self._about, self._listeners, self._told = about, (), 0.0
        self.error: Exception | None = None
        """The first error that one of them raised; it was warned of, later ones are not."""

    def add(self, listener: Callable[[Any], Any]) -> Callable[[], None]:
        """Returns a function that takes it away again."""
        self._listeners += (listener,)

        def forget() -> None:
            self._listeners = tuple(other for other in self._listeners if other is not listener)

        return forget

    def clear(self) -> None:
        self._listeners = ()

    def tell(self, at_most_every: float = 0.0) -> None:
        """Call them all, unless they were called less than so many seconds ago."""
        if time.monotonic() - self._told < at_most_every:
            return
        self._told = time.monotonic()
        for listener in self._listeners:
            try:
                listener(self._about)
            except Exception as error:
                if self.error is None:
                    self.error = error
                    with suppress(RuntimeWarning):  # where warnings are made errors
                        warnings.warn(f"a listener failed: {error!r}", RuntimeWarning, stacklevel=2)


class Questions:
    """Questions to the thread that trains, which it answers where it has time.

    Args:
        changed: notified of every question.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self._changed, self._waiting, self._thread = changed, deque(), None

    def __len__(self) -> int:
        return len(self._waiting)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Within it the calling thread answers; after it nobody does, and those who wait are told so."""
        with self._changed:
            self._thread = threading.current_thread()
        try:
            yield
        finally:
            with self._changed:
                self._thread, waiting = None, [*self._waiting]
                self._waiting.clear()
            for _, answer in waiting:
                answer.cancel()

    def answer_all(self, subject: Any) -> None:
        """Answer those that wait, in their order."""
        while True:
            with self._changed:
                if not self._waiting:
                    return
                question, answer = self._waiting.popleft()
            try:
                answer.set_result(question(subject))
            except Exception as error:
                answer.set_exception(error)

    def ask(self, question: Callable[[Any], Any], subject: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        """The answer of the thread that trains; of ``otherwise()`` where there is none.

        Args:
            subject: what the question is about where the thread asks itself.
        """
        with self._changed:
            thread, answer = self._thread, Future()
            if thread not in (None, threading.current_thread()):
                self._waiting.append((question, answer))
                self._changed.notify_all()
        if thread is threading.current_thread():
            return question(subject())
        if thread is not None:
            with suppress(CancelledError):  # it ended before it came to this one
                return answer.result()
        return question(otherwise())


def without_frames(error: BaseException) -> BaseException:
    """An error that may be kept: neither it nor what led to it holds the frames that it came through."""
    left = [error]
    while left:
        one = left.pop()
        one.__traceback__ = None
        left += [other for other in (one.__cause__, one.__context__) if other is not None and other.__traceback__ is not None]
    return error

"""One training in a background thread, steered while it runs: from a screen, a notebook's cell or a test.

>>> with Session(config, frames) as session:  # doctest: +SKIP
...     session.start()
...     session.learning_rate = 1e-3
...     session.pause()
"""

import atexit
import copy
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import OcclabError
from ..frames import Frame
from ..models import OccupancyUNet
from ..settings import home
from ..training import Step, TrainConfig
from .open_run import OpenRun, Snapshots, free_memory
from .run_folder import Plan, TakenError, plan_of, start_over
from .threads import Listeners, Questions, without_frames

TELL_EVERY = 0.2
"""Seconds between two calls of the listeners, but for changes of state."""

_ACTIVE = ("running", "waiting", "paused")


class _Stopped(CancelledError):  # noqa: N818
    """Ends the thread; no error. A question that it interrupts was cancelled, and is answered from the disk."""


class Session:
    """One training, in the folder that :func:`occlab.training.train` keeps it in: each finds what the other left.

    The controls return at once, but for :meth:`stop`, :meth:`reset` and :meth:`close`, which wait for the step in progress,
    and :meth:`look` and :meth:`model`, which wait for the next moment between two steps.

    - A finished run is found and shown, not trained again; :meth:`reset` trains it again, in a folder beside it.
    - A run whose learning rate was moved goes on in a folder of its own (:attr:`folder`), which says so.
    - While another session or process trains in the folder, this one is "waiting", and can be stopped.

    Args:
        held_out: frames the network never trains on, for the summary.
        name: first part of a new folder's name.
        root: where run folders lie; by default ``settings.home() / "runs"``.
    """

    def __init__(
        self,
        config: TrainConfig,
        frames: Sequence[Frame],
        held_out: Sequence[Frame] = (),
        *,
        name: str = "run",
        root: Path | None = None,
    ) -> None:
        self._begin(Plan(config, tuple(frames), tuple(held_out), name, root or home() / "runs"))

    @classmethod
    def of(cls, folder: Path, frames: Sequence[Frame]) -> "Session":
        """A session that goes on with the run of a folder, as :func:`unfinished` lists them.

        Args:
            frames: among which those of the run are, training and held out, in any order.

        Raises:
            OcclabError: a damaged folder, a frame that is missing, or a run that other code began.
        """
        folder = Path(folder).resolve()
        session = cls.__new__(cls)
        session._begin(plan_of(folder, tuple(frames)), folder)
        session._run.read()
        session._state = "finished" if session._run.finished else "stopped"
        if not session._run.rates:
            session._home = folder
        return session

    def _begin(self, plan: Plan, folder: Path | None = None) -> None:
        self._plan, self._home = plan, plan.folder
        """Where the run of the configuration lies; that of a rate moved by hand lies elsewhere."""
        self._run = OpenRun(plan, folder or self._home)
        self._state, self._thread = "idle", None
        self._changed = threading.Condition()
        self._questions, self._listeners = Questions(self._changed), Listeners(self)
        self._stopping = self._pausing = None  # who stopped or paused it: of two, the later counts
        self._singles, self._wanted_rate = 0, None
        self.message = ""
        """What there is to say about the state, in one sentence: why it failed, or what it waits for."""
        self.error: BaseException | None = None
        """What ended the training, where the state is "failed"."""
        self.traceback = ""
        """The error's traceback, as text."""

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def config(self) -> TrainConfig:
        return self._plan.config

    @property
    def frames(self) -> tuple[Frame, ...]:
        """What the network trains on."""
        return self._plan.frames

    @property
    def held_out(self) -> tuple[Frame, ...]:
        """What it never trains on."""
        return self._plan.held_out

    @property
    def name(self) -> str:
        """First part of the folder's name."""
        return self._plan.name

    @property
    def folder(self) -> Path:
        """The run's folder at present; :func:`occlab.training.load_run` reads it at any time."""
        return self._run.folder

    @property
    def state(self) -> str:
        """One of "idle", "waiting", "running", "paused", "stopped", "finished" and "failed"."""
        return self._state

    @property
    def error_of_listener(self) -> Exception | None:
        """The first error that a listener raised."""
        return self._listeners.error

    @property
    def steps(self) -> list[Step]:
        """The steps in the run's log so far."""
        return list(self._run.steps)

    @property
    def steps_made(self) -> int:
        """Updates in the network's weights; less than ``len(steps)`` while a run that was killed repeats its last steps."""
        return self._run.made

    @property
    def snapshots(self) -> Snapshots:
        """Probabilities (Z, Y, X) of the first frame, to 1/256, by step: those of ``config.snapshot_steps`` and of
        :meth:`look`."""
        return Snapshots(dict(self._run.bins))

    @property
    def remaining_seconds(self) -> float | None:
        """What the steps that are left will take, by the last twenty; None before the first."""
        return 0.0 if self._state == "finished" else self._run.remaining_seconds

    @property
    def learning_rate(self) -> float:
        """The base learning rate of the next step. Setting it replaces the schedule, from the next step on."""
        wanted, run = self._wanted_rate, self._run
        return run.rate(run.made) if wanted is None else wanted

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        rate = TrainConfig(learning_rate=rate).learning_rate  # says what a rate must be
        with self._changed:
            if self._state == "finished":
                raise OcclabError("the run is finished, and its learning rate can no longer change; reset it first")
            self._wanted_rate = rate
            self._changed.notify_all()

    def start(self) -> None:
        """Begin; or go on, after a pause in memory, else from where the run on the disk stands."""
        self._launch(0)

    resume = start

    def pause(self) -> None:
        """Hold after the step in progress. The folder stays taken, and the network in memory."""
        self.hold()

    def hold(self) -> Callable[[], None]:
        """:meth:`pause`; returns a function that takes the pause back, also before it has taken effect. That function starts
        nothing that has ended, and does nothing where another control was used since."""
        with self._changed:
            before, mine = (self._pausing, self._singles), object()
            self._pausing, self._singles = mine, 0
            self._changed.notify_all()

        def give_back() -> None:
            with self._changed:
                if self._pausing is mine:
                    self._pausing, self._singles = before
                    self._changed.notify_all()

        return give_back

    def step(self, n: int = 1) -> None:
        """Make ``n`` steps more, then be paused; begins where nothing runs."""
        if type(n) is not int or n < 1:
            raise OcclabError(f"step takes a whole number of at least 1, got {n!r}")
        self._launch(n)

    def stop(self, *, wait: bool = True) -> None:
        """End the training after the step in progress; its folder keeps every step, and :meth:`start` goes on.

        Args:
            wait: until the thread is gone. From a listener it never waits.
        """
        with self._changed:
            self._stopping, self._pausing, self._singles = object(), None, 0
            self._changed.notify_all()
            thread = self._thread
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join()

    def reset(self) -> None:
        """Back to step 0, with the same initial weights. What was trained on the way is removed, but for a finished run that
        its configuration's hash finds, and for runs whose learning rate was moved.

        Raises:
            TakenError: another session or process trains in the folder.
            OcclabError: called from a listener.
        """
        if self._thread is threading.current_thread():
            raise OcclabError("a listener cannot reset the session that calls it; reset it from elsewhere")
        self.stop()
        self._home = start_over(self._plan, self._home)
        self._run = OpenRun(self._plan, self._home)
        self._wanted_rate, self.error, self.traceback = None, None, ""
        self._become("idle")

    def close(self) -> None:
        """Stop, and forget the listeners."""
        self.stop()
        self._listeners.clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it no longer runs: until it is paused, stopped, finished or failed. False where that took longer."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._busy(), timeout):
                return False
            thread = None if self._state in _ACTIVE else self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)  # which only clears up
        return True

    def _busy(self) -> bool:
        held = self._state == "paused" and self._pausing and not self._singles and not self._stopping
        return self._state in _ACTIVE and not held

    def look(self) -> tuple[int, Tensor]:
        """After how many steps the network stands, and its probabilities (Z, Y, X) of the first frame: a new snapshot."""
        step, bins = self._ask(OpenRun.look)
        return step, Snapshots({step: bins})[step]

    def model(self) -> tuple[int, OccupancyUNet]:
        """After how many steps the network stands, and a copy of it, on the CPU and in eval mode."""
        return self._ask(lambda run: (run.made, copy.deepcopy(run.model).cpu().eval()))

    def listen(self, listener: Callable[["Session"], Any]) -> Callable[[], None]:
        """Have a function called with this session: from the training thread at every change of state, and at most five
        times a second between. What it raises is warned of once, and kept in :attr:`error_of_listener`.

        Returns:
            a function that ends it.
        """
        return self._listeners.add(listener)

    def _become(self, state: str, message: str = "") -> None:
        with self._changed:
            self._state, self.message = state, message
            if state not in _ACTIVE and not self._stopping:  # what was left of it is not asked of the next training
                self._pausing, self._singles = None, 0
            if state == "finished":
                self._wanted_rate = None  # it came after the last step
            self._changed.notify_all()
        self._listeners.tell()

    def _ask(self, question: Callable[[OpenRun], Any]) -> Any:
        """The answer of the run between two steps; of the run on the disk where none is in memory."""

        def asleep() -> OpenRun:
            kept = self._run  # a reset meanwhile puts another in its place
            run = OpenRun(self._plan, kept.folder)
            run.load()
            run.bins = kept.bins
            return run

        return self._questions.ask(question, lambda: self._run, asleep)

    def _launch(self, singles: int) -> None:
        """See to it that a thread trains: so many steps more, and is paused then; 0: to the end."""
        with self._changed:
            self._pausing, self._singles = (object(), self._singles + singles) if singles else (None, 0)
            self._changed.notify_all()
            old, here, stopping = self._thread, self._thread is threading.current_thread(), self._stopping
            if self._state in _ACTIVE and (here or not stopping):
                self._stopping = None
                return
        if old is not None and not here:
            old.join()
        with self._changed:
            if self._thread is not old or self._stopping is not stopping:  # two callers at once, or a stop since
                return
            self._stopping, self._state = None, "running"
            self.error, self.message, self.traceback = None, "", ""
            self._thread = threading.Thread(target=self._work, name=f"occlab {self._plan.name}", daemon=True)
            atexit.register(self.stop)
            self._thread.start()

    # From here on everything happens in the thread.

    def _work(self) -> None:
        run, state, message = OpenRun(self._plan, self._run.folder, self._check), "stopped", ""
        try:
            self._listeners.tell()
            try:
                self._take(run)
                if run.finished and self._wanted_rate is not None:  # what is finished had another rate
                    run.close()
                    self._home = start_over(self._plan, run.folder)
                    run = OpenRun(self._plan, self._home, self._check)
                    self._take(run)
                if not run.finished:
                    self._train(run)
                state = "finished"
            except _Stopped:
                run.leave()
        except BaseException as error:  # whatever it is, the controls stay usable
            self.traceback = traceback.format_exc()
            self.error = without_frames(error)  # which would keep the network alive
            state, message = "failed", str(error) or type(error).__name__
        finally:
            with suppress(OSError):
                run.close()
        atexit.unregister(self.stop)
        self._become(state, message)
        del run
        free_memory()

    def _check(self) -> None:
        if self._stopping:
            raise _Stopped

    def _take(self, run: OpenRun) -> None:
        """Open the run, once nobody else trains in its folder."""
        while True:
            self._check()
            try:
                run.open()
                break
            except TakenError as error:
                if self._state != "waiting":
                    self._become("waiting", str(error))
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, TELL_EVERY)
        self._run = run
        if self._state == "waiting":
            self._become("running")

    def _train(self, run: OpenRun) -> None:
        run.prepare()
        with self._questions.open():
            while run.made < self.config.steps:
                self._between_steps(run)
                run.make_step()
                self._listeners.tell(at_most_every=TELL_EVERY)
        run.finish()

    def _between_steps(self, run: OpenRun) -> None:
        """Do what was asked for, and hold while paused."""
        while True:
            self._questions.answer_all(run)
            rate = self._wanted_rate
            if rate is not None:
                run.move_rate(rate)
            with self._changed:
                self._check()
                if self._wanted_rate == rate:
                    self._wanted_rate = None
                if self._questions or self._wanted_rate is not None:
                    continue
                if not self._pausing or self._singles:
                    self._singles -= bool(self._singles)
                    resumed, self._state = self._state != "running", "running"
                    break
                if self._state == "paused":
                    self._changed.wait()
                    continue
            self._become("paused")
        if resumed:
            self._listeners.tell()

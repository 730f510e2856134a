"""A design that is made in the background, run by run: it can be cancelled within a second, and is gone on with tomorrow.

The runs are ordinary runs. They are found again by their hash, whoever made them. Beside the design's file, ``NAME.yaml``, lies
``NAME.csv``, with a row a run as far as they are made; ``NAME.about.json`` says where it comes from.
"""

import atexit
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean, median
from types import SimpleNamespace
from typing import Any

import torch

from ..ablation import Design, Row, read_design, write_table
from ..ablation.engines import plan
from ..ablation.rows import Task, done_row, failed_row, note_making
from ..errors import OcclabError
from ..frames import Frame
from ..provenance import provenance
from ..training import Run, TrainConfig, load_run
from .kept_designs import begin_with
from .open_run import OpenRun
from .run_folder import Plan, TakenError, checkpoint_step
from .threads import Listeners

TELL_EVERY = 0.2
"""Seconds between two calls of the listeners, but for changes of state and finished runs."""
ASK_AGAIN = 1.0
"""Seconds after which a folder in which somebody else trains is tried again."""

# --- what is made already, and how long the rest will take ---------------------------------------------------------------


def tasks_of(design: Design, frames: Sequence[Frame], held_out: Sequence[Frame]) -> list[Task]:
    """The runs of a design, in the order in which they are made: all arms of a seed before any of the next."""
    # Every fingerprint is a hash of megabytes: taken once, and not once for every run.
    prints = [[SimpleNamespace(fingerprint=frame.fingerprint) for frame in group] for group in (frames, held_out)]
    return plan(design, *prints)


def made_runs(root: Path) -> dict[str, Path]:
    """The folders of the finished runs, by hash."""
    return {path.parent.name.rpartition("-")[2]: path.parent for path in sorted(root.glob("*/summary.json"), reverse=True)}


class Pace:
    """How long a step takes on this machine, from the logs of runs that were finished on it.

    Args:
        runs: unfinished ones, and those of another kind of device, are left out.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._measured: dict[Any, list[float]] = {}
        for run in runs:
            if run.summary is not None and run.steps and str(run.summary.get("device")).startswith(device):
                for likeness in _likenesses(run.config):
                    self._measured.setdefault(likeness, []).append(median(step.seconds for step in run.steps))

    def of(self, config: TrainConfig) -> float | None:
        """Seconds a step: of runs of this network, else of those of its grid, width and batch, else None."""
        return next((fmean(self._measured[key]) for key in _likenesses(config) if key in self._measured), None)

    def of_all(self, left: Iterable[tuple[TrainConfig, int]]) -> float | None:
        """Seconds for runs with so many steps left; None where one is of no known pace."""
        each = [(self.of(config), steps) for config, steps in left]
        return None if any(pace is None for pace, _ in each) else sum(pace * steps for pace, steps in each)


def _likenesses(config: TrainConfig) -> tuple[Any, ...]:
    model, size = config.model, (config.grid, config.model.width, config.batch_size)
    network = (model.stem, model.channels, model.head_channels, model.block, model.attention, model.skip)
    return (*size, *network, config.precision), size


# --- making them ------------------------------------------------------------------------------------------------------


class _Cancelled(Exception):  # noqa: N818
    """Ends the thread; no error."""


class Sweep:
    """The runs of a design, one after another in one thread.

    The controls return at once, but for :meth:`close` and :meth:`wait`. A run that fails is a row with its sentence, and the
    others go on. Where somebody else trains in a run's folder, that run comes last, and is waited for.

    Args:
        path: of the design's file.
        frames: to train on; always those that the design was begun with.
        root: where run folders lie.
        source: where the frames come from, in words.

    Raises:
        OcclabError: no design there, or one that was begun with other frames.
    """

    def __init__(self, path: Path, frames: Sequence[Frame], held_out: Sequence[Frame], *, root: Path, source: str = "") -> None:
        self.path, self.root = Path(path), Path(root)
        self.frames, self.held_out = tuple(frames), tuple(held_out)
        self.design: Design = read_design(self.path)
        begin_with(self.path, self.frames, self.held_out, source)
        self.tasks: list[Task] = tasks_of(self.design, self.frames, self.held_out)
        self.task: Task | None = None
        """The run in the making."""
        self.step = 0
        """Its updates so far."""
        self.message = ""
        """What there is to say about the state, in one sentence."""
        self.traceback = ""
        """Where the state is "failed"."""
        self._state, self._cancelling = "idle", False
        self._rows: dict[str, Row] = {}
        self._spent: list[tuple[int, float]] = []  # of each run made since the start: steps and seconds
        self._begun: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._listeners = Listeners(self)
        self.find()

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def state(self) -> str:
        """One of "idle", "running", "waiting", "cancelled", "finished" and "failed"."""
        return self._state

    @property
    def active(self) -> bool:
        return self._state in ("running", "waiting")

    @property
    def rows(self) -> list[Row]:
        """A row for each run that is made or has failed, in the order of :attr:`tasks`."""
        rows = dict(self._rows)
        return [rows[task.hash] for task in self.tasks if task.hash in rows]

    def find(self) -> None:
        """Read what lies on the disk: the rows of finished runs, and how far others are. A run that failed is tried again."""
        made, rows, begun = made_runs(self.root), {}, {}
        for task in self.tasks:
            try:
                if task.hash in made:
                    rows[task.hash] = done_row(task, load_run(made[task.hash]))
                else:
                    begun[task.hash] = max(map(checkpoint_step, self.root.glob(f"*-{task.hash}")), default=0)
            except OcclabError as error:
                rows[task.hash] = failed_row(task, str(error), 1, None)
        self._rows, self._begun = rows, begun

    @property
    def steps_made(self) -> int:
        """Updates of all runs together; a run that failed counts as made."""
        return sum(map(self._made, self.tasks))

    def _made(self, task: Task) -> int:
        if task.hash in self._rows:
            return task.config.steps
        return self.step if task is self.task else self._begun.get(task.hash, 0)

    def seconds_left(self, pace: Pace) -> float | None:
        """About how long the runs that are left will take: by those that were made since the start, evaluation included, else
        by the pace of earlier ones; None where that is not known either."""
        steps = [(task.config, task.config.steps - self._made(task)) for task in self.tasks if task.hash not in self._rows]
        if not self._spent:
            return pace.of_all(steps)
        a_step = sum(seconds for _, seconds in self._spent) / sum(n for n, _ in self._spent)
        return a_step * sum(n for _, n in steps)

    def start(self) -> None:
        """Begin, or go on."""
        if self.active and not self._cancelling:
            return
        self.wait()  # for a step, where it was just cancelled
        self._cancelling, self.message, self.traceback, self._spent = False, "", "", []
        self._state = "running"
        self._thread = threading.Thread(target=self._work, name=f"occlab sweep {self.name}", daemon=True)
        atexit.register(self.close)
        self._thread.start()

    def cancel(self) -> None:
        """End after the step in progress. What is made stays, and :meth:`start` goes on."""
        with self._changed:
            self._cancelling = True
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it no longer runs; False where that took longer."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return thread is None
        thread.join(timeout)
        return not thread.is_alive()

    def close(self) -> None:
        """Cancel, wait for the thread, and forget the listeners."""
        self.cancel()
        self.wait()
        self._listeners.clear()

    def listen(self, listener: Callable[["Sweep"], Any]) -> Callable[[], None]:
        """Have a function called with this sweep, from its thread: at every change of state, after every run, and at most five
        times a second between. Returns a function that ends it."""
        return self._listeners.add(listener)

    # From here on everything happens in the thread.

    def _work(self) -> None:
        state, message = "finished", ""
        try:
            self._listeners.tell()
            self._make_all()
        except _Cancelled:
            state = "cancelled"
        except Exception as error:  # such as a full disk; the controls stay usable
            self.traceback = traceback.format_exc()
            state, message = "failed", _sentence(error)
        finally:
            atexit.unregister(self.close)
        self.task, self.step = None, 0
        self._become(state, message)

    def _become(self, state: str, message: str = "") -> None:
        self._state, self.message = state, message
        self._listeners.tell()

    def _check(self) -> None:
        if self._cancelling:
            raise _Cancelled

    def _make_all(self) -> None:
        self.find()
        made = provenance(f"occlab workbench, the design {self.name} under Ablate", threads=False)
        self._write(made)
        left = deque(task for task in self.tasks if task.hash not in self._rows)
        refused = 0
        while left:
            self._check()
            task = left.popleft()
            try:
                self._rows[task.hash] = self._make(task)
            except TakenError as error:
                left.append(task)
                refused += 1
                if refused == len(left):  # somebody trains in every one of them
                    self._wait_a_little(str(error))
                    refused = 0
                continue
            refused, self.task, self.step = 0, None, 0
            self._write(made)
            self._listeners.tell()

    def _make(self, task: Task) -> Row:
        """One run, and its row; of a run that failed, too.

        Raises:
            TakenError: somebody else trains in its folder.
        """
        whole = Plan(task.config, self.frames, self.held_out, task.name, self.root)
        run, threads = OpenRun(whole, whole.folder, self._check), torch.get_num_threads()
        try:
            run.open()
            self.task, self.step = task, run.made
            self._become("running")
            if not run.finished:
                self._train(run)
                note_making(run.folder, threads, 1)
            return done_row(task, load_run(run.folder))
        except TakenError:
            raise
        except _Cancelled:
            run.leave()
            self._begun[task.hash] = run.saved
            raise
        except Exception as error:  # one run's fault should not cost the others
            return failed_row(task, _sentence(error), 1, threads)
        finally:
            with suppress(OSError):
                run.close()

    def _train(self, run: OpenRun) -> None:
        began, before = time.monotonic(), run.made
        run.prepare()
        while run.made < run.plan.config.steps:
            self._check()
            run.make_step()
            self.step = run.made
            self._listeners.tell(at_most_every=TELL_EVERY)
        run.finish()
        if run.made > before:
            self._spent.append((run.made - before, time.monotonic() - began))

    def _write(self, made: dict[str, Any]) -> None:
        text = self.path.read_text(encoding="utf-8")
        write_table(self.rows, self.path.with_suffix(".csv"), design=text, made=made)

    def _wait_a_little(self, why: str) -> None:
        self.task, self.step = None, 0
        self._become("waiting", why)
        with self._changed:
            self._changed.wait_for(lambda: self._cancelling, ASK_AGAIN)


def _sentence(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    return str(error) if isinstance(error, OcclabError) else f"{type(error).__name__}: {first}"

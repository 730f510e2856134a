"""What the tabs of a workbench share: the set-up, the training in hand, the runs on the disk; and who is told of what.

Widgets may be touched by one thread at a time, and by none of those that trainings and long calculations run on: these hand
their news over with :meth:`Desk.post`. The browser's messages come where cells run, but for JupyterLab 4.4 and later, which has
some of them handled beside the cells, on a thread of their own (a kernel subshell): see :data:`ALONE`.
"""

import asyncio
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from IPython import get_ipython

from ..errors import OcclabError
from ..files import stamp
from ..frames import Frame
from ..settings import home, profile
from ..training import Run, TrainConfig, fast_precision, load_run, preset
from .session import Session

Event = Literal["setup", "session", "progress", "runs", "reference", "theme", "error"]
"""What there is to be told of.

- ``setup``: the configuration or the frames were changed.
- ``session``: another training is in hand.
- ``progress``: the training in hand made steps, or its state has changed; at most five times a second between.
- ``runs``: a run was begun, finished or removed on the disk.
- ``reference``: another run was pinned.
- ``theme``: the page became dark or light.
- ``error``: something failed that no tab takes care of; :attr:`Desk.error` holds it.
"""

T = TypeVar("T")

ALONE = threading.RLock()
"""Held by whoever touches widgets: while a message of the browser is handled, and while what was posted is called."""


def _handle_messages_alone() -> None:
    """Have this kernel handle the messages of its widgets under :data:`ALONE`."""
    handlers = getattr(getattr(get_ipython(), "kernel", None), "shell_handlers", {})
    handle = handlers.get("comm_msg")
    if handle is None or getattr(handle, "is_alone", False):
        return

    def alone(*message: Any) -> Any:
        with ALONE:
            return handle(*message)

    alone.is_alone = True
    handlers["comm_msg"] = alone


class Desk:
    """Made on the thread that widgets may be touched on; its methods but :meth:`post` are for that thread.

    Args:
        root: where run folders lie; by default ``settings.home() / "workbench" / "runs"``, apart from those of the course.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = Path(root or home() / "workbench" / "runs").resolve()
        self.config: TrainConfig = preset("as-it-stood", profile().for_sweeps(), precision=fast_precision())
        """What is trained next."""
        self.name = "as it stood"
        """The configuration in a few words."""
        self.frames: tuple[Frame, ...] = ()
        self.held_out: tuple[Frame, ...] = ()
        self.source = ""
        """Where the frames come from, in words."""
        self.session: Session | None = None
        """The training in hand."""
        self.title = ""
        """The training in hand, in a few words."""
        self.reference: Path | None = None
        """Folder of the run that others are compared with."""
        self.closed = False
        """Whether the workbench was closed; long jobs ask, and end early."""
        self.dark = False
        """Whether the page is dark."""
        self.error: tuple[str, str] = ("", "")
        """The last failure that no tab took care of: a sentence, and its traceback."""
        self._callbacks: dict[str, list[Callable[[], Any]]] = {}
        self._posted: deque[Callable[[], Any]] = deque()
        self._behind, self._forget = False, lambda: None
        self._last_state = ""
        self._sessions: list[Session] = []
        self._threads: list[threading.Thread] = []
        self._read: dict[Path, tuple[Any, Run]] = {}
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:  # no kernel: whoever drives this calls pump()
            self._loop = None
        _handle_messages_alone()

    def on(self, event: Event, callback: Callable[[], Any]) -> None:
        """Have a function called at every such event, on the widgets' thread, in the order in which they asked."""
        self._callbacks.setdefault(event, []).append(callback)

    def tell(self, event: Event) -> None:
        """Call them. One that fails is told of as an error, and keeps none of the others from being called."""
        for callback in self._callbacks.get(event, ()):
            try:
                callback()
            except Exception as error:
                self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Tell of a failure that no tab takes care of."""
        text = "".join(traceback.format_exception(error))
        sentence = str(error) if isinstance(error, OcclabError) else f"{type(error).__name__}: {error}"
        self.error = (sentence, text)
        for callback in self._callbacks.get("error", ()):
            callback()
        if "error" not in self._callbacks:
            print(text, file=sys.stderr)

    # --- what is trained, and the training in hand ------------------------------------------------------------------

    def set_up(
        self,
        *,
        config: TrainConfig | None = None,
        name: str | None = None,
        frames: Sequence[Frame] | None = None,
        held_out: Sequence[Frame] | None = None,
        source: str | None = None,
    ) -> None:
        """Change what is trained next. The training in hand stays as it is."""
        self.config = self.config if config is None else config
        self.name = self.name if name is None else name
        self.frames = self.frames if frames is None else tuple(frames)
        self.held_out = self.held_out if held_out is None else tuple(held_out)
        self.source = self.source if source is None else source
        self.tell("setup")

    def new_session(self) -> Session:
        """Take the set-up in hand as a training, not started yet; the one before is stopped, and keeps its folder.

        Raises:
            OcclabError: there are no frames, or the workbench was closed.
        """
        if not self.frames:
            raise OcclabError("there are no frames to train on yet; choose some under Set up, or wait until they are made")
        session = Session(self.config, self.frames, self.held_out, name=_folder_name(self.name), root=self.root)
        return self._take(session, self.name)

    def go_on(self, folder: Path) -> Session:
        """Take a run of the disk in hand, not started yet. Its frames must be among those of the set-up.

        Raises:
            OcclabError: a damaged folder, a frame that is missing, a run that other code began, or a workbench that was closed.
        """
        session = Session.of(folder, [*self.frames, *self.held_out])
        return self._take(session, session.name.replace("-", " "))

    def _take(self, session: Session, title: str) -> Session:
        if self.closed:  # such as by a click that came while another workbench was opened
            raise OcclabError("this workbench has ended; nothing is trained here any more")
        self._forget()
        if self.session is not None:
            self.session.stop(wait=False)
        self._sessions = [*(old for old in self._sessions if old.state in ("running", "waiting", "paused")), session]
        self.session, self.title, self._last_state = session, title, session.state
        self._forget = session.listen(lambda _: self._moved())
        self.tell("session")
        return session

    def _moved(self) -> None:
        """Called from the training's thread; one message at a time waits for the widgets' thread."""
        if not self._behind:
            self._behind = True
            self.post(self._progress)

    def _progress(self) -> None:
        self._behind = False
        state = self.session.state if self.session else ""
        self.tell("progress")
        if state != self._last_state:
            self._last_state = state
            self.tell("runs")

    def runs(self) -> list[Run]:
        """The runs in :attr:`root`, finished and begun, the latest first. A folder that cannot be read is left out."""
        found, read = [], {}
        for log in self.root.glob("*/scalars.json"):
            folder, summary = log.parent, log.parent / "summary.json"
            logged = stamp(log)
            if logged is None:  # taken away since the folder was listed
                continue
            known, before = (logged, stamp(summary)), self._read.get(folder)
            try:
                read[folder] = before if before is not None and before[0] == known else (known, load_run(folder))
            except (OcclabError, OSError):
                continue
            if read[folder][1].steps:
                found.append((logged, read[folder][1]))
        self._read = read
        return [run for _, run in sorted(found, key=lambda pair: pair[0], reverse=True)]

    # --- from one thread to another ---------------------------------------------------------------------------------

    def post(self, call: Callable[[], Any]) -> None:
        """From any thread: have this called soon on the widgets' thread."""
        self._posted.append(call)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.pump)

    def pump(self) -> None:
        """Call what was posted."""
        while self._posted:
            call = self._posted.popleft()
            with ALONE:
                try:
                    call()
                except Exception as error:
                    self.fail(error)

    def work(
        self, job: Callable[[], T], then: Callable[[T], Any], failed: Callable[[Exception], Any] | None = None, *, what: str
    ) -> None:
        """Have a long job done on a thread of its own, and its result taken on the widgets' thread.

        Args:
            failed: takes the job's exception; by default it is told of as an error.
            what: the job in a few words, the thread's name.
        """

        def run() -> None:
            try:
                result = job()
            except Exception as error:
                problem = error
                self.post(lambda: (failed or self.fail)(problem))
            else:
                self.post(lambda: then(result))

        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=run, name=f"occlab {what}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Stop the trainings and wait for the threads. Runs keep their folders."""
        self.closed = True
        self._forget()
        for session in self._sessions:
            session.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._sessions, self._threads = [], []


def _folder_name(words: str) -> str:
    """Words as the beginning of a folder's name."""
    kept = "".join(c if c.isalnum() or c in "=.+" else " " for c in words)
    return "-".join(kept.split())[:60].strip("-.") or "run"

"""The tab in which a training is steered and watched."""

import html
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from ..diagnosis import Ladder
from ..errors import OcclabError
from ..frames import Frame
from ..training import Batches, Run, Step, load_run, run_ladder, settled
from . import ui
from .charts import HEIGHT, LiveCurves
from .desk import Desk
from .live_figure import Fit
from .run_folder import unfinished
from .session import Session

STATES = {
    "": "no training yet: press start",
    "idle": "ready: initial weights, no step made",
    "waiting": "waiting",
    "running": "training",
    "paused": "paused",
    "stopped": "stopped; its folder keeps every step",
    "finished": "finished",
    "failed": "failed",
}
_ACTIVE = ("running", "waiting", "paused")
_CONTROLS = {  # what stands on the button, what it does, and in which states; "" is no session
    "start": ("▶ start", "Train; a run that was stopped goes on where it stands", ("", "idle", "stopped", "failed")),
    "pause": ("❚❚ pause", "Hold after the step in progress; the network stays in memory", ("running",)),
    "step": ("▶❙ single step", "Make one step, then be paused", ("", "idle", "paused", "stopped")),
    "resume": ("▶ resume", "Go on after a pause", ("paused",)),
    "stop": ("■ stop", "End after the step in progress; the folder keeps every step, and start goes on", _ACTIVE),
    "reset": (
        "↺ reset",
        "Back to step 0 with the same initial weights; a finished run, and one whose rate was moved, stay on the disk",
        ("running", "paused", "stopped", "finished", "failed"),
    ),
}


class Train:
    """The tab. What it shows is always that of the desk's session."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._visible = False
        self._curves: LiveCurves | None = None
        self._ladder: Ladder | None = None
        self._ladder_of: Session | None = None
        self._busy = self._filling = self._moved = False
        self._problem = self._rate_problem = ""
        self._stopping: Session | None = None
        presses = (self._start, self._pause, self._step, self._resume, self._stop, self._reset)
        self.buttons = {
            name: ui.button(words, tooltip, press, main=name == "start")
            for (name, (words, tooltip, _)), press in zip(_CONTROLS.items(), presses, strict=True)
        }
        self.rate = widgets.Text(
            description="learning rate",
            continuous_update=False,
            tooltip="Of every step from the next on, in place of the schedule; the run then goes on in a folder of its own",
            style={"description_width": "initial"},
            layout={"width": "190px"},
        )
        self.rate.observe(self._move_rate, names="value")
        self._rate_note, self._words = ui.note(quiet=True), ui.note()
        self._rate_note.layout = {"flex": "1 1 0", "min_width": "0"}
        self._bar = widgets.IntProgress(tooltip="Steps made", layout={"width": "260px", "height": "16px"})
        self._state, self._cards = widgets.HTML(), widgets.HTML()
        self._readouts = widgets.HTML(layout={"min_height": "40px"})
        self._changed = widgets.HTML(layout={"flex": "1 1 auto"})
        self._train_new = ui.button("train the new set-up", "A new run; the one in hand stops and keeps its folder", self._anew)
        self._changed_row = ui.row(self._changed, self._train_new, display="none")
        self.unfinished = widgets.Dropdown(
            description="begun, not finished",
            tooltip="Runs on the disk that were begun and not finished, the latest first",
            style={"description_width": "initial"},
            layout={"width": "640px"},
        )
        self.go_on = ui.button("go on", "Train the chosen run to its end, from where its folder stands", self._go_on)
        self._unfinished_row = ui.row(self.unfinished, self.go_on, display="none")
        self._plot = widgets.VBox([], layout={"width": "100%", "min_width": "0", "min_height": f"{HEIGHT}px"})
        self.widget = ui.column(
            ui.row(*self.buttons.values(), self.rate, self._rate_note, flex_flow="row nowrap"),
            ui.row(self._bar, self._state, self._words),
            self._readouts,
            self._cards,
            self._changed_row,
            self._plot,
            self._unfinished_row,
        )
        desk.on("session", self._taken)
        desk.on("progress", self._draw)
        desk.on("setup", self._draw)
        desk.on("theme", self._paint)
        desk.on("reference", self._overlay)
        desk.on("runs", self._list)
        self._taken()

    def show(self) -> None:
        """The tab was opened."""
        self._visible = True
        if self._curves is None:
            self._curves = LiveCurves(self.desk.dark)
            self._plot.children = (Fit(), self._curves.figure)
            self._overlay()
        self._paint()
        self._frame()
        self._list()

    def hide(self) -> None:
        """Another tab was opened."""
        self._visible = False

    # --- what a person does -----------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._steer(Session.start)

    _resume = _start

    def _pause(self) -> None:
        self.desk.session.pause()

    def _step(self) -> None:
        self._steer(Session.step)

    def _stop(self) -> None:
        self._stopping = self.desk.session
        self._stopping.stop(wait=False)
        self._draw()

    def _reset(self) -> None:
        self._steer(Session.reset, self._fresh)

    def _anew(self) -> None:
        self._steer(Session.start, new=True)

    def _go_on(self) -> None:
        if self.unfinished.value is not None and self._tried(lambda: self.desk.go_on(self.unfinished.value)):
            self._steer(Session.start)

    def _steer(self, do: Callable[[Session], Any], then: Callable[[], Any] = lambda: None, *, new: bool = False) -> None:
        """Do this with the session in hand, or with a new one. It may have to wait for a step: not on the widgets' thread."""
        self._problem = ""
        if (new or self.desk.session is None) and not self._tried(self.desk.new_session):
            return
        session, self._busy = self.desk.session, True

        def done(problem: Exception | None = None) -> None:
            self._busy = False
            if isinstance(problem, OcclabError):
                self._problem = str(problem)
            elif problem is not None:
                self.desk.fail(problem)
            then()
            self._draw()

        self.desk.work(lambda: do(session), lambda _: done(), done, what="steer the training")
        self._draw()

    def _tried(self, take: Callable[[], Any]) -> bool:
        try:
            take()
        except OcclabError as error:
            self._problem = str(error)
            self._draw()
            return False
        return True

    def _move_rate(self, change: Any) -> None:
        session = self.desk.session
        if session is None or self._filling:
            return
        try:
            rate = float(change["new"])
        except ValueError:
            rate = None
        try:
            if rate is None:
                raise OcclabError(f"a learning rate is a number above 0, such as 0.001 or 3e-4; got {change['new']!r}")
            session.learning_rate = rate
            self._moved, self._rate_problem = True, ""
        except OcclabError as error:
            self._rate_problem = str(error)
        self._draw()

    # --- what has changed -------------------------------------------------------------------------------------------

    def _taken(self) -> None:
        """Another training is in hand."""
        self._ladder, self._problem = None, ""
        self._fresh()
        self._overlay()
        self._frame()
        self._list()

    def _fresh(self) -> None:
        """A training that begins: its folder, and the rate it begins with."""
        session = self.desk.session
        self._moved, self._rate_problem, self._folder = False, "", session and session.folder
        self._filling = True
        self.rate.value = f"{session.learning_rate if session else self.desk.config.learning_rate:.6g}"
        self._filling = False

    def _paint(self) -> None:
        if self._curves is not None:
            self._curves.paint(self.desk.dark)

    def _frame(self) -> None:
        """What the curves are drawn over. The floors come later: they are read off all targets."""
        session = self.desk.session
        if not self._visible:
            return
        if session is not None:
            self._curves.of(session.config.steps, session.config.clip_norm, self._ladder.rungs if self._ladder else {})
            if self._ladder_of is not session:
                self._ladder_of = session
                self._measure_floors(session)
        self._draw()

    def _measure_floors(self, session: Session) -> None:
        frames, config = session.frames, session.config

        def take(ladder: Ladder) -> None:
            if self.desk.session is session:
                self._ladder = ladder
                self._frame()

        def leave(error: Exception) -> None:  # frames that do not fit end the training with the same sentence
            if not isinstance(error, OcclabError):
                self.desk.fail(error)

        self.desk.work(lambda: run_ladder(config, Batches(frames, config)), take, leave, what="floors of the loss")

    def _overlay(self) -> None:
        """The pinned run under the curves."""
        if self._curves is None:
            return
        folder, session = self.desk.reference, self.desk.session
        if folder is None or (session is not None and folder == session.folder):
            self._curves.beside("", ())
            return

        def take(run: Run) -> None:
            if self.desk.reference == folder:
                self._curves.beside(folder.name, run.steps)

        self.desk.work(lambda: load_run(folder), take, what="read the reference")

    def _list(self) -> None:
        """Look for runs that were begun and not finished."""
        if self._visible:
            self.desk.work(lambda: unfinished(self.desk.root), self._offer, what="look for unfinished runs")

    def _offer(self, runs: list[Run]) -> None:
        session = self.desk.session
        others = [run for run in runs if session is None or run.folder != session.folder]
        options = [
            (f"{run.folder.name}: step {len(run.steps)} of {run.config.steps}, loss {run.steps[-1].loss:.3f}", run.folder)
            for run in others
        ]
        if list(self.unfinished.options) != options:
            kept, folders = self.unfinished.value, [folder for _, folder in options]
            self.unfinished.options = options
            self.unfinished.value = kept if kept in folders else next(iter(folders), None)
        self._unfinished_row.layout.display = "flex" if options else "none"

    def _draw(self) -> None:
        """Buttons, words and curves, as the session stands."""
        if not self._visible:
            return
        session = self.desk.session
        state = session.state if session is not None else ""
        if session is not self._stopping or state not in _ACTIVE:
            self._stopping = None
        waits = self._busy or self._stopping is not None
        for name, button in self.buttons.items():
            button.disabled = waits or state not in _CONTROLS[name][2]
        self.rate.disabled = state in ("", "finished")
        self._say_changed(session)
        steps = session.steps if session is not None else []
        self._curves.draw(steps)
        self._say_progress(session, state, len(steps))
        failed = state == "failed"
        cards = ui.error_card(self._problem) if self._problem else ""
        cards += ui.error_card(session.message, session.traceback) if failed else ""
        cards += ui.card("Waiting.", session.message, "warn") if state == "waiting" else ""
        ui.put(self._cards, cards)
        self._cards.layout.display = "block" if cards else "none"
        ui.put(self._readouts, readouts(steps, self._ladder) if steps else "")
        ui.say(self._rate_note, self._rate_words(session))

    def _say_progress(self, session: Session | None, state: str, logged: int) -> None:
        total = session.config.steps if session is not None else self.desk.config.steps
        made = session.steps_made if session is not None else 0
        self._bar.max, self._bar.value = total, made
        self._bar.bar_style = {"finished": "success", "failed": "danger", "running": "info"}.get(state, "")
        stopping = self._stopping is not None
        words = "preparing the frames and the network" if state == "running" and not logged else STATES[state]
        words = "stopping after the step in progress" if stopping else words
        ui.put(self._state, f'<b role="status">{html.escape(words)}</b>')
        left = session.remaining_seconds if session is not None and state != "finished" else None
        parts = [f"step {made} of {total}", f"{ui.duration(left)} left" if left else ""]
        if state in _ACTIVE and made < logged:
            parts.append(f"making steps {made + 1} to {logged} again, which no checkpoint had")
        ui.say(self._words, ", ".join(filter(None, parts)))

    def _rate_words(self, session: Session | None) -> str:
        if self._rate_problem or session is None:
            return self._rate_problem
        if session.folder != self._folder:
            return f"moved by hand: this run goes on in a folder of its own, {session.folder.name}"
        if self._moved and session.state != "finished":
            return "from the next step on; the run then goes on in a folder of its own"
        config = session.config
        by_schedule = session.state in _ACTIVE and (config.schedule != "constant" or config.warmup_steps)
        return f"now {session.learning_rate:.3g}, by the schedule" if by_schedule else ""

    def _say_changed(self, session: Session | None) -> None:
        desk = self.desk
        changed = session is not None and (desk.config != session.config or _names(desk.frames) != _names(session.frames))
        if changed:
            body = f"Set up says “{desk.name}” now; this is {session.name}."
            ui.put(self._changed, ui.card("The set-up has changed.", body, "warn"))
        self._changed_row.layout.display = "flex" if changed else "none"
        self._train_new.disabled = self._busy or not desk.frames


def readouts(steps: list[Step], ladder: Ladder | None) -> str:
    """HTML of the numbers at the end of a run: the loss, the floor that its mean over the last steps is at, the IoU.

    Args:
        steps: at least one.
        ladder: None while it is not known.
    """
    end = settled(steps)
    loss, overlap = (sum(getattr(step, name) for step in end) / len(end) for name in ("loss", "iou"))
    of_last = f"mean of the last {len(end)}" if len(end) > 1 else "mean"
    numbers = [
        ("loss", f"{steps[-1].loss:.4f}"),
        (of_last, f"{loss:.4f}"),
        ("floors of this loss", "being computed") if ladder is None else _floor(ladder, loss),
        ("IoU of the batch", f"{steps[-1].iou:.3f}"),
        (of_last, f"{overlap:.3f}"),
    ]
    cells = "".join(
        f'<div><div class="occlab-quiet" style="font-size:12px">{html.escape(name)}</div>'
        f'<div style="font-size:14px; font-variant-numeric:tabular-nums">{html.escape(value)}</div></div>'
        for name, value in numbers
    )
    return f'<div style="display:flex; flex-wrap:wrap; gap:2px 16px; line-height:1.3">{cells}</div>'


def _floor(ladder: Ladder, loss: float) -> tuple[str, str]:
    """A name and what it says: the floor that a loss is at, else the nearest one."""
    name = ladder.stopped_at(loss)
    value, *fits = (
        f"{one} {ladder[one]:.4f}".replace(">=", "≥") for one in (name, *(m for m in ladder.matches(loss) if m != name))
    )
    if abs(ladder[name] - loss) <= 0.01 * loss:
        return "floor within 1 % of it", " or ".join([value, *fits])
    above = loss / ladder[name] - 1
    return "nearest floor", f"{value}, the loss {abs(above):.0%} {'over' if above > 0 else 'under'} it"


def _names(frames: tuple[Frame, ...]) -> list[Any]:
    return [(frame.name, frame.source) for frame in frames]

"""The Ablate tab: which settings to compare, how many runs that is and how long they take, and what they say as they come."""

from pathlib import Path
from typing import Any

import ipywidgets as widgets

from ..ablation import Design, read_design, seeds_needed
from ..ablation.rows import failures
from ..errors import OcclabError
from . import ui
from .desk import Desk
from .kept_designs import as_design, document, keep, kept
from .latest import Latest
from .levels import Levels, comparison
from .sweep import Pace, Sweep, made_runs, tasks_of
from .sweep_results import Results

KINDS = {
    "one change": "The set-up, and each ticked level alone.",
    "ladder": "The set-up, then one ticked level more at a time, in the order of ticking; each against the one before.",
    "leave one out": "All ticked levels at once, then all but one, for each.",
    "full factorial": "Every combination of the ticked levels.",
    "fractional factorial": "As few combinations as keep all effects of one and of two levels apart; of 5 to 8 levels.",
}
"""What each design makes of the ticked levels."""


class Ablate:
    """The tab. Under "design" a design is put together; under "results" one is run, and what it says stands there."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.sweep: Sweep | None = None
        """The design in hand."""
        self.levels: Levels | None = None
        """Made when the tab is first opened: they are a hundred widgets."""
        self._values: dict[str, Any] | None = None
        """What is put together, as a design file; None where it is no design."""
        self._latest, self._pace = Latest(desk, "what a design takes"), Pace([])
        self._visible = self._behind = self._opening = False
        self._asked = 0
        self._told: tuple[Any, ...] = ()
        wide = {"description_width": "initial"}
        self.view = widgets.ToggleButtons(
            options=("design", "results"),
            style={"button_width": "auto"},
            tooltips=["Choose what to compare", "The design in hand: run it, and see what comes out"],
        )
        self.kind = widgets.Dropdown(
            options=list(KINDS),
            description="design",
            style=wide,
            layout={"width": "210px"},
            tooltip="\n".join(f"{kind}: {what}" for kind, what in KINDS.items()),
        )
        self.heads = widgets.Dropdown(
            options=[("the head as set up", False), ("both heads", True)],
            description="for",
            style=wide,
            layout={"width": "190px"},
            tooltip="Make the whole design once, or for the rectified head and for logits",
        )
        self.seeds = widgets.BoundedIntText(
            6,
            min=1,
            max=100,
            description="seeds",
            style=wide,
            layout={"width": "110px"},
            tooltip="Runs of every arm, from seed 0 on",
        )
        self.name = widgets.Text(
            description="name",
            style=wide,
            layout={"width": "340px"},
            continuous_update=False,
            tooltip="Under which the design is kept, and listed below",
        )
        self.run = ui.button("run", "Keep this design and make its runs", self._run, main=True)
        self.earlier = widgets.Dropdown(
            description="kept designs", style=wide, layout={"width": "480px"}, tooltip="The latest first"
        )
        self.open = ui.button("open", "Show what this design says so far; it can be gone on with", self._open)
        self._line, self._place = ui.note(), widgets.Box([])
        self._problem, self._refusal = widgets.HTML(), widgets.HTML()
        """Why what is ticked is no design; why one could not be run or opened."""
        self._design = ui.column(
            self._place,
            ui.row(self.kind, self.heads, self.seeds, self.name, self.run),
            self._line,
            self._problem,
            ui.row(self.earlier, self.open),
            self._refusal,
        )
        self.bar = widgets.FloatProgress(
            0,
            min=0,
            max=1,
            description="steps made",
            style=wide,
            layout={"width": "300px"},
            tooltip="Share of the steps of all runs",
        )
        self.cancel = ui.button("cancel", "End after the step in progress; what is made stays", self._cancel)
        self.resume = ui.button("go on", "Make the runs that are left, and those that failed again", self._resume, main=True)
        self._title, self._status, self._error = ui.note(), ui.note(), widgets.HTML()
        self.results = Results(desk)
        self._results = ui.column(
            self._title,
            ui.row(self.bar, self.cancel, self.resume),
            self._status,
            self._error,
            self.results.widget,
            display="none",
        )
        self.widget = ui.column(self.view, self._design, self._results)
        self.view.observe(lambda _: self._turn(), names="value")
        for control in (self.kind, self.heads, self.seeds):
            control.observe(lambda _: self._weigh(), names="value")
        desk.on("setup", self._set_up)
        desk.on("runs", self._runs)

    def show(self) -> None:
        """The tab was opened."""
        self._visible = True
        if self.levels is None:
            self.levels = Levels(self._weigh)
            self._place.children = (self.levels.widget,)
        self._list()
        self._runs()
        self._set_up()
        self._say_sweep(anew=True)

    def hide(self) -> None:
        """Another tab was opened."""
        self._visible = False

    def close(self) -> None:
        """Cancel what runs, and wait for its thread."""
        if self.sweep is not None:
            self.sweep.close()

    @property
    def folder(self) -> Path:
        """Where designs are kept."""
        return self._desk.root.parent / "designs"

    def _turn(self) -> None:
        self._design.layout.display = "flex" if self.view.value == "design" else "none"
        self._results.layout.display = "flex" if self.view.value == "results" else "none"
        self._say_sweep(anew=True)

    # --- putting a design together ------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        if self._visible and self.levels is not None:
            self.levels.present(self._desk.config)
            self._weigh()

    def _runs(self) -> None:
        if self._visible:
            self._pace = Pace(self._desk.runs())
            self._weigh()

    def _weigh(self) -> None:
        """How many runs the design is, how many of them are made, and about how long the rest takes."""
        if self.levels is None:
            return
        desk, chosen, pace = self._desk, self.levels.chosen(), self._pace
        frames, held_out = desk.frames, desk.held_out
        self._asked += 1
        asked, self._values = self._asked, None  # what is run is what was weighed
        self._allow()
        self.name.placeholder = self._proposal()
        try:
            rest = comparison(desk.config, self.kind.value, chosen, self.heads.value)
        except OcclabError as error:
            self._weighed(asked, None, str(error), "warn" if chosen else "plain")
            return
        values = document(desk.config, range(self.seeds.value), rest)

        def job() -> str:
            design = as_design(values)
            tasks, made = tasks_of(design, frames, held_out), made_runs(desk.root)
            left = [task.config for task in tasks if task.hash not in made]
            seconds = pace.of_all((config, config.steps) for config in left)
            return f"{_count(len(tasks), len(left), seconds)} {_enough(design)}"

        self._latest.ask(
            job,
            lambda line: self._weighed(asked, values, line),
            lambda error: self._weighed(asked, None, str(error), "warn"),
        )

    def _weighed(self, asked: int, values: dict[str, Any] | None, said: str, kind: str = "") -> None:
        if asked != self._asked:  # of what was ticked before
            return
        self._values = values
        ui.say(self._line, KINDS[self.kind.value] + (f" {said}" if not kind else ""))
        self._problem.value = ui.card("", f"{said}.", kind) if kind else ""
        self._allow()

    def _allow(self) -> None:
        sweep, frames = self.sweep, bool(self._desk.frames)
        busy = self._opening or (sweep is not None and sweep.active)
        self.resume.disabled = busy or sweep is None or (len(sweep.rows) == len(sweep.tasks) and not failures(sweep.rows))
        self.run.disabled = busy or self._values is None or not frames
        self.open.disabled = busy or not frames or not self.earlier.value
        self.run.tooltip = (
            "A design is being run: cancel it to begin another one"
            if busy
            else "Keep this design and make its runs"
            if frames
            else "There are no frames yet: choose some under Set up"
        )

    def _proposal(self) -> str:
        labels = ", ".join(self.levels.chosen())
        return f"{self.kind.value}, {labels}{', both heads' * self.heads.value}"[:80] if labels else ""

    def _list(self) -> None:
        before, paths = self.earlier.value, kept(self.folder)
        self.earlier.options = [(path.stem, path) for path in paths]
        if paths:
            self.earlier.value = before if before in paths else paths[0]
        self._allow()

    # --- running one --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        values, typed, folder = self._values, self.name.value.strip(), self.folder
        name = typed or self._proposal()

        def job() -> Sweep:
            path = folder / f"{_file_name(name)}.yaml"
            if not typed:
                path = _free(path, as_design(values))
            keep(values, path)
            return self._read(path)

        self._work(job, start=True)

    def _open(self) -> None:
        path = self.earlier.value
        self._work(lambda: self._read(path), start=False)

    def _read(self, path: Path) -> Sweep:
        desk = self._desk
        return Sweep(path, desk.frames, desk.held_out, root=desk.root, source=desk.source)

    def _work(self, job: Any, *, start: bool) -> None:
        self._opening, self._refusal.value = True, ""
        self._allow()
        self._desk.work(job, lambda sweep: self._take(sweep, start), self._refuse, what="reading a design")

    def _refuse(self, error: Exception) -> None:
        self._opening = False
        if isinstance(error, OcclabError):
            self._refusal.value = ui.card("", f"{error}.", "warn")
        else:
            self._desk.fail(error)
        self._allow()

    def _take(self, sweep: Sweep, start: bool) -> None:
        """Take a design in hand; the one before is not running."""
        self._opening = False
        self.close()
        self.sweep = sweep
        sweep.listen(self._moved)
        if start:
            sweep.start()
        self._list()
        self.view.value = "results"
        self._say_sweep(anew=True)

    def _cancel(self) -> None:
        if self.sweep is not None:
            self.sweep.cancel()
            self._say_sweep()

    def _resume(self) -> None:
        if self.sweep is not None:
            self.sweep.start()
            self._say_sweep()

    def _moved(self, sweep: Sweep) -> None:
        """Called from the sweep's thread; one message at a time waits for the widgets' thread."""
        if self._desk.closed:
            sweep.cancel()
        elif not self._behind:
            self._behind = True
            self._desk.post(self._progress)

    def _progress(self) -> None:
        self._behind = False
        told = (self.sweep, self.sweep.state, len(self.sweep.rows))
        if told != self._told:
            self._told = told
            self._desk.tell("runs")
            self._say_sweep(anew=True)
        else:
            self._say_sweep()

    def _say_sweep(self, *, anew: bool = False) -> None:
        """What there is to say of the design in hand.

        Args:
            anew: draw the results too.
        """
        if not self._visible:
            return
        self._allow()
        sweep = self.sweep
        self.cancel.disabled = sweep is None or not sweep.active
        if sweep is None:
            ui.say(self._title, "No design is in hand: put one together, or open a kept one.")
            return
        rows, steps = sweep.rows, sum(task.config.steps for task in sweep.tasks)
        self.bar.value = sweep.steps_made / steps
        ui.say(self._title, f"{sweep.name}. Table: {sweep.path.with_suffix('.csv')}")
        ui.say(self._status, _status(sweep, self._pace))
        self._error.value = ui.error_card(sweep.message, sweep.traceback) if sweep.state == "failed" else ""
        if anew and self.view.value == "results":
            self.results.draw(sweep.design, rows)


def _status(sweep: Sweep, pace: Pace) -> str:
    rows, runs = sweep.rows, len(sweep.tasks)
    failed = len(failures(rows))
    made = f"{len(rows) - failed} of {runs} runs are made" + (f", {failed} failed" if failed else "")
    seconds = sweep.seconds_left(pace)
    left = "" if len(rows) == runs else f"; {_about(seconds)}"
    if sweep.state == "waiting":
        return f"{made}. Waiting: {sweep.message}"
    if sweep.state == "running" and sweep.task is not None:
        task = sweep.task
        return f"{made}{left}. Now: {task.arm.name}, seed {task.config.seed}, step {sweep.step} of {task.config.steps}."
    state = {"cancelled": "Cancelled: ", "finished": "Finished: "}.get(sweep.state, "")
    return f"{state}{made}{left}."


def _count(runs: int, left: int, seconds: float | None) -> str:
    line = f"{runs} runs, {runs - left} made already"
    return f"{line}; {_about(seconds)}." if left else f"{line}."


def _about(seconds: float | None) -> str:
    """How long, in words, as roughly as it is known."""
    if seconds is None:
        return "how long the rest takes is unknown until the first run is done"
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"about {max(1, round(seconds))} s for the rest"
    return f"about {minutes} min for the rest" if minutes < 120 else f"about {minutes // 60} h {minutes % 60} min for the rest"


def _enough(design: Design) -> str:
    """Whether the seeds can bear a verdict out on everything that is compared."""
    first = [arm for arm in design.arms if arm.group == design.arms[0].group]
    k = len(first[0].levels)
    compared = k * (k + 1) // 2 if k else len(first) - 1
    needed = seeds_needed(compared)
    many = f"{compared} comparison{'s' * (compared > 1)}"
    return f"With {many} a verdict needs {needed} seeds." if len(design.seeds) < needed else ""


def _file_name(words: str) -> str:
    kept = "".join(c if c.isalnum() or c in "=.+" else " " for c in words)
    return "-".join(kept.split()).strip("-.")[:80] or "design"


def _free(path: Path, design: Design) -> Path:
    """The path, or one with a number behind, under which this design is kept or nothing is."""
    for number in range(1, 1000):
        other = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        if not other.exists() or read_design(other) == design:
            return other
    raise OcclabError(f"{path.parent}: holds 999 designs of this name; give this one another name")

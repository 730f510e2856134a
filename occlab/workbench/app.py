"""The workbench: its tabs over one desk."""

import json
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import ipywidgets as widgets

from .. import viz
from ..training import load_run, recorded_runs
from . import ui
from .ablate import Ablate
from .compare import Compare
from .desk import ALONE, Desk
from .diagnose import Diagnose
from .look import Look
from .page import Page
from .set_up import SetUp
from .take_home import TakeHome
from .train import Train

PLOTLY_MIME = "application/vnd.plotly.v1+json"
REPLACED = "This workbench has ended, for another one was opened over the same runs; they are kept, and listed there."
LIVE = "The live workbench needs Python behind it: open this notebook with make lab, or type: occlab workbench"


_OPEN: WeakValueDictionary[Path, "Workbench"] = WeakValueDictionary()
"""By the folder of their runs: of two of one folder, nobody could steer the first one's training."""


class Workbench:
    """An application for Jupyter and Voila: set a training up, watch it, look at what it predicts, compare, diagnose.

    Show it by ending a cell with it. Runs lie on the disk: closing the page or restarting the kernel loses none. Where this
    Python has one over the same runs already, as where a cell is run again, that one ends, and what it trained can be gone on
    with.

    Args:
        root: where run folders lie; by default ``settings.home() / "workbench" / "runs"``.

    >>> Workbench()  # doctest: +SKIP
    """

    def __init__(self, root: Path | None = None) -> None:
        self.desk = Desk(root)
        if (before := _OPEN.get(self.desk.root)) is not None:
            before._replaced()
        page = Page()
        page.observe(lambda change: self._theme(change["new"]), names="dark")
        self._status, self._errors = ui.note(), widgets.HTML()
        self._dismiss = ui.button("dismiss", "Hide this message", self._clear_error)
        self._error_row = ui.row(self._errors, self._dismiss, display="none")
        self._set_up, self._train = SetUp(self.desk), Train(self.desk)
        self._set_up.on_train = lambda: self.open("Train")
        self.tabs = {
            "Set up": self._set_up,
            "Train": self._train,
            "Look": Look(self.desk),
            "Compare": Compare(self.desk),
            "Ablate": Ablate(self.desk),
            "Diagnose": Diagnose(self.desk),
            "Take home": TakeHome(self.desk),
        }
        self._book = widgets.Tab([tab.widget for tab in self.tabs.values()], titles=list(self.tabs), selected_index=0)
        self._book.observe(self._turned, names="selected_index")
        self.widget = ui.column(ui.style_sheet(), page, self._status, self._error_row, self._book)
        self.widget.add_class("occlab")
        for event in ("setup", "session", "progress"):
            self.desk.on(event, self._say_status)
        self.desk.on("error", self._show_error)
        self._say_status()
        self._set_up.show()
        _OPEN[self.desk.root] = self  # when it is whole, and can be closed

    def open(self, name: str) -> None:
        """Turn to a tab, by its title."""
        with ALONE:
            self._book.selected_index = list(self.tabs).index(name)

    def close(self) -> None:
        """Stop what runs. The runs stay in their folders."""
        with ALONE:
            self.tabs["Ablate"].close()
            self.desk.close()

    def _replaced(self) -> None:
        self.close()
        self._book.layout.display = self._error_row.layout.display = "none"
        ui.say(self._status, REPLACED)

    def _turned(self, change: Any) -> None:
        pages = list(self.tabs.values())
        for page in pages:
            if page is not pages[change["new"]]:
                page.hide()
        try:
            pages[change["new"]].show()
        except Exception as error:
            self.desk.fail(error)

    def _theme(self, dark: bool) -> None:
        self.desk.dark = dark
        (self.widget.add_class if dark else self.widget.remove_class)("occlab-dark")
        self.desk.tell("theme")

    def _say_status(self) -> None:
        session = self.desk.session
        if self.desk.closed:
            return
        if session is None:
            ui.say(self._status, "Choose a training under Set up, then train it.")
            return
        last = session.steps[-1] if session.steps else None
        numbers = f", loss {last.loss:.3f}, IoU {last.iou:.3f}" if last else ""
        made = f"step {len(session.steps)} of {session.config.steps}"
        ui.say(self._status, f"{self.desk.title}: {session.state}, {made}{numbers}")

    def _show_error(self) -> None:
        self._errors.value = ui.error_card(*self.desk.error)
        self._error_row.layout.display = "flex"

    def _clear_error(self) -> None:
        self._errors.value, self._error_row.layout.display = "", "none"

    def still(self) -> Any:
        """A picture for where nothing is live: the losses of the training in hand, else those of the recorded runs."""
        session = self.desk.session
        runs = {self.desk.title: load_run(session.folder)} if session is not None and session.steps else recorded_runs()
        curves = {name: [(step.step, step.loss) for step in run.steps] for name, run in runs.items()}
        floors = {run.summary["floor_name"]: run.summary["floor"] for run in runs.values() if run.summary}
        figure = viz.loss_figure(curves, floors, title="occlab workbench") if curves else None
        return figure and figure.update_layout(title_subtitle={"text": LIVE})

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        figure = self.still()
        return {
            **self.widget._repr_mimebundle_(**kwargs),
            "text/plain": LIVE,
            **({PLOTLY_MIME: json.loads(figure.to_json())} if figure else {}),
        }

"""Taking a run home: as files in a folder of one's own, with links to those that a page can hold."""

import base64
import html
import mimetypes
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import ipywidgets as widgets

from ..errors import OcclabError
from ..files import stamp, typed_path
from . import exports, run_table, ui
from .desk import Desk

LARGEST_LINK = 2_000_000
"""Bytes of a file up to which it is in the page, behind a link; of a larger one the path is said."""
ALL_LINKS = 6_000_000
"""Bytes of the files that are in the page at once: the latest ones."""
IN_HAND = ""
"""In the list of runs, the training in hand, whatever that is."""

Made = Iterable[Path | str]
"""Files, and sentences about those that could not be made."""
Job = tuple[tuple[str, ...], Callable[[], Made]]
"""Names of the files that it writes, and what writes them."""


class TakeHome:
    """The tab. Files go to ``take_home/RUN`` beside the folder of the runs: one folder a run, so that two runs' files of one
    name do not meet, and none inside a run's own, which stays as the training wrote it. In a folder that somebody names
    nothing is written over but what this workbench wrote there, of the same run; and nowhere what was changed since."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._visible, self._own_folder, self._filling = desk, False, False, False
        self._rows: list[run_table.RunRow] = []
        self._made: dict[Path, tuple[Path | None, Any]] = {}
        """Files that were written, the latest first: the run of each (None: the table of runs), and its stamp on the disk."""
        wide, label = {"width": "100%"}, {"description_width": "70px"}
        self.run = widgets.Dropdown(description="run", layout=wide, style=label, tooltip="What is taken home")
        self.folder = widgets.Text(
            description="to",
            layout=wide,
            style=label,
            continuous_update=False,
            tooltip="The folder that the files go to; it is made where it is not there",
        )
        self.table_runs = widgets.SelectMultiple(
            rows=9,
            layout=wide,
            tooltip="Runs in the table: hold Ctrl or Shift to choose several; all of them where none is chosen",
        )
        self.buttons = {
            name: ui.button(name, tooltip, lambda name=name: self._take(name), main=name == "all of it")
            for name, tooltip in _BUTTONS.items()
        }
        self._note, self._files = ui.note(), widgets.HTML()
        one = [button for name, button in self.buttons.items() if name != "table of runs"]
        left = ui.column(
            ui.heading("One run"),
            self.run,
            self.folder,
            ui.row(*one),
            ui.heading("Table of runs, as CSV; all where none is chosen"),
            self.table_runs,
            ui.row(self.buttons["table of runs"]),
            self._note,
            flex="1 1 0",
            min_width="380px",
        )
        right = ui.column(ui.heading("Taken home"), self._files, flex="1 1 0", min_width="300px")
        self.widget = widgets.HBox(
            [left, right], layout={"grid_gap": "20px", "align_items": "flex-start", "flex_flow": "row wrap"}
        )
        self.run.observe(lambda _: self._offer_folder(), names="value")
        self.folder.observe(self._typed, names="value")
        desk.on("runs", self._changed)
        desk.on("session", self._changed)
        self._list()

    def show(self) -> None:
        """The tab was opened."""
        self._visible = True
        self._changed()

    def hide(self) -> None:
        """Another tab was opened."""
        self._visible = False

    def _changed(self) -> None:
        if not self._visible:
            return
        self._rows = run_table.table(self._desk.runs())
        options = [(row.label, row.folder) for row in self._rows]
        session = self._desk.session
        in_hand = [(f"the training in hand: {session.folder.name}", IN_HAND)] if session is not None else []
        for choice, offered in ((self.run, in_hand + options), (self.table_runs, options)):
            if list(choice.options) == offered:
                continue
            before, values = choice.value, [value for _, value in offered]
            choice.options = offered
            if choice is self.table_runs:
                choice.value = tuple(value for value in before if value in values)
            else:
                choice.value = before if before in values else next(iter(values), None)
        self._offer_folder()

    def chosen(self) -> Path:
        """The folder of the run to take home.

        Raises:
            OcclabError: there is none yet.
        """
        if self.run.value == IN_HAND and self._desk.session is not None:
            return self._desk.session.folder
        if not isinstance(self.run.value, Path):
            raise OcclabError("there is no run to take home yet; train one first")
        return self.run.value

    def target(self) -> Path:
        """The folder that the files go to.

        Raises:
            OcclabError: none is named, not a whole path, or one among the runs.
        """
        text = self.folder.value.strip()
        path = typed_path(text)
        if not text or not path.is_absolute():
            raise OcclabError(f"expected a whole path of a folder to write to, such as {Path.home() / 'occlab'}, got {text!r}")
        try:
            inside = path.resolve().is_relative_to(self._desk.root)
        except (OSError, RuntimeError, ValueError) as error:  # links that lead in a circle
            raise OcclabError(f"{path}: expected a folder to write to ({error})") from error
        if inside:
            raise OcclabError(f"{path}: the runs themselves lie there; choose a folder outside of {self._desk.root}")
        return path

    def _offer_folder(self) -> None:
        """Name a folder for the run, until somebody names one of their own."""
        if self._own_folder or not (self.run.value == IN_HAND or isinstance(self.run.value, Path)):
            return
        self._filling = True
        self.folder.value = str(self._desk.root.parent / "take_home" / self.chosen().name)
        self._filling = False

    def _typed(self, _: Any) -> None:
        if not self._filling:
            self._own_folder = bool(self.folder.value.strip())
            if not self._own_folder:
                self._offer_folder()

    def _take(self, name: str) -> None:
        try:
            to = self.target()
            run = None if name == "table of runs" else self.chosen()
            jobs = self._jobs(name, run, to)
            self._refuse_to_write_over([to / file for files, _ in jobs for file in files], run)
        except OcclabError as error:
            self._say(str(error), bad=True)
            return
        for button in self.buttons.values():
            button.disabled = True
        self._say(f"Writing to {to} ..." + (" A picture takes some seconds." if "figures" in name or "all" in name else ""))
        come = lambda path: self._desk.post(lambda: self._come(path, run))  # noqa: E731
        write = [job for _, job in jobs]
        self._desk.work(lambda: _do(write, come), lambda done: self._done(to, *done), self._failed, what="take home")

    def _jobs(self, name: str, run: Path | None, to: Path) -> list[Job]:
        """What the button asks for. Everything that is shared with the screen is taken here, not in the thread."""
        picked = set(self.table_runs.value)
        rows = [row for row in self._rows if not picked or row.folder in picked]
        table: Job = (exports.TABLE, lambda: exports.write_runs(rows, to))
        if run is None:
            return [table]
        frame = next(iter((*self._desk.held_out, *self._desk.frames)), None)
        jobs: dict[str, Job] = {
            "run, zipped": ((exports.zipped(run),), lambda: exports.write_run(run, to)),
            "configuration": (exports.CONFIGURATION, lambda: exports.write_configuration(run, to)),
            "figures": (exports.FIGURES, lambda: exports.write_figures(run, frame, to)),
        }
        return [*jobs.values(), table] if name == "all of it" else [jobs[name]]

    def _refuse_to_write_over(self, paths: list[Path], run: Path | None) -> None:
        """Before anything is written.

        Raises:
            OcclabError: one of them is there, and is somebody's own, another run's, or was changed since.
        """
        for path in paths:
            made = self._made.get(path)
            mine = made == (_owner(path, run), stamp(path)) if made is not None else not self._own_folder
            if not mine and os.path.lexists(path):
                raise OcclabError(f"{path} is there already, and nothing was written: name another folder, or take it away")

    def _come(self, path: Path, run: Path | None) -> None:
        """A file was written."""
        others = {other: its for other, its in self._made.items() if other != path}
        self._made = {path: (_owner(path, run), stamp(path))} | others
        self._say(f"{path.name} is written ...")

    def _done(self, to: Path, made: list[Path], said: list[str]) -> None:
        self._enable()
        self._list()
        files = f"{len(made)} files are in {to}." if len(made) != 1 else f"{made[0].name} is in {to}."
        self._say(" ".join([*([files] if made else []), *said]), bad=not made)

    def _failed(self, error: Exception) -> None:
        self._enable()
        self._list()
        if isinstance(error, OcclabError):
            self._say(str(error), bad=True)
        else:
            self._say("")
            self._desk.fail(error)

    def _enable(self) -> None:
        for button in self.buttons.values():
            button.disabled = False

    def _say(self, text: str, *, bad: bool = False) -> None:
        self._note.value = ui.error_card(text) if bad else html.escape(text)

    def _list(self) -> None:
        self._files.value = files_table(self._made) if self._made else '<span class="occlab-quiet">nothing yet</span>'


def _owner(path: Path, run: Path | None) -> Path | None:
    """The run that a file is of, among those that are written with it; None for the table of all runs."""
    return None if path.name in exports.TABLE else run


def files_table(paths: Iterable[Path]) -> str:
    """HTML: the files that are there with their sizes, each with a link that holds it, or with its path; the links of the
    first ones hold :data:`ALL_LINKS` bytes at most."""
    rows, room = [], ALL_LINKS
    for path in paths:
        try:
            size = path.stat().st_size
            linked = size < min(LARGEST_LINK, room)
            large = "too large for a link: " if size >= LARGEST_LINK else ""
            got = _link(path) if linked else f"{large}{html.escape(str(path))}"
        except OSError:
            continue
        room -= size * linked
        rows.append(
            f'<tr><th scope="row">{html.escape(path.name)}</th><td class="number">{_size(size)}</td>'
            f'<td style="overflow-wrap: anywhere">{got}</td></tr>'  # a path has no blanks to break at
        )
    head = '<tr><th scope="col">file</th><th scope="col" class="number">size</th><th scope="col">get it</th></tr>'
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _link(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    data, name = base64.b64encode(path.read_bytes()).decode(), html.escape(path.name)
    about = f'title="{html.escape(str(path))}" aria-label="download {name}"'
    return f'<a href="data:{quote(kind)};base64,{data}" download="{name}" {about}>download</a>'


def _size(size: int) -> str:
    amount, unit = (size / 1e6, "MB") if size >= 1e6 else (size / 1e3, "kB")
    return f"{amount:.1f}&nbsp;{unit}"


def _do(jobs: list[Callable[[], Made]], come: Callable[[Path], Any]) -> tuple[list[Path], list[str]]:
    """Files made, and what was said about the others; a job that fails keeps none of the others from being done.

    Args:
        come: called with each file when it is written.

    Raises:
        OcclabError: of the only job.
    """
    made: list[Path] = []
    said: list[str] = []
    for job in jobs:
        try:
            for one in job():
                if isinstance(one, Path):
                    made.append(one)
                    come(one)
                else:
                    said.append(one)
        except OcclabError as error:
            if len(jobs) == 1 and not made:
                raise
            said.append(f"{error}.")
    return made, said


_BUTTONS = {
    "all of it": "The run, its figures and configuration, and the table of runs",
    "run, zipped": "The run's folder as one file: settings, log, snapshots, weights and summary",
    "figures": "Losses over their floors, and the prediction against its target in 3-D, each as a page on its own and as PNG",
    "configuration": "As Python, as YAML for occlab ablate, and as a configuration of mmdetection3d",
    "table of runs": "Every run with its settings and results, a row each",
}

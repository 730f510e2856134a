"""Choosing a folder by clicking through folders, with what each one holds said beside it."""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import OcclabError, require

_UP = "\N{UPWARDS ARROW} one folder up"


def _at_once(job: Callable[[], str], then: Callable[[str], None]) -> None:
    then(job())


class FolderPicker:
    """A list of folders to click through, and a field to type one into; :attr:`path` is the one that is open.

    Show it with ``picker.widget``; a notebook shows it by ending a cell with ``picker``. Without a browser nothing can be
    clicked, and ``path`` stays where it started.

    Args:
        start: the folder that is open first.
        describe: folder -> what it holds, in one line; its OcclabError is shown as the sentence that it is.
        run: (job, then) -> calls ``then(job())``, now or later; where describing a folder may take long.
        rows: how many folders the list shows at once.

    Raises:
        OcclabError: ``start`` is no folder, or ipywidgets is missing.
    """

    def __init__(
        self,
        start: str | Path,
        describe: Callable[[Path], str],
        *,
        run: Callable[[Callable[[], str], Callable[[str], None]], None] = _at_once,
        rows: int = 8,
    ) -> None:
        widgets = require("ipywidgets")
        if not Path(start).is_dir():
            raise OcclabError(f"{start}: expected a folder to start in, found none")
        self._describe, self._run = describe, run
        style, layout = {"description_width": "52px"}, {"width": "100%", "max_width": "36em", "margin": "2px 0"}
        self._field = widgets.Text(
            description="open",
            continuous_update=False,
            tooltip="Type or paste a folder, then Enter",
            style=style,
            layout=layout,
        )
        self._list = widgets.Select(
            rows=rows, description="folders", tooltip="Click a folder to open it", style=style, layout=layout
        )
        self._note = widgets.HTML()
        self.widget = widgets.VBox([self._field, self._list, self._note])
        self.path = Path(start).resolve()
        self._list.observe(self._chosen, names="value")
        self._field.observe(self._typed, names="value")
        self._open(self.path)

    def _chosen(self, change: Any) -> None:
        if change["new"] is not None:
            self._open(Path(change["new"]))

    def _typed(self, change: Any) -> None:
        try:
            folder = Path(change["new"]).expanduser().resolve()
            found = folder.is_dir()
        except (OSError, RuntimeError, ValueError):  # a user's home that is none, a name too long
            found = False
        if found:
            self._open(folder)
        else:
            self._say(f"{change['new']}: expected a folder, found none; {self.path.name} is still open")

    def _open(self, folder: Path) -> None:
        try:
            inside = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
        except OSError as error:  # stay where we are, and say why
            self._fill(self._list.options)
            self._say(f"{folder.name} cannot be opened ({error.strerror})")
            return
        self.path = folder
        self._fill([(_UP, str(folder.parent)), *((child.name, str(child)) for child in inside)])
        self._say(f"{folder.name}: ...")
        self._run(lambda: self._found(folder), lambda found: self._answer(folder, found))

    def _found(self, folder: Path) -> str:
        try:
            return self._describe(folder)
        except OcclabError as error:
            return str(error).removeprefix(f"{folder}: ")

    def _answer(self, folder: Path, found: str) -> None:
        if folder == self.path:  # else another one was opened meanwhile
            self._say(f"{folder.name}: {found}")

    def _fill(self, options: Any) -> None:
        """A list with nothing chosen; ipywidgets chooses the first entry, which is no click."""
        self._list.unobserve(self._chosen, names="value")
        self._list.options = options
        self._list.value = None
        self._list.observe(self._chosen, names="value")
        self._field.unobserve(self._typed, names="value")
        self._field.value = str(self.path)
        self._field.observe(self._typed, names="value")

    def _say(self, text: str) -> None:
        self._note.value = html.escape(text)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        static = f"{html.unescape(self._note.value)} (in a running notebook: a list of folders to click through)"
        return self.widget._repr_mimebundle_(**kwargs) | {"text/plain": static}

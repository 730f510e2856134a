"""Choosing a folder by clicking through folders, with what each one holds said beside it."""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import OcclabError, require

_UP = "\N{UPWARDS ARROW} one folder up"


class FolderPicker:
    """A list of folders to click through; :attr:`path` is the one that is open.

    Show it with ``picker.widget``; a notebook shows it by ending a cell with ``picker``. Without a browser nothing can be
    clicked, and ``path`` stays where it started.

    Args:
        start: the folder that is open first.
        describe: folder -> what it holds, in one line; its OcclabError is shown as the sentence that it is.

    Raises:
        OcclabError: ``start`` is no folder, or ipywidgets is missing.
    """

    def __init__(self, start: str | Path, describe: Callable[[Path], str]) -> None:
        widgets = require("ipywidgets")
        if not Path(start).is_dir():
            raise OcclabError(f"{start}: expected a folder to start in, found none")
        self._describe = describe
        self._list = widgets.Select(rows=8, description="folders", layout={"width": "36em"})
        self._note = widgets.HTML()
        self.widget = widgets.VBox([self._list, self._note])
        self.path = Path(start).resolve()
        self._list.observe(self._chosen, names="value")
        self._open(self.path)

    def _chosen(self, change: Any) -> None:
        if change["new"] is not None:
            self._open(Path(change["new"]))

    def _open(self, folder: Path) -> None:
        try:
            inside = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
        except OSError as error:  # stay where we are, and say why
            self._fill(self._list.options)
            self._say(f"{folder.name} cannot be opened ({error.strerror})")
            return
        self.path = folder
        self._fill([(_UP, str(folder.parent)), *((child.name, str(child)) for child in inside)])
        try:
            found = self._describe(folder)
        except OcclabError as error:
            found = str(error).removeprefix(f"{folder}: ")
        self._say(f"{folder.name}: {found}")

    def _fill(self, options: Any) -> None:
        """A list with nothing chosen; ipywidgets chooses the first entry, which is no click."""
        self._list.unobserve(self._chosen, names="value")
        self._list.options = options
        self._list.value = None
        self._list.observe(self._chosen, names="value")

    def _say(self, text: str) -> None:
        self._note.value = html.escape(text)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        static = f"{html.unescape(self._note.value)} (in a running notebook: a list of folders to click through)"
        return self.widget._repr_mimebundle_(**kwargs) | {"text/plain": static}

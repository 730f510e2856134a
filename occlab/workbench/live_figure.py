"""One live Plotly figure in a view, for as long as the view lives: made when it is first drawn, then changed in place."""

import html
import textwrap
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets

from ..errors import require
from ..viz import CONFIG
from ..viz.dark import paint


class Fit(anywidget.AnyWidget):
    """Shows nothing; a script in the page keeps the figure beside it as wide as its box."""

    _esm = Path(__file__).parent / "fit.js"


class LiveFigure:
    """An empty box until the first :meth:`draw`; the figure is as wide as the box, whatever becomes of that."""

    def __init__(self) -> None:
        self.figure: Any = None
        """The ``FigureWidget``; None before the first draw."""
        self.widget = widgets.VBox([Fit()], layout={"width": "100%", "min_width": "0"})
        self._layout: dict[str, Any] = {}

    def draw(self, figure: Any, dark: bool = False) -> bool:
        """Show another figure. What stays the same is not sent again, so that a zoom of axes that do not change stays too.

        Args:
            dark: whether the page is, see :func:`occlab.viz.dark.paint`.

        Returns:
            whether its traces are new ones, which nobody observes yet.
        """
        if dark:
            paint(figure, dark)
        layout = figure.layout.to_plotly_json()
        if self.figure is None:
            self.figure = require("plotly.graph_objects").FigureWidget(figure)
            self.figure._config = CONFIG
            self.widget.children, self._layout = (*self.widget.children, self.figure), layout
            return True
        live, fresh = self.figure, [_kind(trace) for trace in self.figure.data] != [_kind(trace) for trace in figure.data]
        if fresh:
            live.data = ()
            live.add_traces(figure.data)
        with live.batch_update():
            for old, new in zip(live.data, () if fresh else figure.data, strict=fresh is False):
                old.update(new.to_plotly_json(), overwrite=True)
            for name in {*layout, *self._layout}:
                if layout.get(name) != self._layout.get(name):
                    live.layout[name] = layout.get(name)
        self._layout = layout
        return fresh


def lines(text: str, width: int) -> str:
    """A text over several lines, safe in a figure, which takes tags for tags."""
    return "<br>".join(html.escape(line, quote=False) for line in textwrap.wrap(text, width))


def _kind(trace: Any) -> tuple[str, ...]:
    """Which properties a trace sets: one that sets others is another trace, whose values would stay under the new ones."""
    return trace.type, *sorted(name for name in trace.to_plotly_json() if name != "uid")

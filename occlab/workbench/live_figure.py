"""One live Plotly figure in a view, for as long as the view lives: made when it is first drawn, then changed in place."""

import html
import textwrap
from typing import Any

import ipywidgets as widgets

from ..errors import require
from ..viz import CONFIG


class LiveFigure:
    """An empty box until the first :meth:`draw`. Draw first while the box can be seen: a figure that is made in a hidden place
    takes the wrong width."""

    def __init__(self) -> None:
        self.figure: Any = None
        """The ``FigureWidget``; None before the first draw."""
        self.widget = widgets.Box([], layout={"width": "100%", "min_width": "0"})
        self._layout: dict[str, Any] = {}

    def draw(self, figure: Any) -> bool:
        """Show another figure. What stays the same is not sent again, so that a zoom of axes that do not change stays too.

        Returns:
            whether its traces are new ones, which nobody observes yet.
        """
        layout = figure.layout.to_plotly_json()
        if self.figure is None:
            self.figure = require("plotly.graph_objects").FigureWidget(figure)
            self.figure._config = CONFIG
            self.widget.children, self._layout = (self.figure,), layout
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

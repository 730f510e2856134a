"""The same look on dark paper, for pages whose theme is dark.

Data keep their colours: those of the palette stand out from either paper. What is ink on white becomes light ink on dark.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from ..errors import require
from . import theme

PAPER = "#212121"
"""That of panels in JupyterLab's dark theme, so that a figure has no edge there."""
INK, QUIET, FAINT = "#E1E5EA", "#9DA7B3", "#3A4047"

_SWAPS = {theme.INK: INK, theme.QUIET: QUIET, theme.FAINT: FAINT, "#FFFFFF": PAPER}
_OF_TRACES = ("color", "fillcolor", "line.color", "marker.color", "marker.line.color", "textfont.color")
_OF_LAYOUT = ("font.color", "line.color", "arrowcolor", "bgcolor", "bordercolor", "fillcolor")


def paint(figure: Any, dark: bool) -> None:
    """Give a figure of this room the colours of a dark page, or back those of a light one; any number of times.

    Paper, axes, scenes, legends and titles follow, also those that are added later; lines, marks and annotations that are
    drawn in ink follow as they are now.

    Args:
        figure: ``go.Figure`` or ``go.FigureWidget``; a live one changes where it stands.
    """
    swaps = _SWAPS if dark else {new: old for old, new in _SWAPS.items()}
    marks = [(trace, _OF_TRACES) for trace in figure.data]
    marks += [(mark, _OF_LAYOUT) for mark in (*figure.layout.annotations, *figure.layout.shapes)]
    with figure.batch_update():
        figure.layout.template = template(dark)
        for mark, paths in marks:
            for path, colour in _colours(mark, paths):
                if colour in swaps:
                    mark[path] = swaps[colour]


def shade(colour: str, dark: bool) -> str:
    """A colour of the theme as it is on that paper, for what is drawn into a figure that was painted already."""
    return _SWAPS.get(colour, colour) if dark else colour


@cache
def template(dark: bool) -> Any:
    """The ``plotly.graph_objects.layout.Template`` of the theme, on white paper or on dark."""
    if not dark:
        return theme.template()
    return require("plotly.graph_objects").layout.Template(_swapped(theme.template().to_plotly_json()))


def _swapped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _swapped(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_swapped(one) for one in value]
    return shade(value, True) if isinstance(value, str) else value


def _colours(mark: Any, paths: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Those of the paths that hold one colour; an array of values is none."""
    for path in paths:
        if path in mark and isinstance(mark[path], str):
            yield path, mark[path]

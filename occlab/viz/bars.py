"""A few numbers by name, as bars: scores of this against scores of that."""

from typing import Any

import numpy as np

from ..errors import OcclabError, require
from . import theme

_BAR = 26  # pixels that one bar takes


def bars_figure(
    values: dict[str, Any], *, title: str | None = None, subtitle: str | None = None, value_name: str = "IoU"
) -> Any:
    """One horizontal bar a name, the first on top, each with its number; or a group of bars a name, one a series.

    Shape:
        values: name -> number of 0 or more; or series -> such a dict, all with the same names, e.g.
            ``{"IoU": {"shifted": 0.2}, "IoU from above": {"shifted": 1.0}}``.
        returns: ``plotly.graph_objects.Figure``

    Raises:
        OcclabError: nothing to draw, series with different names, or a number that is negative or not finite.
    """
    go = require("plotly.graph_objects")
    grouped = any(isinstance(value, dict) for value in values.values())
    series = values if grouped else {value_name: values}
    names = list(next(iter(series.values()), {})) if all(isinstance(v, dict) for v in series.values()) else []
    if not names or any(list(numbers) != names for numbers in series.values()):
        raise OcclabError("bars_figure expects name -> number, or series -> name -> number with the same names in each")
    traces = []
    for i, (label, numbers) in enumerate(series.items()):
        x = np.array([float(v) for v in numbers.values()])
        if not (np.isfinite(x) & (x >= 0)).all():
            raise OcclabError(f"bars_figure expects finite numbers of 0 or more in {label!r}, got {x.tolist()}")
        colour = theme.CYCLE[i % len(theme.CYCLE)]
        look = {"name": label, "marker": {"color": colour}, "hovertemplate": "%{y}: %{x:.3g}"}
        traces.append(go.Bar(x=x, y=names, orientation="h", text=[f"{v:.2f}" for v in x], textposition="outside", **look))
    top = max(float(trace.x.max()) for trace in traces) or 1.0
    rows = len(names) * len(series)
    return theme.figure(
        traces,
        title=title or value_name,
        subtitle=subtitle,
        height=theme.MARGIN["t"] + theme.MARGIN["b"] + 40 * grouped + max(120, _BAR * rows + 14 * len(names)),
        xaxis={"title": {"text": value_name}, "range": [0, 1.12 * top], "showgrid": True},
        yaxis={"range": [len(names) - 0.5, -0.5], "ticks": ""},  # first on top, and its first series too
        showlegend=grouped,
        bargap=0.28,
    )


def named_figure(named: dict[str, tuple[str, str | None]], *, title: str | None = None) -> Any:
    """What was planted beside what was named: a square and a dot for each; a dot outside its square is a miss.

    Shape:
        named: name of the fault -> (id planted, id named or None).
        returns: ``plotly.graph_objects.Figure``

    Raises:
        OcclabError: nothing to draw.
    """
    go = require("plotly.graph_objects")
    if not named:
        raise OcclabError("named_figure expects at least one fault, got none")
    looks = {"planted": (0, "square-open", 24, theme.INK), "named": (1, "circle", 12, theme.VERMILLION)}
    marks = [
        go.Scatter(
            x=[str(pair[which] or "no alarm") for pair in named.values()],
            y=list(named),
            name=name,
            mode="markers",
            marker={"symbol": symbol, "size": size, "color": colour},
        )
        for name, (which, symbol, size, colour) in looks.items()
    ]
    axes = {"xaxis": {"tickangle": -30, "automargin": True}, "yaxis": {"automargin": True, "autorange": "reversed"}}
    return theme.figure(marks, title=title or "Planted and named", showlegend=True, **axes)

"""Differences with their intervals, and two measures against each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import OcclabError, require
from . import theme

Row = tuple[str, float | None, float | None, float | None, str]
"""Label; difference, and the low and high end of its interval, None where there is none; group: a verdict or a head."""

VERDICTS = {
    "better": (theme.BLUE, "circle"),
    "worse": (theme.VERMILLION, "square"),
    "no difference shown": (theme.QUIET, "diamond"),
    "too few seeds": (theme.QUIET, "x-thin"),
}
"""Colour and mark of the groups that are verdicts; any other group takes the next of the theme's."""

_ROW, _LINE = 34, 20  # pixels: a label with one row, and each row more of the same label
_LETTER = 6.6


def interval_figure(
    rows: Sequence[Row], *, title: str | None = None, subtitle: str | None = None, value_name: str = "difference in IoU"
) -> Any:
    """Differences with their intervals around a zero line, the first row on top, each with its numbers at the right.

    Rows of one label, such as the same change on two heads, stand below each other under one label. A row without an
    interval is a hollow mark; one without a difference is a line of text.

    Shape:
        rows: (label, difference, low, high, group); see :data:`Row`.

    Raises:
        OcclabError: no row, a row of another form, one group twice under a label, a number that is not finite, or an
            interval upside down or with one end.

    >>> interval_figure([("lr 1e-3", 0.21, 0.18, 0.24, "logits"), ("lr 1e-3", 0.0, None, None, "rectified")])  # doctest: +SKIP
    """
    go = require("plotly.graph_objects")
    rows = [_checked(row) for row in rows]
    if not rows:
        raise OcclabError("interval_figure expects at least one row (label, difference, low, high, group), got none")
    groups = list(dict.fromkeys(row[4] for row in rows))
    labels = list(dict.fromkeys(row[0] for row in rows))
    looks, fresh = {}, 0
    for group in groups:
        looks[group] = VERDICTS.get(group) or (theme.CYCLE[fresh % len(theme.CYCLE)], theme.SYMBOLS[fresh % len(theme.SYMBOLS)])
        fresh += group not in VERDICTS
    places, middles, bottom = [], [], 0.0  # pixels from the top
    for label in labels:
        own = sorted((groups.index(row[4]), i) for i, row in enumerate(rows) if row[0] == label)
        if len({g for g, _ in own}) < len(own):
            raise OcclabError(f"interval_figure expects each group once under {label!r}, got {[groups[g] for g, _ in own]}")
        places += [(i, bottom + _ROW / 2 + _LINE * k) for k, (_, i) in enumerate(own)]
        middles.append(bottom + (_ROW + _LINE * (len(own) - 1)) / 2)
        bottom += _ROW + _LINE * (len(own) - 1)
    height = dict(places)
    numbers = [v for row in rows for v in row[1:4] if v is not None]
    low, high = min([*numbers, 0.0]), max([*numbers, 0.0])
    margin = 0.06 * (high - low) or 1.0
    digits = max(0, 2 - int(np.floor(np.log10(high - low or 1.0))))  # after the point: a thousandth of the axis can be read
    traces = []
    for group in groups:
        colour, symbol = looks[group]
        mine = [i for i, row in enumerate(rows) if row[4] == group and row[1] is not None]
        bars = np.array([[rows[i][k] if rows[i][k] is not None else np.nan for k in (1, 2, 3)] for i in mine]).reshape(-1, 3)
        x, y = bars[:, 0], np.array([height[i] for i in mine])
        hollow = "" if symbol.endswith("-thin") else "-open"
        marks = [symbol if np.isfinite(low_end) else symbol + hollow for low_end in bars[:, 1]]
        ends = np.column_stack([bars[:, 1], bars[:, 2], np.full(len(bars), np.nan)]).ravel()  # a gap after each bar
        line = {"color": colour, "width": 2.4}
        look = {"legendgroup": group, "hoverinfo": "skip"}
        traces.append(go.Scatter(x=ends, y=np.repeat(y, 3), mode="lines", line=line, showlegend=False, **look))
        marker = {"symbol": marks, "size": 10, "color": colour, "line": {"color": colour, "width": 2}}
        text = [f"{rows[i][0]}, {group}: {_written(rows[i], digits)}" for i in mine]
        look = {"legendgroup": group, "hovertemplate": "%{text}<extra></extra>", "text": text, "showlegend": False}
        traces.append(go.Scatter(x=x, y=y, mode="markers", marker=marker, **look))
        key = {"symbol": symbol, "size": 10, "color": colour, "line": {"color": colour, "width": 2}}
        traces.append(go.Scatter(x=[None], y=[None], mode="markers", marker=key, name=group, legendgroup=group))
    right = 24 + _LETTER * max(len(_written(row, digits)) for row in rows)
    figure = theme.figure(
        traces,
        title=title or value_name[:1].upper() + value_name[1:],
        subtitle=subtitle,
        height=theme.MARGIN["t"] + 96 + max(70, int(bottom)),
        margin={"r": right, "b": 96},
        xaxis={"title": {"text": value_name}, "range": [low - margin, high + margin], "nticks": 7, "exponentformat": "none"},
        yaxis={"tickvals": middles, "ticktext": labels, "range": [bottom, 0], "ticks": "", "showgrid": False},
        showlegend=True,
    )
    figure.add_vline(0, line={"color": theme.INK, "width": 1.2}, layer="below")
    for edge in np.cumsum([_ROW + _LINE * (sum(row[0] == label for row in rows) - 1) for label in labels])[:-1]:
        figure.add_hline(float(edge), line={"color": theme.FAINT, "width": 1}, layer="below")
    for i, row in enumerate(rows):
        look = {"showarrow": False, "xanchor": "left", "xshift": 10, "font": {"size": 12}}
        figure.add_annotation(x=1, xref="paper", y=height[i], text=_written(row, digits), **look)
    return figure


def tradeoff_figure(
    points: dict[str, tuple[float, float]], x_name: str, y_name: str, *, title: str | None = None, log_x: bool = False
) -> Any:
    """Two measures against each other, a labelled point a name: what a gain costs.

    Shape:
        points: name -> (x, y).
        log_x: a logarithmic axis of x, for parameters or seconds that differ by factors.

    Raises:
        OcclabError: no point, a number that is not finite, or an x of 0 or less on a logarithmic axis.
    """
    go = require("plotly.graph_objects")
    try:
        xy = np.array([[float(v) for v in point] for point in points.values()])
    except (TypeError, ValueError):
        xy = np.empty(0)  # refused below
    if xy.ndim != 2 or xy.shape[1] != 2 or not np.isfinite(xy).all() or (log_x and (xy[:, 0] <= 0).any()):
        positive = ", x above 0" if log_x else ""
        raise OcclabError(f"tradeoff_figure expects at least one name -> (x, y), finite{positive}, got {points}")
    along = np.log10(xy[:, 0]) if log_x else xy[:, 0]
    ranges = [_spread(along), _spread(xy[:, 1])]
    shares = np.column_stack([(v - low) / (high - low) for v, (low, high) in zip((along, xy[:, 1]), ranges, strict=True)])
    marker = {"size": 11, "color": theme.BLUE}
    # The label is a trace of its own text: a place beside the point where it covers neither a point nor another label.
    trace = go.Scatter(
        x=xy[:, 0],
        y=xy[:, 1],
        mode="markers+text",
        text=list(points),
        textposition=_beside(shares * (640, 330), list(points)),
        textfont={"size": 12.5},
        marker=marker,
        cliponaxis=False,
        hovertemplate=f"%{{text}}: {x_name} %{{x:.3g}}, {y_name} %{{y:.3g}}<extra></extra>",
    )
    ticks = {"type": "log", "tickformat": "~s", "dtick": 1 if np.ptp(along) > 1.5 else "D2"} if log_x else {}
    return theme.figure(
        [trace],
        title=title or f"{y_name} over {x_name}",
        xaxis={"title": {"text": x_name}, "range": list(ranges[0]), **ticks},
        yaxis={"title": {"text": y_name}, "range": list(ranges[1])},
        showlegend=False,
    )


def _checked(row: Any) -> Row:
    form = "interval_figure expects rows (label, difference, low, high, group) of finite numbers with low <= high"
    try:
        label, difference, low, high, group = row
        difference, low, high = (None if v is None else float(v) for v in (difference, low, high))
    except (TypeError, ValueError) as error:
        raise OcclabError(f"{form}, got {row!r}") from error
    upside_down = low is not None and high is not None and low > high
    lone = (low is None) != (high is None) or (difference is None and low is not None)
    if upside_down or lone or not np.isfinite([v for v in (difference, low, high) if v is not None]).all():
        raise OcclabError(f"{form}, got {row!r}")
    return str(label), difference, low, high, str(group)


def _written(row: Row, digits: int) -> str:
    _, difference, low, high, _ = row
    if difference is None:
        return "no number"
    text = f"{difference:+.{digits}f}" if low is None else f"{difference:+.{digits}f}  [{low:+.{digits}f}, {high:+.{digits}f}]"
    return text.replace("-", "\N{MINUS SIGN}")


def _spread(values: np.ndarray) -> tuple[float, float]:
    """A range with room for labels."""
    low, high = float(values.min()), float(values.max())
    margin = 0.14 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin


def _beside(pixels: np.ndarray, names: list[str]) -> list[str]:
    """For each of (N, 2) points where its label goes: the place that covers least, preferring the right."""
    places = {"middle right": (1, 0), "middle left": (-1, 0), "top center": (0, 1), "bottom center": (0, -1)}
    points = [(x - 6, x + 6, y - 6, y + 6) for x, y in pixels]
    taken: list[tuple[float, float, float, float]] = []
    chosen = []
    for i, ((x, y), name) in enumerate(zip(pixels, names, strict=True)):
        wide = 6.8 * len(name)

        def box(side: tuple[int, int], x: float = x, y: float = y, wide: float = wide) -> tuple[float, float, float, float]:
            cx, cy = x + side[0] * (wide / 2 + 8), y + side[1] * 15
            return cx - wide / 2, cx + wide / 2, cy - 8, cy + 8

        def cost(place: str, i: int = i, box: Any = box) -> float:
            here = box(places[place])
            others = [*taken, *points[:i], *points[i + 1 :]]
            outside = max(0.0, -here[0]) + max(0.0, here[1] - 640)
            return sum(_overlap(here, other) for other in others) + 16 * outside

        place = min(places, key=cost)  # the first of those that cost as little
        taken.append(box(places[place]))
        chosen.append(place)
    return chosen


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[2], b[2]))

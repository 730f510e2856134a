"""Many runs at once: a vertical axis for each setting and each result, a line for each run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import OcclabError, require
from . import theme

LEVELS = 6
"""A setting with at most so many values has a tick for each; one with more has a scale."""

SCALE = ["#3B528B", "#21918C", "#5EC962", "#DCE319"]
"""Viridis without its ends, which thin lines do not show on dark or on white paper."""


def parallel_figure(
    rows: Sequence[Mapping[str, Any]], results: Sequence[str], *, title: str | None = None, height: int = theme.HEIGHT_2D
) -> Any:
    """Runs as lines over parallel axes, coloured by the first result, which stands last. Dragging along an axis brushes it:
    lines outside turn grey, and :func:`brushed` tells which are inside.

    Settings that are the same in every row have no axis. None is a level of its own, the lowest.

    Shape:
        rows: a mapping each, all with the same keys: name -> number, truth value, None or text.
        results: keys whose values are finite numbers; all the others are settings.

    Raises:
        OcclabError: no row, no result, rows of different keys, or a result that is no finite number.
    """
    go = require("plotly.graph_objects")
    if not rows or not results:
        raise OcclabError(f"parallel_figure expects at least one row and one result, got {len(rows)} and {len(results)}")
    names = list(rows[0])
    if any(list(row) != names for row in rows) or not set(results) <= set(names):
        raise OcclabError(f"parallel_figure expects {', '.join(map(str, results))} and the same keys in every row")
    settings = [name for name in names if name not in results and len({_text(row[name]) for row in rows}) > 1]
    dimensions = [_setting(name, [row[name] for row in rows]) for name in settings]
    dimensions += [_result(name, [row[name] for row in rows]) for name in reversed(results)]
    colours = dimensions[-1]["values"]
    trace = go.Parcoords(
        dimensions=dimensions,
        line={
            "color": colours,
            "colorscale": SCALE,
            "showscale": True,
            "cmin": float(colours.min()),
            "cmax": float(max(colours.max(), colours.min() + 1e-9)),
            "colorbar": theme.colour_bar(
                results[0], len=0.9, title={"text": results[0], "side": "right", "font": {"size": 13}}
            ),
        },
        unselected={"line": {"color": "#8A939E", "opacity": 0.2}},
        labelfont={"size": 13},
        tickfont={"size": 12},
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},  # the ticks say as much
        labelangle=-12 if len(dimensions) > 4 else 0,
    )
    return theme.figure([trace], title=title, height=height, margin={"l": 76, "r": 20, "t": 84 + 40 * bool(title), "b": 24})


def brushed(figure: Any) -> list[int]:
    """Numbers of the rows whose line is inside all that was brushed on the axes; all of them where nothing was.

    Args:
        figure: of :func:`parallel_figure`, also a live one.
    """
    inside = np.ones(len(figure.data[0].line.color), dtype=bool)
    for dimension in figure.data[0].dimensions:
        if dimension.constraintrange is None:
            continue
        ranges = np.reshape(dimension.constraintrange, (-1, 2))  # one range, or several on one axis
        values = np.asarray(dimension.values)[None]
        inside &= ((values >= ranges[:, :1]) & (values <= ranges[:, 1:])).any(axis=0)
    return np.flatnonzero(inside).tolist()


def _setting(name: str, values: list[Any]) -> dict[str, Any]:
    numbers = [value for value in values if _is_number(value)]
    if len(numbers) < len(values) or len(set(numbers)) <= LEVELS:
        texts = list(dict.fromkeys(_text(value) for value in sorted(values, key=_order)))
        places = [texts.index(_text(value)) for value in values]
        ticks = {"tickvals": list(range(len(texts))), "ticktext": [text[:22] for text in texts]}
        return {"label": name, "values": np.float32(places), "range": [-0.2, len(texts) - 0.8], **ticks}
    array = np.float32(numbers)
    if array.min() > 0 and array.max() > 20 * array.min():
        exponents = np.arange(np.floor(np.log10(array.min())), np.ceil(np.log10(array.max())) + 1)
        ticks = {"tickvals": exponents.tolist(), "ticktext": [f"{10**e:g}" for e in exponents]}
        return {"label": name, "values": np.log10(array), **ticks}
    return {"label": name, "values": array}


def _result(name: str, values: list[Any]) -> dict[str, Any]:
    if not all(map(_is_number, values)):
        raise OcclabError(f"parallel_figure expects finite numbers as the result {name!r}, got {values}")
    array = np.float32(values)
    span = float(np.ptp(array)) or max(abs(float(array[0])), 1.0) * 0.1
    # A little more than the values reach, so that the outermost lines can be brushed.
    low, high = float(array.min()) - 0.02 * span, float(array.max()) + 0.02 * span
    return {"label": name, "values": array, "range": [low, high], "tickformat": ".3~g"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _order(value: Any) -> tuple[int, float, str]:
    """None first, then numbers by size, also those that are written as text, then the rest by name."""
    if value is None:
        return 0, 0.0, ""
    try:
        return 1, float(value), ""
    except ValueError:
        return 2, 0.0, _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if _is_number(value) else str(value)

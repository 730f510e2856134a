"""Curves of a training: losses over their floors, gradient norms, predicted probabilities, gradients by layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import OcclabError, require
from . import theme

_LINE = 18  # pixels that one line of a label takes
_PLOT = theme.HEIGHT_2D - theme.MARGIN["t"] - 104  # pixels that an axis is high; a line of legend stands below it


def loss_figure(
    curves: dict[str, Any], floors: dict[str, float] | None = None, *, title: str | None = None, loss_name: str = "loss"
) -> Any:
    """Losses over the steps, and floors: labelled lines that say at what a curve stopped.

    Floors nearer to each other than 1 % of the axis share a label; labels that would collide are moved apart.

    Shape:
        curves: name -> a list of (step, loss); or a tuple (steps, losses), (S,) each, or losses (seeds, S): drawn as
            their mean and a band from the lowest to the highest.
        floors: name -> loss.
        returns: ``plotly.graph_objects.Figure``

    Raises:
        OcclabError: a curve of another form, or a floor that is not a finite number.
    """
    traces, values, subtitle = _lines(curves, "loss_figure")
    floors = {name: float(value) for name, value in (floors or {}).items()}
    if not np.isfinite(list(floors.values())).all():
        raise OcclabError(f"loss_figure expects finite floors, got {floors}")
    low, high = _range([*values, *floors.values()])
    yaxis = {"title": {"text": loss_name}, "range": [low, high]}
    figure = _over_steps(traces, title or "Loss", subtitle, yaxis)
    for value in floors.values():
        figure.add_hline(value, line=_RULE, layer="below")
    _label(figure, [(f"{name} {value:.4g}", value) for name, value in floors.items()], low, high)
    return figure


def gradient_figure(
    curves: dict[str, Any],
    *,
    clip: float | dict[str, float] | None = None,
    reported: tuple[float, float] | None = None,
    title: str | None = None,
) -> Any:
    """Gradient norms over the steps, before clipping, on a logarithmic axis.

    Shape:
        curves: as in :func:`loss_figure`. Norms of 0 have no place on a logarithmic axis and leave a gap.
        clip: the norm to which larger gradients are scaled down, or several by name.
        reported: lowest and highest norm that somebody else saw, drawn as a band.

    Raises:
        OcclabError: a curve of another form, or a clipping or reported norm that is not positive.
    """
    clips = clip if isinstance(clip, dict) else {} if clip is None else {"clipped at": clip}
    marks = [*clips.values(), *(reported or ())]
    if not all(np.isfinite(m) and m > 0 for m in marks):
        raise OcclabError(f"gradient_figure expects positive norms, got clip={clip!r} and reported={reported!r}")
    traces, values, subtitle = _lines(curves, "gradient_figure", positive=True)
    low, high = _range(np.log10([*values, *marks]))
    yaxis = {"title": {"text": "gradient norm, before clipping"}, "type": "log", "range": [low, high], "dtick": 1}
    figure = _over_steps(traces, title or "Gradient norm", subtitle, yaxis)
    labels = [(f"{name} {value:g}", float(np.log10(value))) for name, value in clips.items()]
    for value in clips.values():
        figure.add_hline(value, line=_RULE, layer="below")
    if reported:
        figure.add_hrect(*reported, fillcolor=theme.ORANGE, opacity=0.16, line_width=0, layer="below")
        labels.append((f"reported<br>{reported[0]:g} to {reported[1]:g}", float(np.log10(reported).mean())))
    _label(figure, labels, low, high)
    return figure


def probability_figure(probabilities: Any, *, title: str | None = None, bins: int = 100) -> Any:
    """How often each predicted probability occurs, counts on a logarithmic axis, with a mark at 0.5.

    Shape:
        probabilities: any shape, array or tensor, in [0, 1]; or name -> such an array.

    Raises:
        OcclabError: none at all, NaN, or values outside [0, 1].
    """
    go = require("plotly.graph_objects")
    sets = probabilities if isinstance(probabilities, dict) else {"predicted": probabilities}
    edges = np.linspace(0, 1, bins + 1)
    traces, most = [], 1
    for i, (name, given) in enumerate(sets.items()):
        p = theme.as_array(given).reshape(-1)
        if not (len(p) and p.min() >= 0 and p.max() <= 1):
            raise OcclabError(
                f"probability_figure expects probabilities in [0, 1] in {name!r}; logits go through a sigmoid first"
            )
        count, _ = np.histogram(p, edges)
        most = max(most, int(count.max()))
        text = f"{name}: lowest {p.min():.3g}, {(p < 0.5).mean():.0%} under 0.5"
        colour = theme.CYCLE[i % len(theme.CYCLE)]
        line = {"color": colour, "width": 2, "dash": theme.DASHES[i % len(theme.DASHES)], "shape": "hvh"}
        y = np.maximum(count, 0.1)  # an empty bin lies under the axis, not at minus infinity
        look = {"fill": "tozeroy", "fillcolor": _pale(colour, 0.15), "mode": "lines", "line": line}
        hover = "p %{x:.3f}: %{y:,.0f}"
        traces.append(go.Scatter(x=(edges[:-1] + 0.5 / bins), y=y, name=text, hovertemplate=hover, **look))
    top = float(np.log10(most)) + 0.35
    figure = theme.figure(
        traces,
        title=title or "Predicted probabilities",
        xaxis={"title": {"text": "probability that a voxel is occupied"}, "range": [-0.01, 1.01], "dtick": 0.1},
        yaxis={"title": {"text": "voxels"}, "type": "log", "range": [-0.3, top], "dtick": 1, "tickformat": ",d"},
        showlegend=True,
    )
    figure.add_vline(0.5, line=_RULE)
    look = {"showarrow": False, "yanchor": "top", "font": {"size": 12.5}, "bgcolor": "rgba(255,255,255,0.8)"}
    figure.add_annotation(x=0.5, y=top, text="empty below 0.5", xanchor="right", xshift=-6, **look)
    figure.add_annotation(x=0.5, y=top, text="occupied above", xanchor="left", xshift=6, **look)
    return figure


def flow_figure(names: Sequence[str], values: Any, *, title: str | None = None, value_name: str = "gradient norm") -> Any:
    """One number per layer, the first layer on top, on a logarithmic axis; a layer at exactly 0 is marked at the left edge.

    Shape:
        names: L layer names, from the input to the output.
        values: (L,) numbers, 0 or more; or name -> such numbers, e.g. before and after a change.

    Raises:
        OcclabError: not one value a layer, or a negative or non-finite one.
    """
    series = values if isinstance(values, dict) else {value_name: values}
    arrays = {name: _numbers(v, len(names), name, "flow_figure") for name, v in series.items()}
    layers = [f"{i + 1}  {name}" for i, name in enumerate(names)]  # the number keeps layers of one name apart
    return _by_layer(layers, arrays, title or f"{value_name.capitalize()} by layer", value_name)


def flows_figure(
    flows: dict[str, tuple[Sequence[str], Any]],
    *,
    title: str | None = None,
    value_name: str = "gradient norm",
    log: bool = True,
) -> Any:
    """One number per layer of several networks on one axis, the first layer on top: two heads of one trunk, side by side.

    Layers of one name share a row; a row that one network does not have leaves a gap in its line.

    Shape:
        flows: name -> (layer names from the input to the output, each once; as many numbers of 0 or more).
        log: a logarithmic axis, where a layer at exactly 0 is marked at the left edge; else one from 0, for shares.

    Raises:
        OcclabError: nothing to draw, a layer name that comes twice, not one number a layer, or a negative or non-finite one.
    """
    if not flows:
        raise OcclabError("flows_figure expects at least one name -> (layer names, numbers), got none")
    rows: list[str] = []
    for name, (names, _) in flows.items():
        if len(set(names)) != len(names):
            raise OcclabError(f"flows_figure expects each layer once in {name!r}, got {list(names)}")
        for i, layer in enumerate(names):
            if layer not in rows:
                rows.insert(rows.index(names[i - 1]) + 1 if i else 0, layer)
    arrays = {}
    for name, (names, values) in flows.items():
        given = dict(zip(names, _numbers(values, len(names), name, "flows_figure"), strict=True))
        arrays[name] = np.array([given.get(layer, np.nan) for layer in rows])
    return _by_layer(rows, arrays, title or f"{value_name.capitalize()} by layer", value_name, log=log)


def range_test_figure(curves: dict[str, Any], *, title: str | None = None, loss_name: str = "loss") -> Any:
    """Loss over a learning rate that rises from step to step, with a mark where each curve is lowest.

    Losses far above where the curves began say only that they burst, and lie beyond the top of the axis.

    Shape:
        curves: name -> (rates, losses), (R,) each; losses that are not finite leave a gap.

    Raises:
        OcclabError: no curve, one of another form, or a rate that is not positive.
    """
    go = require("plotly.graph_objects")
    traces, starts, values = [], [], []
    for i, (name, curve) in enumerate(curves.items()):
        rates, losses = _curve(name, curve, "range_test_figure")
        if not (len(losses) == 1 and len(rates) and (rates > 0).all() and np.isfinite(rates).all()):
            raise OcclabError(
                f"range_test_figure expects positive rates and one loss for each in {name!r}, got {rates.tolist()}"
            )
        y = np.where(np.isfinite(losses[0]), losses[0], np.nan)
        colour = theme.CYCLE[i % len(theme.CYCLE)]
        look = {"legendgroup": name, "hovertemplate": f"{name}, rate %{{x:.2g}}: %{{y:.4g}}<extra></extra>"}
        line = {"color": colour, "width": 2.2, "dash": theme.DASHES[i % len(theme.DASHES)]}
        if np.isfinite(y).any():
            best = int(np.nanargmin(y))
            label = f"{name}: lowest {y[best]:.4g} at {rates[best]:.2g}"
            marker = {"size": 11, "color": colour, "symbol": theme.SYMBOLS[i % len(theme.SYMBOLS)]}
            traces.append(go.Scatter(x=rates, y=y, mode="lines", name=label, line=line, **look))
            traces.append(go.Scatter(x=[rates[best]], y=[y[best]], mode="markers", marker=marker, showlegend=False, **look))
            starts.append(float(y[np.isfinite(y)][0]))
            values += [float(np.nanmin(y)), float(np.nanmax(y))]
    if not traces:
        raise OcclabError("range_test_figure expects at least one curve with a finite loss, got none")
    # A burst may be a thousand times the first loss: as much room above the highest start as below it, where it is used.
    top = min(max(values), max(starts) + max(max(starts) - min(values), 0.1 * abs(max(starts))))
    figure = theme.figure(
        traces,
        title=title or "Learning rate range test",
        subtitle="one run a curve, the rate rising from step to step; a mark where the loss is lowest",
        xaxis={"title": {"text": "learning rate"}, "type": "log", "exponentformat": "e", "dtick": 1},
        yaxis={"title": {"text": loss_name}, "range": list(_range([min(values), top]))},
        showlegend=True,
    )
    return figure


def _numbers(values: Any, n: int, name: str, who: str) -> np.ndarray:
    """(n,) float64 numbers of 0 or more, one a layer."""
    array = theme.as_array(values).astype(np.float64)
    if array.shape != (n,) or not n or not (np.isfinite(array) & (array >= 0)).all():
        raise OcclabError(f"{who} expects {n} numbers of 0 or more in {name!r}, one a layer, got {array.tolist()}")
    return array


def _by_layer(layers: list[str], arrays: dict[str, np.ndarray], title: str, value_name: str, *, log: bool = True) -> Any:
    """Lines down the layers; NaN where a series has no such layer."""
    go = require("plotly.graph_objects")
    everything = np.concatenate(list(arrays.values()))
    positive = everything[everything > 0]
    low, high = _range(np.log10(positive)) if len(positive) else (-1.0, 1.0)
    span = high - low
    low -= 0.08 * span
    traces = []
    for i, (name, v) in enumerate(arrays.items()):
        colour = theme.CYCLE[i % len(theme.CYCLE)]
        marker = {"size": 9, "color": colour, "symbol": theme.SYMBOLS[i % len(theme.SYMBOLS)]}
        line = {"color": _pale(colour, 0.5), "width": 1.5}
        look = {"name": name, "legendgroup": name, "hovertemplate": "%{y}: %{x:.3g}"}
        x = np.where(v > 0, v, np.nan) if log else v
        traces.append(go.Scatter(x=x, y=layers, mode="lines+markers", marker=marker, line=line, **look))
        if log and (v == 0).any():
            marker = {"size": 9, "symbol": "x-thin", "line": {"width": 2, "color": colour}}
            x = np.full(int((v == 0).sum()), 10 ** (low + (0.03 + 0.025 * i) * span))  # beside those of other series
            y = [layer for layer, n in zip(layers, v, strict=True) if n == 0]
            look = {"name": name, "legendgroup": name, "hovertemplate": "%{y}: 0"}
            traces.append(go.Scatter(x=x, y=y, mode="markers", marker=marker, showlegend=False, **look))
    zeros, numbers = int((everything == 0).sum()), int(np.isfinite(everything).sum())
    along = {"type": "log", "range": [low, high], "dtick": 1 if span > 2 else "D2"} if log else {"rangemode": "tozero"}
    return theme.figure(
        traces,
        title=title,
        subtitle=f"a cross at the left edge is exactly 0: {zeros} of {numbers}" if log and zeros else "",
        height=theme.MARGIN["t"] + theme.MARGIN["b"] + 40 * (len(arrays) > 1) + max(120, 24 * len(layers)),
        xaxis={"title": {"text": value_name}, "tickformat": "~g", **along},
        yaxis={"title": {"text": "layer, input first"}, "categoryarray": layers, "range": [len(layers) - 0.5, -0.5]},
        showlegend=len(arrays) > 1,
    )


def stagger(labels: list[tuple[str, float]], low: float, high: float, pixels: int = _PLOT) -> list[tuple[str, float, float]]:
    """Place labels beside an axis so that none covers another.

    Args:
        labels: (text, value) with the values on an axis from ``low`` to ``high`` that is ``pixels`` long.

    Returns:
        (text, value, pixels to move it up), lowest first. Labels within 1 % of the axis of the lowest of their group
        become one, a line each, highest first.
    """
    groups: list[list[tuple[float, str]]] = []
    for value, text in sorted((value, text) for text, value in labels):
        if groups and value - groups[-1][0][0] <= 0.01 * (high - low):
            groups[-1].append((value, text))
        else:
            groups.append([(value, text)])
    texts = ["<br>".join(text for _, text in reversed(group)) for group in groups]
    values = [float(np.mean([value for value, _ in group])) for group in groups]
    half = np.array([(text.count("<br>") + 1) * _LINE / 2 for text in texts])
    wanted = np.array([(value - low) / (high - low) * pixels for value in values])
    places = wanted.copy()
    blocks: list[list[int]] = []  # labels that touch; a block sits where its labels wanted to be on average
    for i in range(len(groups)):
        block = [i]
        while True:
            offsets = np.append(0.0, np.cumsum(half[block][:-1] + half[block][1:]))
            places[block] = (wanted[block] - offsets).mean() + offsets
            if not blocks or places[block[0]] - half[block[0]] >= places[blocks[-1][-1]] + half[blocks[-1][-1]]:
                break
            block = blocks.pop() + block
        blocks.append(block)
    return [(t, v, float(p - w)) for t, v, p, w in zip(texts, values, places, wanted, strict=True)]


_RULE = {"color": theme.INK, "width": 1.2}


def _label(figure: Any, labels: list[tuple[str, float]], low: float, high: float) -> None:
    """Write labels to the right of the plot, each with a leader to its value, and make room for them."""
    for text, value, up in stagger(labels, low, high):
        look = {
            "font": {"size": 12.5},
            "align": "left",
            "xanchor": "left",
            "arrowhead": 0,
            "arrowwidth": 1,
            "arrowcolor": theme.INK,
        }
        figure.add_annotation(x=1, xref="paper", y=value, text=text, ax=16, ay=-up, standoff=0, **look)
    longest = max((len(line) for text, _ in labels for line in text.split("<br>")), default=0)
    figure.update_layout(margin_r=theme.MARGIN["r"] + 7.5 * longest)


def _over_steps(traces: list[Any], title: str, subtitle: str, yaxis: dict[str, Any]) -> Any:
    xaxis = {"title": {"text": "step"}, "rangemode": "tozero"}
    rows = -(-sum(bool(trace.name) for trace in traces) // 3)
    height = theme.HEIGHT_2D + 25 * max(rows - 1, 0)
    figure = theme.figure(traces, title=title, subtitle=subtitle, xaxis=xaxis, yaxis=yaxis, height=height, showlegend=True)
    return figure if traces else theme.say(figure, "no steps yet")


def _range(values: Any) -> tuple[float, float]:
    """Axis range with a margin, over the finite values."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - margin, high + margin


def _curve(name: str, curve: Any, who: str) -> tuple[np.ndarray, np.ndarray]:
    """(S,) steps and (seeds, S) values."""
    if isinstance(curve, tuple) and len(curve) == 2:
        steps, values = theme.as_array(curve[0]), theme.as_array(curve[1]).astype(np.float64)
    else:
        pairs = theme.as_array(curve).astype(np.float64)
        steps, values = (pairs[:, 0], pairs[:, 1]) if pairs.ndim == 2 and pairs.shape[1] == 2 else (pairs, np.zeros((1, 0)))
    values = values[None] if values.ndim == 1 else values
    if steps.ndim != 1 or values.ndim != 2 or values.shape[1] != len(steps):
        raise OcclabError(
            f"{who} expects {name!r} as a list of (step, value), or as a tuple (steps, values) of shapes (S,) and "
            f"(S,) or (seeds, S); got steps {steps.shape} and values {values.shape}"
        )
    return steps, values


def _lines(curves: dict[str, Any], who: str, *, positive: bool = False) -> tuple[list[Any], list[float], str]:
    """Traces, the lowest and highest value of each, and a subtitle that explains the bands if there are any."""
    go = require("plotly.graph_objects")
    traces, extremes, banded = [], [], False
    for i, (name, curve) in enumerate(curves.items()):
        steps, values = _curve(name, curve, who)
        values = np.where(np.isfinite(values) & ((values > 0) | (not positive)), values, np.nan)
        if not np.isfinite(values).any():
            continue
        extremes += [float(np.nanmin(values)), float(np.nanmax(values))]
        colour = theme.CYCLE[i % len(theme.CYCLE)]
        x = np.float32(steps)
        if len(values) > 1:
            banded = True
            edge = {"mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip", "legendgroup": name}
            traces.append(go.Scatter(x=x, y=np.float32(values.min(axis=0)), **edge))
            traces.append(
                go.Scatter(x=x, y=np.float32(values.max(axis=0)), fill="tonexty", fillcolor=_pale(colour, 0.2), **edge)
            )
        label = f"{name} ({len(values)} seeds)" if len(values) > 1 else name
        line = {"color": colour, "width": 2.2, "dash": theme.DASHES[i % len(theme.DASHES)]}
        hover = f"{name}, step %{{x}}: %{{y:.4g}}<extra></extra>"
        y = np.float32(values.mean(axis=0))
        mode = "lines" if len(steps) > 1 else "markers"
        traces.append(go.Scatter(x=x, y=y, mode=mode, name=label, legendgroup=name, line=line, hovertemplate=hover))
    return traces, extremes, "line: mean of the seeds, band: lowest to highest" if banded else ""


def _pale(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"

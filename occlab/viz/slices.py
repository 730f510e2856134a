"""Volumes in the flat: from above, by height channel, and how much each channel holds.

Views from above have x, forward, up the page and y, left, to the left.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import OcclabError, require
from ..grid import VoxelGrid
from . import theme

_COLUMN_OUTCOMES = (*theme.OUTCOMES.values(), ("wrong height", theme.GREEN))


def bev_figure(
    volume: Any, grid: VoxelGrid, *, colour: str = "height", title: str | None = None, threshold: float = 0.5
) -> Any:
    """Bird's-eye view: the top of the highest occupied voxel of each column, or how many are occupied.

    Shape:
        volume: (Z, Y, X) or (1, Z, Y, X): booleans, or probabilities (occupied above ``threshold``).
        colour: "height" (metres) or "count" (voxels).

    Raises:
        OcclabError: a shape that is not the grid's, logits, NaN, another ``colour``.
    """
    solid = theme.occupied(volume, grid, threshold)
    count = solid.sum(axis=0)
    if colour == "height":
        top = len(solid) - np.argmax(solid[::-1], axis=0)  # number of the plane above the highest occupied voxel
        values = grid.point_cloud_range[2] + top * grid.voxel_size[2]
        low, high, name, unit = grid.point_cloud_range[2], grid.point_cloud_range[5], "height (m)", "m"
    elif colour == "count":
        values, low, high, name, unit = count, 0, int(count.max()) or 1, "voxels", "voxels"
    else:
        raise OcclabError(f"bev_figure expects colour='height' or 'count', got {colour!r}")
    image = np.where(count > 0, values, np.nan).astype(np.float32)
    bar = theme.colour_bar(name)
    trace = heatmap(image, grid, zmin=low, zmax=high, colorscale=theme.HEIGHT_SCALE, colorbar=bar)
    trace.hovertemplate = f"x %{{y:.1f}} m, y %{{x:.1f}} m: %{{z:.2f}} {unit}<extra></extra>"
    columns, n = int((count > 0).sum()), int(count.sum())
    subtitle = f"{columns:,} of {count.size:,} columns hold a voxel, {n:,} voxels in all"
    figure = _from_above([trace, car_marker(grid)], grid, title or "From above", subtitle)
    return figure if n else theme.say(figure, "nothing is occupied")


def bev_comparison_figure(
    predicted: Any, target: Any, grid: VoxelGrid, *, mask: Any = None, title: str | None = None, threshold: float = 0.5
) -> Any:
    """A prediction against its target from above: what became of each column.

    A column with a voxel hit is a hit; one where both hold voxels, but none in common, has the wrong height.

    Shape:
        predicted, target, mask: as in :func:`occlab.viz.comparison_figure`.

    Raises:
        OcclabError: a shape that is not the grid's, logits, NaN.
    """
    outcome = theme.outcomes(predicted, target, grid, mask, threshold)
    hit, miss, alarm = ((outcome == k).any(axis=0) for k in theme.OUTCOMES)
    column = np.select([hit, miss & alarm, miss, alarm], [1, 4, 2, 3], default=0).astype(np.float32)
    column[column == 0] = np.nan
    bands = [stop for i, (_, c) in enumerate(_COLUMN_OUTCOMES) for stop in ((i / 4, c), ((i + 1) / 4, c))]
    go = require("plotly.graph_objects")
    traces = [heatmap(column, grid, zmin=0.5, zmax=4.5, colorscale=bands, showscale=False, hoverinfo="skip")]
    for k, (name, c) in enumerate(_COLUMN_OUTCOMES, start=1):
        marker = {"symbol": "square", "size": 11, "color": c}
        traces.append(
            go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=f"{name} ({int((column == k).sum()):,})")
        )
    *_, iou = theme.score(outcome)
    title = title or "Prediction against target, from above"
    figure = _from_above([*traces, car_marker(grid)], grid, title, f"columns; IoU of voxels {iou:.3f}")
    return figure if np.isfinite(column).any() else theme.say(figure, "nothing is occupied, and nothing was predicted")


def height_slices_figure(
    volume: Any, grid: VoxelGrid, channels: Sequence[int] | None = None, *, title: str | None = None
) -> Any:
    """Small pictures of single height channels, seen from above, on one colour scale.

    Shape:
        volume: (Z, Y, X) or (1, Z, Y, X): booleans, or probabilities, which are drawn as such, in whole per cent.
        channels: numbers of the channels, 0 the lowest; default the six with the largest sums, from low to high.

    Raises:
        OcclabError: a shape that is not the grid's, logits, NaN, or a channel that does not exist.
    """
    array = theme.as_volume(volume, grid)
    array = array if array.dtype.kind == "f" else array > 0
    if channels is None:
        channels = np.sort(np.argsort(-array.sum(axis=(1, 2)), kind="stable")[:6])
    channels = [int(c) for c in channels]
    wrong = [c for c in channels if not 0 <= c < len(array)]
    if wrong or not channels:
        raise OcclabError(f"height_slices_figure expects channels from 0 to {len(array) - 1}, got {wrong or 'none'}")
    columns = {1: 1, 2: 2, 4: 2}.get(len(channels), 3)
    rows = -(-len(channels) // columns)
    figure = require("plotly.subplots").make_subplots(
        rows,
        columns,
        subplot_titles=[_head(array[c], c, grid) for c in channels],
        horizontal_spacing=0.03,
        vertical_spacing=0.2 / rows,
        shared_xaxes="all",
        shared_yaxes="all",
    )
    for i, c in enumerate(channels):
        image = np.round(array[c].astype(np.float32) * 100).astype(np.uint8)
        trace = heatmap(image, grid, zmin=0, zmax=100, coloraxis="coloraxis", hoverinfo="skip")
        figure.add_trace(trace, i // columns + 1, i % columns + 1)
        number = i + 1 if i else ""
        last = i + columns >= len(channels)  # nothing below it
        figure.layout[f"xaxis{number}"].update(
            {**flat_axis(grid, 1, named=last, most=4), "showticklabels": last, "constrain": "domain"}
        )
        figure.layout[f"yaxis{number}"].update({**flat_axis(grid, 0, named=i % columns == 0, most=4), "constrain": "domain"})
        figure.layout[f"yaxis{number}"].update(scaleanchor=f"x{number}", scaleratio=1, constraintoward="top")
    soft = array.dtype.kind == "f"
    scale = {"colorscale": "Greys", "cmin": 0, "cmax": 100, "colorbar": theme.colour_bar("probability (%)"), "showscale": soft}
    figure.update_annotations(font_size=12.5, yshift=2)
    figure.update_layout(theme.figure([], title=title or "Height channels", subtitle="from above, x forward, y left").layout)
    return figure.update_layout(coloraxis=scale, height=160 + (240 if columns == 3 else 300) * rows, margin_t=112)


def height_profile_figure(volumes: dict[str, Any], grid: VoxelGrid, *, title: str | None = None) -> Any:
    """How many cells of each height channel are occupied, one line a volume.

    Shape:
        volumes: name -> (Z, Y, X) or (1, Z, Y, X): booleans, or probabilities, whose sum is the expected number.

    Raises:
        OcclabError: no volume, a shape that is not the grid's, logits, NaN.
    """
    if not volumes:
        raise OcclabError("height_profile_figure expects at least one volume")
    go = require("plotly.graph_objects")
    traces = []
    for i, (name, volume) in enumerate(volumes.items()):
        array = theme.as_volume(volume, grid, name)
        array = array if array.dtype.kind == "f" else array > 0
        traces.append(
            go.Scatter(
                x=array.sum(axis=(1, 2), dtype=np.float64).astype(np.float32),
                y=np.float32(grid.heights()),
                mode="lines+markers",
                name=name,
                line={"color": theme.CYCLE[i % len(theme.CYCLE)], "dash": theme.DASHES[i % len(theme.DASHES)], "width": 2},
                marker={"symbol": theme.SYMBOLS[i % len(theme.SYMBOLS)], "size": 7},
                hovertemplate="z %{y:.2f} m: %{x:,.0f} cells",
            )
        )
    _, ny, nx = grid.shape
    return theme.figure(
        traces,
        title=title or "Occupied cells by height",
        subtitle=f"a channel has {ny * nx:,} cells and is {grid.voxel_size[2]:g} m high",
        xaxis={"title": {"text": "occupied cells in the channel"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "height z (m)"}, "range": [grid.point_cloud_range[2], grid.point_cloud_range[5]]},
        showlegend=True,
    )


def heights_figure(ious: dict[str, Any], grid: VoxelGrid, *, title: str | None = None, value_name: str = "IoU") -> Any:
    """A score of each height channel, such as its IoU, one line a name. Heights without a score leave a gap.

    Shape:
        ious: name -> (Z,) scores of 0 or more from the lowest channel to the highest, None or NaN where a height has no
            occupied cell and so no score.

    Raises:
        OcclabError: nothing to draw, not one score a height channel, or a negative or infinite one.
    """
    if not ious:
        raise OcclabError("heights_figure expects at least one name -> scores by height, got none")
    go = require("plotly.graph_objects")
    traces, everything = [], []
    for i, (name, scores) in enumerate(ious.items()):
        x = np.array([np.nan if s is None else float(s) for s in scores])
        if len(x) != grid.shape[0] or (x < 0).any() or np.isinf(x).any():
            raise OcclabError(
                f"heights_figure expects {grid.shape[0]} scores of 0 or more in {name!r}, one a height, got {x.tolist()}"
            )
        everything.append(x)
        colour = theme.CYCLE[i % len(theme.CYCLE)]
        line = {"color": colour, "dash": theme.DASHES[i % len(theme.DASHES)], "width": 2}
        marker = {"symbol": theme.SYMBOLS[i % len(theme.SYMBOLS)], "size": 7, "color": colour}
        look = {"mode": "lines+markers", "name": name, "line": line, "marker": marker}
        hover = f"z %{{y:.2f}} m: {value_name} %{{x:.3f}}"
        traces.append(go.Scatter(x=x, y=np.float32(grid.heights()), hovertemplate=hover, **look))
    none = int(np.isnan(np.array(everything)).all(axis=0).sum())
    gap = f"; {none} of {grid.shape[0]} heights hold no occupied cell and have no score" if none else ""
    figure = theme.figure(
        traces,
        title=title or f"{value_name} by height",
        subtitle=f"a channel is {grid.voxel_size[2]:g} m high{gap}",
        xaxis={"title": {"text": value_name}, "rangemode": "tozero"},
        yaxis={"title": {"text": "height z (m)"}, "range": [grid.point_cloud_range[2], grid.point_cloud_range[5]]},
        showlegend=True,
    )
    return theme.say(figure, "no height has a score") if none == grid.shape[0] else figure


def _head(channel: np.ndarray, number: int, grid: VoxelGrid) -> str:
    hard = channel.dtype == bool
    amount = f"{int(channel.sum()):,} occupied" if hard else f"mean {channel.mean():.1%}, max {channel.max():.0%}"
    return f"z {grid.heights()[number]:.2f} m (channel {number})<br>{amount}".replace("-", "\N{MINUS SIGN}")


def heatmap(image: np.ndarray, grid: VoxelGrid, **look: Any) -> Any:
    """A trace of (Y, X) values with x up the page; :func:`flat_axis` turns the axis of y round, so that left is left."""
    go = require("plotly.graph_objects")
    (x0, y0, _), (dx, dy, _) = grid.point_cloud_range[:3], grid.voxel_size
    return go.Heatmap(z=np.ascontiguousarray(image.T), x0=y0 + dy / 2, dx=dy, y0=x0 + dx / 2, dy=dx, **look)


def flat_axis(grid: VoxelGrid, axis: int, *, named: bool = True, most: int = 6) -> dict[str, Any]:
    """The layout of one axis of a view from above: of x (``axis`` 0), up the page, or of y (1), to the left.

    Args:
        named: whether its name stands beside it.
        most: ticks on it.
    """
    low, high = grid.point_cloud_range[axis], grid.point_cloud_range[axis + 3]
    name = ("x, forward (m)", "y, left (m)")[axis] if named else ""
    ticks = theme.nice_ticks(low, high, most)
    turned = [low, high] if axis == 0 else [high, low]
    return {"title": {"text": name}, "range": turned, "showgrid": False, "tickvals": ticks, "tickangle": 0}


def car_marker(grid: VoxelGrid) -> Any:
    """The car that carries the sensors, seen from above."""
    go = require("plotly.graph_objects")
    marker = {"symbol": "triangle-up", "size": 12, "color": theme.VERMILLION, "line": {"color": "#FFFFFF", "width": 1}}
    return go.Scatter(x=[0], y=[0], mode="markers", marker=marker, name="this car, facing up", hoverinfo="skip")


def _from_above(traces: list[Any], grid: VoxelGrid, title: str, subtitle: str) -> Any:
    return theme.figure(
        traces,
        title=title,
        subtitle=subtitle,
        height=theme.HEIGHT_3D,
        xaxis={**flat_axis(grid, 1), "constrain": "domain"},
        yaxis={**flat_axis(grid, 0), "constrain": "domain", "scaleanchor": "x", "scaleratio": 1},
        showlegend=True,
    )

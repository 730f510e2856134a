"""Point clouds in 3-D, alone or over one another."""

from typing import Any

import numpy as np

from ..errors import OcclabError, require
from . import theme

MAX_POINTS = 40_000
"""Most points in one figure: about 0.6 MB of JSON."""


def points_figure(
    points: Any, *, colour: Any = "height", max_points: int = MAX_POINTS, title: str | None = None, colour_name: str = "value"
) -> Any:
    """One cloud, coloured by height or by a number for each point.

    A larger cloud is thinned evenly to ``max_points``, and the figure says so.

    Shape:
        points: (N, 3 or more), x y z first, metres; array or tensor.
        colour: "height", or (N,) numbers, which ``colour_name`` labels on the colour bar (with their unit).
        returns: ``plotly.graph_objects.Figure``; its traces hold centimetres, its ticks read in metres.

    Raises:
        OcclabError: points or colours of another shape.
    """
    cloud = _cloud(points, "points")
    if isinstance(colour, str):
        if colour != "height":
            raise OcclabError(f"points_figure expects colour='height' or one number a point, got {colour!r}")
        values = theme.to_centimetres(cloud[:, 2])
        low, high = (np.percentile(values, (1, 99)) if len(values) else (-100.0, 100.0)) + np.array([-1.0, 1.0])
        bar = theme.height_bar(low / theme.CENTIMETRES, high / theme.CENTIMETRES)
    else:
        values = theme.as_array(colour).astype(np.float32)
        if values.shape != (len(cloud),):
            raise OcclabError(f"points_figure expects one colour for each of {len(cloud)} points, got shape {values.shape}")
        low, high = (float(np.nanmin(values)), float(np.nanmax(values))) if len(values) else (0.0, 1.0)
        bar = theme.colour_bar(colour_name, len=0.7)
    keep = _thin(len(cloud), max_points)
    marker = {"size": 1.2, "color": values[keep], "colorscale": theme.HEIGHT_SCALE, "cmin": low, "cmax": high, "colorbar": bar}
    trace = _trace(cloud[keep], marker, "points", showlegend=False)
    figure = _figure([trace], cloud[keep], title or "Point cloud", _counted(len(cloud), len(keep)))
    return figure if len(cloud) else theme.say(figure, "no points")


def clouds_figure(clouds: dict[str, Any], *, max_points: int = MAX_POINTS, title: str | None = None) -> Any:
    """Several clouds over one another, one colour each; a click in the legend turns one off.

    Shape:
        clouds: name -> (N, 3 or more) points, e.g. ``{"pseudo": frame.pseudo, "LiDAR": frame.lidar}``.
        max_points: of all clouds together, shared evenly.

    Raises:
        OcclabError: no cloud, or points of another shape.
    """
    if not clouds:
        raise OcclabError("clouds_figure expects at least one cloud")
    traces, shown, total = [], [], 0
    for i, (name, points) in enumerate(clouds.items()):
        cloud = _cloud(points, name)
        kept = cloud[_thin(len(cloud), max_points // len(clouds))]
        marker = {"size": 1.2, "color": theme.CYCLE[i % len(theme.CYCLE)]}
        traces.append(_trace(kept, marker, f"{name} ({len(cloud):,})", showlegend=True))
        shown.append(kept)
        total += len(cloud)
    kept = np.concatenate(shown)
    figure = _figure(traces, kept, title or " and ".join(clouds), _counted(total, len(kept)))
    figure.update_layout(legend_itemsizing="constant")
    return figure if total else theme.say(figure, "no points")


def _cloud(points: Any, what: str) -> np.ndarray:
    cloud = theme.as_array(points)
    if cloud.ndim != 2 or cloud.shape[1] < 3 or cloud.dtype.kind not in "fiu":
        raise OcclabError(f"{what}: expected points of shape (N, 3 or more), x y z first, got {cloud.dtype} {cloud.shape}")
    if not np.isfinite(cloud[:, :3]).all():
        raise OcclabError(f"{what}: expected finite coordinates, got NaN or infinity")
    return cloud[:, :3]


def _thin(n: int, most: int) -> np.ndarray:
    """Which of ``n`` points to draw: all, or ``most`` of them drawn without regard to their order (LiDAR files have one)."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(0).choice(n, most, replace=False))


def _counted(total: int, shown: int) -> str:
    return f"{total:,} points" if shown == total else f"{total:,} points, {shown:,} of them drawn"


def _trace(cloud: np.ndarray, marker: dict[str, Any], name: str, *, showlegend: bool) -> Any:
    go = require("plotly.graph_objects")
    x, y, z = np.ascontiguousarray(theme.to_centimetres(cloud).T)
    return go.Scatter3d(x=x, y=y, z=z, mode="markers", marker=marker, name=name, showlegend=showlegend, hoverinfo="skip")


def _figure(traces: list[Any], cloud: np.ndarray, title: str, subtitle: str) -> Any:
    # A depth model's stray points reach hundreds of metres: the view is set by the bulk, the rest stays there to be found.
    low, high = np.percentile(cloud, (0.5, 99.5), axis=0) if len(cloud) else (np.full(3, -10.0), np.full(3, 10.0))
    box = (*np.floor(np.minimum(low, high - 1) - 0.5), *np.ceil(high + 0.5))
    return theme.figure(
        [*traces, *theme.rings(box)],
        title=title,
        subtitle=subtitle,
        height=theme.HEIGHT_3D,
        scene=theme.scene(box),
        margin={"l": 16, "r": 16, "t": 76, "b": 0},
    )

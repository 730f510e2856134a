"""Two predictions over the training, side by side, under one slider.

Voxels are square points here: the scattered voxels of an untrained network take fifty times the bytes as a mesh, and a
figure of many snapshots is only kept in a committed notebook while it is small. Traces hold cell numbers, a byte each.
"""

from typing import Any

import numpy as np

from ..errors import OcclabError, require
from ..grid import VoxelGrid
from . import theme
from .voxels import car_and_rings

MAX_PAIR_BYTES = 340_000
"""Most bytes that the voxels of all snapshots take as JSON: with the rest of it, a figure stays under 400 kB."""

_HEIGHT, _GAP = 540, 0.02  # pixels; between the two scenes, as a share of the width
_SCENE = 360  # pixels that a scene is wide on a page, about
_DRAWN = (1, 3)  # outcomes: hits and false alarms


def snapshots_pair_figure(
    snapshots: dict[str, dict[int, Any]],
    grid: VoxelGrid,
    *,
    target: Any = None,
    surest: int | None = None,
    threshold: float = 0.5,
    title: str | None = None,
) -> Any:
    """The predicted volumes of two trainings in two 3-D scenes; one slider over the steps moves both, the last one showing.

    With a target, hits and false alarms are drawn in their colours and the IoU is said; without one, heights are coloured.
    Where all snapshots together weigh more than :data:`MAX_PAIR_BYTES`, every one is cut to the same distance from the
    car, and the figure says so; counts and IoU are of the whole grid.

    Args:
        surest: draw so many voxels of each volume, those of the highest probability, in place of those above
            ``threshold``: the only fair sight of an output that cannot go under 1/2. Give the number of voxels that the
            target has. Voxels of one probability stay together, so that the number is met as nearly as they allow.

    Shape:
        snapshots: name -> step -> (Z, Y, X) or (1, Z, Y, X), as ``Run.snapshots()`` gives; two names with the same steps.
        target: the same shape; occupied above 0, also where it is soft.

    Raises:
        OcclabError: not two names, other steps for one than for the other, a bad volume, or ``surest`` below 1.
    """
    if len(snapshots) != 2 or not all(isinstance(volumes, dict) and volumes for volumes in snapshots.values()):
        raise OcclabError(f"snapshots_pair_figure expects two names, each with step -> volume, got {list(snapshots)}")
    first, second = snapshots.values()
    if set(first) != set(second):
        raise OcclabError(
            f"snapshots_pair_figure expects the same steps of both names, got {sorted(first)} and {sorted(second)}"
        )
    if surest is not None and surest < 1:
        raise OcclabError(f"snapshots_pair_figure expects surest of at least 1, got {surest}")
    drawn, notes = {}, {}
    for name, volumes in snapshots.items():
        for step in sorted(volumes):
            what = f"snapshot {step} of {name}"
            if surest is None:
                solid = theme.occupied(volumes[step], grid, threshold, what)
            else:
                solid = _surest(theme.as_volume(volumes[step], grid, what), surest)
            notes[name, step] = f"<b>{name}</b><br>{int(solid.sum()):,} voxels"
            value = solid.astype(np.uint8)
            if target is not None:
                outcome = theme.outcomes(solid, target, grid)
                notes[name, step] += f", IoU {theme.score(outcome)[-1]:.3f}"
                value = np.where(np.isin(outcome, _DRAWN), outcome, 0)  # misses would hide what was predicted
            drawn[name, step] = np.where(_seen(value), value, 0)
    columns, radius = _within(drawn, grid, MAX_PAIR_BYTES // (4 if target is not None else 6))
    box = _box(columns, grid)
    # As wide as a cell in the middle of the scene, whatever is cut off: points do not grow when one comes nearer.
    size = max(1.2, 0.5 * _SCENE / max(columns.any(axis=0).sum(), columns.any(axis=1).sum()))
    last, traces, steps = max(first), [], []  # steps: that which a trace belongs to, None where it always shows
    for name, scene in zip(snapshots, ("scene", "scene2"), strict=True):
        for step in sorted(first):
            volume = np.where(columns, drawn[name, step], 0)
            if target is None:
                found = [_points(volume, grid, scene, size=size, **_by_height(grid, scene == "scene2"))]
            else:
                found = [_points(volume == v, grid, scene, size=size, color=theme.OUTCOMES[v][1]) for v in _DRAWN]
            traces += [trace.update(visible=step == last) for trace in found]
            steps += [step] * len(found)
        fixed = [_to_cells(trace, grid) for trace in car_and_rings(VoxelGrid(box, grid.voxel_size))]
        fixed += _keys() if target is not None and scene == "scene" else []
        traces += [trace.update(scene=scene, showlegend=trace.showlegend is not False and scene == "scene") for trace in fixed]
        steps += [None] * len(fixed)
    subtitle = f"voxels above p = {threshold:g}"
    if surest is not None:
        subtitle = f"the {surest:,} voxels that each is surest of, as nearly as equal probabilities allow"
    if radius is not None:
        subtitle += f"; drawn within {radius:g} m of the car"
    return _figure(traces, steps, notes, _scene(box, grid), title or "Two predictions over the training", subtitle)


def _figure(
    traces: list[Any],
    steps: list[int | None],
    notes: dict[tuple[str, int], str],
    scene: dict[str, Any],
    title: str,
    subtitle: str,
) -> Any:
    names, labels = list(dict.fromkeys(name for name, _ in notes)), list(dict.fromkeys(step for _, step in notes))
    lefts = (0.0, 0.5 + _GAP / 2)
    scenes = [{**scene, "domain": {"x": [left, left + 0.5 - _GAP / 2], "y": [0.06, 0.92]}} for left in lefts]
    figure = theme.figure(
        traces,
        title=title,
        subtitle=subtitle,
        height=_HEIGHT,
        margin={"l": 16, "r": 16, "t": 84, "b": 16},
        scene=scenes[0],
        scene2=scenes[1],
        showlegend=any(trace.showlegend for trace in traces),
        legend={"y": 0.06, "yref": "paper", "yanchor": "top", "itemsizing": "constant"},
    )
    for left, name in zip(lefts, names, strict=True):
        look = {"showarrow": False, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "top", "align": "left"}
        figure.add_annotation(x=left, y=1, text=notes[name, labels[-1]], font={"size": 13}, **look)
    moves = []
    for label in labels:
        texts = {f"annotations[{i}].text": notes[name, label] for i, name in enumerate(names)}
        visible = [step in (None, label) for step in steps]
        moves.append({"label": str(label), "method": "update", "args": [{"visible": visible}, texts]})
    slider = {"active": len(labels) - 1, "steps": moves, "currentvalue": {"prefix": "step "}, "pad": {"t": 16}, "len": 0.9}
    return figure.update_layout(sliders=[slider])


def _surest(array: np.ndarray, count: int) -> np.ndarray:
    """(Z, Y, X) bool: the cells of the highest probabilities, as many whole groups of equals as come nearest to ``count``."""
    levels, sizes = np.unique(array, return_counts=True)
    reached = np.append(0, np.cumsum(sizes[::-1]))  # cells above the highest level, the next, ... and all of them
    groups = int(np.abs(reached - count).argmin())
    return array >= levels[-groups] if groups else np.zeros(array.shape, dtype=bool)


def _seen(volume: np.ndarray) -> np.ndarray:
    """(Z, Y, X) bool: the voxels with an empty neighbour."""
    solid = np.pad(volume > 0, 1)
    z, y, x = (slice(1, -1),) * 3
    inside = solid[:-2, y, x] & solid[2:, y, x] & solid[z, :-2, x] & solid[z, 2:, x] & solid[z, y, :-2] & solid[z, y, 2:]
    return solid[z, y, x] & ~inside


def _within(volumes: dict[Any, np.ndarray], grid: VoxelGrid, most: int) -> tuple[np.ndarray, float | None]:
    """(Y, X) bool, the columns to draw: those so near to the car that no more than ``most`` voxels are in them; and how
    near that is, metres, where it is not everywhere."""
    x, y = _centres(grid)
    far = np.maximum(np.abs(x)[None], np.abs(y)[:, None])
    in_column = np.sum([(volume > 0).sum(axis=0) for volume in volumes.values()], axis=0)
    order = np.argsort(far, axis=None)
    total = np.cumsum(in_column.reshape(-1)[order])
    if total[-1] <= most:
        return np.ones(far.shape, dtype=bool), None
    radius = max(float(np.floor(far.reshape(-1)[order][np.searchsorted(total, most)])), float(far.min()), 2.0)
    return far <= radius, radius


def _box(columns: np.ndarray, grid: VoxelGrid) -> tuple[float, ...]:
    """x, y, z low, x, y, z high, metres, of the columns."""
    (x0, y0, z0), (dx, dy, _), z1 = grid.point_cloud_range[:3], grid.voxel_size, grid.point_cloud_range[5]
    x, y = (np.flatnonzero(columns.any(axis=axis)) for axis in (0, 1))
    return (x0 + x[0] * dx, y0 + y[0] * dy, z0, x0 + (x[-1] + 1) * dx, y0 + (y[-1] + 1) * dy, z1)


def _centres(grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray]:
    """Metres of the columns along x and along y."""
    _, ny, nx = grid.shape
    (x0, y0, _), (dx, dy, _) = grid.point_cloud_range[:3], grid.voxel_size
    return x0 + (np.arange(nx) + 0.5) * dx, y0 + (np.arange(ny) + 0.5) * dy


def _scene(box: tuple[float, ...], grid: VoxelGrid) -> dict[str, Any]:
    """The theme's scene over ``box``, for traces in cell numbers."""
    scene = theme.scene(box)
    for i, axis in enumerate(("xaxis", "yaxis", "zaxis")):
        low, size = grid.point_cloud_range[i], grid.voxel_size[i]
        for key in ("range", "tickvals"):
            scene[axis][key] = [(v / theme.CENTIMETRES - low) / size - 0.5 for v in scene[axis][key]]
        scene[axis]["title"] = {"text": "xyz"[i], "font": {"size": 12}}
        scene[axis]["tickfont"] = {"size": 10}
    # Farther and higher: these scenes are half as wide, and no corner of the floor may lie outside.
    scene["camera"] = {"eye": {"x": -1.9, "y": -0.3, "z": 2.0}, "center": {"x": -0.12, "y": 0.0, "z": -0.1}}
    return scene


def _to_cells(trace: Any, grid: VoxelGrid) -> Any:
    """A trace in centimetres as one in cell numbers."""
    for axis, low, size in zip("xyz", grid.point_cloud_range[:3], grid.voxel_size, strict=True):
        trace[axis] = ((np.asarray(trace[axis], dtype=np.float64) / theme.CENTIMETRES - low) / size - 0.5).astype(np.float32)
    return trace


def _points(where: np.ndarray, grid: VoxelGrid, scene: str, *, size: float, **look: Any) -> Any:
    """Square points at the cells (Z, Y, X) that are True; with a ``colorscale`` they are coloured by height."""
    go = require("plotly.graph_objects")
    narrow = np.uint8 if max(grid.shape) <= 256 else np.uint16
    z, y, x = (index.astype(narrow) for index in np.nonzero(where))
    marker = {"symbol": "square", "size": size, "line": {"width": 0}, "opacity": 1, **look}
    marker |= {"color": z} if "colorscale" in look else {}
    return go.Scatter3d(x=x, y=y, z=z, mode="markers", hoverinfo="skip", showlegend=False, marker=marker, scene=scene)


def _by_height(grid: VoxelGrid, bar: bool) -> dict[str, Any]:
    """Colours of heights for points that hold cell numbers, the bar reading in metres."""
    low, high = grid.point_cloud_range[2], grid.point_cloud_range[5]
    ticks = theme.height_bar(low, high)
    ticks["tickvals"] = [(v / theme.CENTIMETRES - low) / grid.voxel_size[2] - 0.5 for v in ticks["tickvals"]]
    limits = {"cmin": -0.5, "cmax": grid.shape[0] - 0.5}
    return {"colorscale": theme.HEIGHT_SCALE, **limits, "showscale": bar, "colorbar": {**ticks, "len": 0.5}}


def _keys() -> list[Any]:
    """Legend entries of the two outcomes that are drawn."""
    go = require("plotly.graph_objects")
    nothing = {"x": [None], "y": [None], "z": [None], "mode": "markers", "showlegend": True}
    looks = [theme.OUTCOMES[value] for value in _DRAWN]
    return [go.Scatter3d(name=name, marker={"symbol": "square", "size": 8, "color": c}, **nothing) for name, c in looks]

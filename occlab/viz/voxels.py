"""Occupancy volumes in 3-D: one volume by height, a prediction against its target, a prediction over the training."""

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import OcclabError, require
from ..grid import VoxelGrid
from . import theme
from .mesh import Mesh, exposed_mesh

MAX_RECTANGLES = 24_000
"""Most rectangles in one figure, of :data:`BYTES` each; of lighter ones there may be more. So a figure is less than 1 MB of
JSON whatever it shows, and takes a second or so in a browser without a graphics card."""
BYTES = 40
"""What a rectangle weighs as JSON; few weigh more. It has 12 bytes of indices, and 6 for each of its one or two vertices, 8
where height colours it; and base64 takes four thirds of that, with Plotly's six characters for every slash."""

# Plotly scales a scene to about one unit, so faces of a 180-wide grid are smaller than the areas below which it sets
# no normal; without these two zeros boxes are silhouettes.
_LIGHTING = {
    "facenormalsepsilon": 0,
    "vertexnormalsepsilon": 0,
    "ambient": 0.6,
    "diffuse": 0.5,
    "specular": 0.0,
    "fresnel": 0.0,
}
_LIGHT = {"x": -30_000, "y": 80_000, "z": 60_000}  # on the screen: from the left, above and the viewer, so that sides differ
_CAR = (-2.3, -0.95, theme.ROAD, 2.3, 0.95, theme.ROAD + 1.5)  # 4.6 x 1.9 x 1.5 m


def voxel_figure(volume: Any, grid: VoxelGrid, *, title: str | None = None, threshold: float = 0.5) -> Any:
    """One volume, coloured by height.

    Beyond the weight of :data:`MAX_RECTANGLES` faces only the voxels nearest to the car are drawn, and the figure says so.

    Shape:
        volume: (Z, Y, X) or (1, Z, Y, X), array or tensor: booleans, or probabilities (occupied above ``threshold``).
        returns: ``plotly.graph_objects.Figure``; its 3-D traces hold centimetres, its ticks read in metres.

    Raises:
        OcclabError: a shape that is not the grid's, logits, NaN.
    """
    solid = theme.occupied(volume, grid, threshold)
    [(traces, radius)] = _within_budget([solid], grid, lambda mesh: [_height_trace(mesh, grid)])
    n = int(solid.sum())
    subtitle = f"{n:,} of {solid.size:,} voxels occupied ({n / solid.size:.2%}){_cut(radius)}"
    figure = _figure([*traces, *car_and_rings(grid)], grid, title or "Occupied voxels", subtitle)
    if n in (0, solid.size):
        theme.say(figure, "every voxel is occupied" if n else "nothing is occupied")
    return figure


def comparison_figure(
    predicted: Any, target: Any, grid: VoxelGrid, *, mask: Any = None, title: str | None = None, threshold: float = 0.5
) -> Any:
    """A prediction against its target: hits, misses and false alarms, each a trace that the legend turns on and off.

    Shape:
        predicted: (Z, Y, X) or (1, Z, Y, X): booleans, or probabilities (occupied above ``threshold``).
        target: the same shape; occupied above 0, also where it is soft.
        mask: the same shape, True where a voxel counts; the others are not drawn.

    Raises:
        OcclabError: a shape that is not the grid's, logits, NaN.
    """
    outcome = theme.outcomes(predicted, target, grid, mask, threshold)
    *counts, iou = theme.score(outcome)
    looks = [(k, f"{name} ({n:,})", colour) for (k, (name, colour)), n in zip(theme.OUTCOMES.items(), counts, strict=True)]
    draw = lambda mesh: [_solid(mesh.part(k), grid, *look) for k, *look in looks]  # noqa: E731
    [(traces, radius)] = _within_budget([outcome], grid, draw)
    figure = _figure(
        [*traces, *car_and_rings(grid)], grid, title or "Prediction against target", f"IoU {iou:.3f}{_cut(radius)}"
    )
    return figure if sum(counts) else theme.say(figure, "nothing is occupied, and nothing was predicted")


def snapshot_figure(
    volumes: Sequence[Any], labels: Sequence[Any], grid: VoxelGrid, *, title: str | None = None, threshold: float = 0.5
) -> Any:
    """The predicted volume over the training: a slider with one position per snapshot, the last one showing.

    All snapshots share the weight of :data:`MAX_RECTANGLES` faces; the heaviest are cut to what is near the car.

    Shape:
        volumes: S volumes as in :func:`voxel_figure`; labels: S, e.g. the training steps.

    Raises:
        OcclabError: no snapshot, not one label a volume, or a bad volume.
    """
    if len(volumes) != len(labels) or not len(volumes):
        raise OcclabError(
            f"snapshot_figure expects one label for each of at least one volume, got {len(volumes)} and {len(labels)}"
        )
    solids = [theme.occupied(v, grid, threshold, f"snapshot {label}") for v, label in zip(volumes, labels, strict=True)]
    drawn = _within_budget(solids, grid, lambda mesh: [_height_trace(mesh, grid)])
    car = car_and_rings(grid)
    traces, steps = [], []
    for i, (([trace], radius), solid, label) in enumerate(zip(drawn, solids, labels, strict=True)):
        trace.visible = i == len(drawn) - 1
        traces.append(trace)
        visible = [j == i for j in range(len(drawn))] + [True] * len(car)
        subtitle = f"step {label}: {int(solid.sum()):,} voxels occupied ({solid.mean():.2%}){_cut(radius)}"
        steps.append(
            {"label": str(label), "method": "update", "args": [{"visible": visible}, {"title.subtitle.text": subtitle}]}
        )
    figure = _figure([*traces, *car], grid, title or "The predicted volume over the training", subtitle)
    slider = {"active": len(drawn) - 1, "steps": steps, "currentvalue": {"prefix": "step "}, "pad": {"t": 8}, "len": 0.9}
    figure.update_layout(sliders=[slider], margin_b=24, legend={"y": 1, "yref": "paper", "yanchor": "top"})
    return figure


def _within_budget(
    volumes: list[np.ndarray], grid: VoxelGrid, draw: Callable[[Mesh], list[Any]]
) -> list[tuple[list[Any], float | None]]:
    """What ``draw`` makes of the volumes' meshes, all of it within the budget; each with the distance (m) to which it was cut,
    if it was.

    What some do not need of their share goes to the others, so that a noisy first snapshot does not cut the later ones.
    """
    meshes, left, most = [exposed_mesh(v) for v in volumes], MAX_RECTANGLES * BYTES, 0
    # Of twice as many it is known without drawing them that they are too heavy.
    drawn = [draw(mesh) if mesh.rectangles < 2 * MAX_RECTANGLES else [] for mesh in meshes]
    weights = [_weight(traces) if traces else left + 1 for traces in drawn]
    for n_more, weight in enumerate(sorted(weights)):
        most = left // (len(weights) - n_more)
        if weight > most:
            break
        left -= weight
    return [
        (traces, None) if weight <= most else _near(v, mesh, grid, draw, most)
        for v, mesh, traces, weight in zip(volumes, meshes, drawn, weights, strict=True)
    ]


def _weight(traces: list[Any]) -> int:
    """Bytes of JSON, nearly all of which are arrays."""
    arrays = [trace[name] for trace in traces for name in (*"xyzijk", "intensity")]
    texts = [base64.b64encode(np.ascontiguousarray(array)) for array in arrays if array is not None]
    return sum(len(text) + 5 * text.count(b"/") for text in texts)


def _near(
    volume: np.ndarray, mesh: Mesh, grid: VoxelGrid, draw: Callable[[Mesh], list[Any]], most: int
) -> tuple[list[Any], int]:
    """The columns nearest to the car, as many as weigh ``most`` bytes, and how far they reach, metres."""
    _, ny, nx = grid.shape
    (x0, y0, _), (dx, dy, _) = grid.point_cloud_range[:3], grid.voxel_size
    corners = mesh.vertices[mesh.triangles[::2, 0], :2]
    distances = np.abs(corners * (dx, dy) + (x0, y0)).max(axis=1)
    x, y = x0 + (np.arange(nx) + 0.5) * dx, y0 + (np.arange(ny) + 0.5) * dy
    away = np.maximum(np.abs(x)[None], np.abs(y)[:, None])
    radius = max(1, int(np.quantile(distances, min(1, 2 * most / BYTES / mesh.rectangles))))
    while True:
        traces = draw(exposed_mesh(volume, away <= radius))
        weight = _weight(traces)
        if radius == 1 or weight <= most:
            return traces, radius
        radius = max(1, min(radius - 1, int(radius * np.sqrt(most / weight))))


def _cut(radius: float | None) -> str:
    return "" if radius is None else f"; too many faces: drawn within {radius:g} m of the car only"


def centimetres(mesh: Mesh, grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a mesh's vertices lie in the grid, in the unit of 3-D traces.

    Shape:
        returns: x, y, z, each (V,).
    """
    x, y, z = (
        theme.to_centimetres(low + mesh.vertices[:, axis] * edge)
        for axis, (low, edge) in enumerate(zip(grid.point_cloud_range[:3], grid.voxel_size, strict=True))
    )
    return x, y, z


def mesh_trace(mesh: Mesh, grid: VoxelGrid, **look: Any) -> Any:
    """A mesh of the grid's cells as a ``Mesh3d``, lit so that the sides of a box differ; ``look``: its colours, name, scene."""
    go = require("plotly.graph_objects")
    x, y, z = centimetres(mesh, grid)
    i, j, k = np.ascontiguousarray(mesh.triangles.T)
    return go.Mesh3d(
        x=x, y=y, z=z, i=i, j=j, k=k, flatshading=True, lighting=_LIGHTING, lightposition=_LIGHT, hoverinfo="skip", **look
    )


def _height_trace(mesh: Mesh, grid: VoxelGrid) -> Any:
    # The colour is a vertex's own height: it interpolates to the right one, so that faces merge upwards too.
    low, high = grid.point_cloud_range[2], grid.point_cloud_range[5]
    z = centimetres(mesh, grid)[2]
    return mesh_trace(
        mesh,
        grid,
        intensity=z,
        colorscale=theme.HEIGHT_SCALE,
        cmin=low * theme.CENTIMETRES,
        cmax=high * theme.CENTIMETRES,
        colorbar=theme.height_bar(low, high),
        name="occupied",
    )


def _solid(mesh: Mesh, grid: VoxelGrid, name: str, colour: str) -> Any:
    return mesh_trace(mesh, grid, name=name, color=colour, showlegend=True)


def car_and_rings(grid: VoxelGrid) -> list[Any]:
    """The car that carries the sensors and distances from it, where the grid has room for it."""
    low, high = grid.point_cloud_range[:3], grid.point_cloud_range[3:]
    if not all(a <= b for a, b in zip((*low, *_CAR[3:]), (*_CAR[:3], *high), strict=True)):
        return []
    box = exposed_mesh(np.ones((1, 1, 1), dtype=bool))
    cell = VoxelGrid(_CAR, tuple(b - a for a, b in zip(_CAR[:3], _CAR[3:], strict=True)))
    return [_solid(box, cell, "this car", theme.INK), *theme.rings(grid.point_cloud_range)]


def _figure(traces: list[Any], grid: VoxelGrid, title: str, subtitle: str) -> Any:
    return theme.figure(
        traces,
        title=title,
        subtitle=subtitle,
        height=theme.HEIGHT_3D,
        scene=theme.scene(grid.point_cloud_range),
        margin={"l": 16, "r": 16, "t": 76, "b": 0},
        showlegend=any(t.showlegend for t in traces),
    )

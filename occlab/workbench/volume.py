"""The live views of a predicted volume: in 3-D beside its target, as a histogram of its probabilities, and one height of it.

Each is one ``FigureWidget``, changed in place.
"""

import html
from collections.abc import Collection
from typing import Any

import ipywidgets as widgets
import numpy as np

from ..errors import require
from ..grid import VoxelGrid
from ..viz import slices, theme, voxels
from ..viz.dark import paint, shade
from ..viz.mesh import Mesh, seen_from_above
from .link import Link
from .live_figure import Fit

MAX_VOXELS = 100_000
"""Most voxels of a volume that are drawn one by one; of more, blocks are drawn."""
MAX_RECTANGLES = 18_500
"""Most rectangles of a volume: about a tenth of a second a frame in a browser without a graphics card, and some 1.2 MB to be
sent. A street of 30,000 voxels has fewer, and is less than 1 MB with its target."""

_UP = {"x": 0, "y": 0, "z": 1}
CAMERAS: dict[str, dict[str, dict[str, float]]] = {
    "behind": {"eye": {"x": -1.05, "y": -0.2, "z": 0.5}, "center": {"x": 0, "y": 0, "z": -0.14}, "up": _UP},
    "above": {"eye": {"x": -0.01, "y": 0, "z": 2.4}, "center": {"x": 0, "y": 0, "z": 0}, "up": _UP},
    "side": {"eye": {"x": 0, "y": -1.4, "z": 0.6}, "center": {"x": 0, "y": 0, "z": -0.05}, "up": _UP},
    "front": {"eye": {"x": 1.2, "y": 0, "z": 0.4}, "center": {"x": 0, "y": 0, "z": -0.1}, "up": _UP},
}
"""Where both scenes can be seen from: from behind the car, from above, from its side, from its front."""

_SCENES = {"scene": (0.0, 0.495), "scene2": (0.505, 1.0)}
_CONFIG = theme.CONFIG | {"displayModeBar": False, "plotGlPixelRatio": 1}


class VolumeView:
    """A prediction, coloured by what became of each voxel, beside its target, coloured by height. Turning one turns both.

    Args:
        grid: of the first volumes; :meth:`show` takes those of others too.
        dark: whether the page is.
        height: of the figure, pixels.
    """

    def __init__(self, grid: VoxelGrid, *, dark: bool = False, height: int = 420) -> None:
        go = require("plotly.graph_objects")
        nothing, link = seen_from_above(np.zeros((1, 1, 1), np.uint8)), Link()
        bands = [[(i + end) / 3, colour] for i, (_, colour) in enumerate(theme.OUTCOMES.values()) for end in (0, 1)]
        outcomes = {"intensitymode": "cell", "colorscale": bands, "cmin": 0.5, "cmax": 3.5, "scene": "scene"}
        heights = {"colorscale": theme.HEIGHT_SCALE, "scene": "scene2"}
        line = {"xref": "paper", "yref": "paper", "y": 1, "xanchor": "left", "yanchor": "bottom", "align": "left"}
        line |= {"showarrow": False, "font": {"size": 12}, "text": ""}
        figure = go.Figure(
            [
                voxels.mesh_trace(nothing, grid, name="predicted", intensity=nothing.value, showscale=False, **outcomes),
                voxels.mesh_trace(nothing, grid, name="target", intensity=nothing.value, showscale=False, **heights),
            ],
            {
                "height": height,
                "margin": {"l": 0, "r": 0, "t": 56, "b": 0},
                "showlegend": False,
                "meta": link.mark,
                "annotations": [line | {"x": x} for x in (0.005, 0.505)],
                **{scene: {"domain": {"x": x}, "camera": CAMERAS["behind"]} for scene, x in _SCENES.items()},
            },
        )
        self._dark, self._target = dark, (None, None)
        self._lie_over(grid, figure)
        self.figure = go.FigureWidget(figure)
        self.figure._config = _CONFIG
        for scene, other in ("scene", "scene2"), ("scene2", "scene"):
            self.figure.layout[scene].on_change(lambda _, camera, other=other: self._turn(other, camera), "camera")
        self.widget = _box(self.figure, link)

    def show(
        self,
        p: Any,
        target: Any,
        threshold: float = 0.5,
        mask: Any = None,
        *,
        grid: VoxelGrid | None = None,
        names: tuple[str, str] = ("prediction", "target"),
        shown: Collection[int] = tuple(theme.OUTCOMES),
    ) -> np.ndarray:
        """Draw other volumes, or the same ones otherwise. The target that was drawn before is not sent again.

        Args:
            grid: of these volumes, where it is not the one before.
            names: what the two are, for the lines above them.
            shown: the outcomes that are drawn, by their numbers in ``theme.OUTCOMES``.

        Shape:
            p, target, mask: (Z, Y, X), as in :func:`occlab.viz.comparison_figure`.
            returns: (Z, Y, X) uint8, what became of each voxel, as ``theme.outcomes`` has it.

        Raises:
            OcclabError: a shape that is not the grid's, logits, NaN.
        """
        outcome = theme.outcomes(p, target, grid or self._grid, mask, threshold)
        if grid not in (None, self._grid):
            self._lie_over(grid, self.figure)
        with self.figure.batch_update():
            mesh, edge = _drawn(kept(outcome, shown))
            self._place(0, mesh, intensity=mesh.value)
            self._say(0, *of_prediction(names[0], threshold, outcome, shown), edge)
            if self._target[0] is not target or self._target[1] is not mask:
                self._target = (target, mask)
                solid = np.isin(outcome, (1, 2))
                mesh, edge = _drawn(solid.astype(np.uint8))
                self._place(1, mesh, intensity=mesh.vertices[:, 2].astype(np.min_scalar_type(len(solid))))
                self._say(1, *of_target(names[1], solid), edge)
        return outcome

    def look_from(self, name: str) -> None:
        """Turn both scenes to where :data:`CAMERAS` says."""
        with self.figure.batch_update():
            for scene in _SCENES:
                self.figure.layout[scene].camera = CAMERAS[name]

    def go_nearer(self, factor: float) -> None:
        """Divide the distance from what both scenes look at; below 1 it grows."""
        camera = self.figure.layout.scene.camera.to_plotly_json()
        eye = {axis: at + (camera["eye"][axis] - at) / factor for axis, at in camera["center"].items()}
        with self.figure.batch_update():
            for scene in _SCENES:
                self.figure.layout[scene].camera.eye = eye

    def paint(self, dark: bool) -> None:
        """Paint for a dark page, or a light one."""
        self._dark = dark
        paint(self.figure, dark)

    def close(self) -> None:
        """Take it off the page, with all that it holds there."""
        for one in (self.widget, *self.widget.children):
            one.close()

    def _turn(self, scene: str, camera: Any) -> None:
        """The page's own script does so while the mouse moves; this is for where it could not run, and for who looks later."""
        if self.figure.layout[scene].camera != camera:
            self.figure.layout[scene].camera = camera

    def _lie_over(self, grid: VoxelGrid, figure: Any) -> None:
        """Give a figure the axes, heights and car of another grid."""
        self._grid, self._target = grid, (None, None)
        box = theme.scene(grid.point_cloud_range)
        # No axes: the rings on the road are the measure.
        scene = {axis: {"range": box[axis]["range"], "visible": False} for axis in ("xaxis", "yaxis", "zaxis")}
        scene |= {name: box[name] for name in ("aspectmode", "aspectratio", "uirevision")}
        figure.data = figure.data[:2]
        figure.add_traces([trace.update(scene=name) for name in _SCENES for trace in voxels.car_and_rings(grid)])
        with figure.batch_update():
            figure.update_layout(dict.fromkeys(_SCENES, scene))
            figure.data[1].update(cmin=0, cmax=grid.shape[0])
        paint(figure, self._dark)

    def _place(self, number: int, mesh: Mesh, intensity: np.ndarray) -> None:
        x, y, z = voxels.centimetres(mesh, self._grid)
        i, j, k = np.ascontiguousarray(mesh.triangles.T)
        self.figure.data[number].update(x=x, y=y, z=z, i=i, j=j, k=k, intensity=intensity)

    def _say(self, number: int, heading: str, counts: str, edge: int) -> None:
        blocks = f"<br>in blocks of {edge} x {edge} x {edge} voxels, filled where any voxel is" if edge > 1 else ""
        self.figure.layout.annotations[number].text = f"<b>{html.escape(heading)}</b><br>{counts}{blocks}"


class Histogram:
    """How often each probability is predicted, on a logarithmic axis, with 1/2 and the threshold marked.

    An output that cannot go below 1/2 shows as a wall there.
    """

    BINS = 64
    """They are centred on whole 64ths, so that a wall at 1/2 stands in the middle of one."""

    def __init__(self, *, dark: bool = False, height: int = 170) -> None:
        go = require("plotly.graph_objects")
        centres = np.arange(self.BINS + 1, dtype=np.float32) / self.BINS
        bars = {"cmin": 0, "cmax": 1, "colorscale": [[0, theme.QUIET], [1, theme.SKY]], "line": {"width": 0}}
        mark = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": 0.5, "x1": 0.5, "layer": "below"}
        figure = go.Figure(
            [
                go.Bar(x=centres, name="all voxels", hoverinfo="skip", marker=bars),
                go.Scatter(
                    x=centres,
                    name="occupied in the target",
                    hoverinfo="skip",
                    mode="lines",
                    line={"shape": "hvh", "color": theme.VERMILLION, "width": 1.5},
                ),
            ],
            _small(height)
            | {
                "bargap": 0,
                "xaxis": {"range": [-0.01, 1.01], "tickvals": [0, 0.25, 0.5, 0.75, 1], "ticktext": ["p 0", 0.25, 0.5, 0.75, 1]},
                "yaxis": {"type": "log", "nticks": 4, "exponentformat": "power"},
                "annotations": [
                    {
                        "text": f'<span style="color:{theme.VERMILLION}">\N{BLACK RECTANGLE}</span> occupied in the target',
                        "font": {"size": 11},
                        "showarrow": False,
                        "xref": "paper",
                        "yref": "paper",
                        "x": 1,
                        "y": 1,
                        "xanchor": "right",
                        "yanchor": "top",
                    }
                ],
                "shapes": [
                    mark | {"line": {"dash": "dot", "width": 1, "color": theme.INK}},
                    mark | {"line": {"width": 2, "color": theme.INK}},
                ],
            },
        )
        paint(figure, dark)
        self.figure = go.FigureWidget(figure)
        self.figure._config = _CONFIG
        self.widget = _box(self.figure)

    def show(self, p: Any, target: Any, threshold: float = 0.5, mask: Any = None) -> None:
        """Count again.

        Shape:
            p, target, mask: (Z, Y, X): probabilities, occupied where above 0, and True where a voxel counts.
        """
        p, solid = theme.as_array(p), theme.as_array(target) > 0
        bins = (p * self.BINS + 0.5).astype(np.uint8)
        if mask is not None:
            seen = theme.as_array(mask) > 0
            bins, solid = bins[seen], solid[seen]
        counts = np.bincount(bins.ravel(), minlength=self.BINS + 1)
        occupied = np.bincount(bins[solid].ravel(), minlength=self.BINS + 1).astype(np.float32)
        n, half = max(1, int(counts.sum())), self.BINS // 2
        text = f"<b>p of {n:,} voxels</b><br>{counts[half] / n:.1%} at 0.5, {counts[:half].sum() / n:.1%} below"
        with self.figure.batch_update():
            self.figure.data[0].y = counts.astype(np.int32)
            self.figure.data[1].y = np.where(occupied > 0, occupied, np.nan)
            self.figure.layout.yaxis.range = [-0.3, float(np.ceil(np.log10(n)))]
            self.figure.layout.title.text = text
            self._mark(threshold)

    def mark(self, threshold: float) -> None:
        """Move the threshold."""
        with self.figure.batch_update():
            self._mark(threshold)

    def paint(self, dark: bool) -> None:
        """Paint for a dark page, or a light one."""
        paint(self.figure, dark)

    def _mark(self, threshold: float) -> None:
        self.figure.layout.shapes[1].update(x0=threshold, x1=threshold)
        self.figure.data[0].marker.color = (np.arange(self.BINS + 1) > threshold * self.BINS).astype(np.uint8)


class Slice:
    """What became of the voxels of one height, seen from above: x, forward, up the page and y, left, to the left."""

    def __init__(self, grid: VoxelGrid, *, dark: bool = False, height: int = 240) -> None:
        go = require("plotly.graph_objects")
        figure = go.Figure(
            [go.Heatmap(zmin=-0.5, zmax=3.5, showscale=False, hoverinfo="skip"), slices.car_marker(grid)], _small(height)
        )
        self._grid = None
        self._colour(figure, dark)
        self.figure = go.FigureWidget(figure)
        self.figure._config = _CONFIG
        self.widget = _box(self.figure)

    def show(self, outcome: np.ndarray, channel: int, grid: VoxelGrid) -> None:
        """Another height, 0 the lowest.

        Shape:
            outcome: (Z, Y, X), as :meth:`VolumeView.show` returns it.
        """
        here = outcome[channel]
        *_, iou = theme.score(here)
        height = f"z {grid.heights()[channel]:.2f} m".replace("-", "\N{MINUS SIGN}")
        with self.figure.batch_update():
            if grid != self._grid:
                self._grid = grid
                empty = slices.heatmap(here, grid)
                self.figure.data[0].update(x0=empty.x0, dx=empty.dx, y0=empty.y0, dy=empty.dy)
                tied = {"scaleanchor": "x", "scaleratio": 1}
                for axis, name, more in (1, "xaxis", {}), (0, "yaxis", tied):
                    look = slices.flat_axis(grid, axis, named=False, most=4)
                    ticks = [f"{tick:g} m".replace("-", "\N{MINUS SIGN}") for tick in look["tickvals"]]
                    self.figure.layout[name].update(look | {"ticktext": ticks, "constrain": "domain"} | more)
            self.figure.data[0].z = np.ascontiguousarray(here.T)
            self.figure.layout.title.text = f"<b>{height}, channel {channel}: IoU {iou:.3f}</b><br>{_counts(here)}"

    def paint(self, dark: bool) -> None:
        """Paint for a dark page, or a light one."""
        self._colour(self.figure, dark)

    def _colour(self, figure: Any, dark: bool) -> None:
        colours = [shade("#FFFFFF", dark), *(colour for _, colour in theme.OUTCOMES.values())]
        figure.data[0].colorscale = [[(i + end) / 4, colour] for i, colour in enumerate(colours) for end in (0, 1)]
        paint(figure, dark)


def blocks(volume: np.ndarray, edge: int) -> np.ndarray:
    """A coarser volume: a block is what most of its voxels are that are not empty, the lowest number of equals.

    Shape:
        volume: (Z, Y, X) uint8, 0 (empty) to 3.
        returns: (Z / edge, Y / edge, X / edge) uint8, rounded up; what reaches beyond the volume counts as empty.
    """
    if edge == 1:
        return volume
    padded = np.pad(volume, [(0, -n % edge) for n in volume.shape])
    nz, ny, nx = (n // edge for n in padded.shape)
    parts = padded.reshape(nz, edge, ny, edge, nx, edge)
    counts = np.stack([(parts == k).sum(axis=(1, 3, 5), dtype=np.uint16) for k in theme.OUTCOMES])
    return np.where(counts.any(axis=0), counts.argmax(axis=0) + 1, 0).astype(np.uint8)


def _drawn(volume: np.ndarray) -> tuple[Mesh, int]:
    """The surface of a volume in as small blocks as are drawn quickly, and their edge in voxels."""
    edge = 1 if np.count_nonzero(volume) <= MAX_VOXELS else 2
    while True:
        mesh = seen_from_above(blocks(volume, edge))
        if mesh.rectangles <= MAX_RECTANGLES or edge >= max(volume.shape):
            break
        edge *= 2
    corners = np.minimum(mesh.vertices * edge, volume.shape[::-1]).astype(np.int16)
    return Mesh(corners, mesh.triangles, mesh.value), edge


def kept(outcome: np.ndarray, shown: Collection[int]) -> np.ndarray:
    """The outcomes of voxels, uint8, with 0 for those that are not shown."""
    return (np.arange(4) * np.isin(np.arange(4), [*shown])).astype(np.uint8)[outcome]


def of_prediction(name: str, threshold: float, outcome: np.ndarray, shown: Collection[int]) -> tuple[str, str]:
    """What stands above a prediction: the heading, not escaped, and HTML of the counts."""
    return f"{name}, p > {threshold:.2f}: IoU {theme.score(outcome)[3]:.3f}", _counts(outcome, shown)


def of_target(name: str, solid: np.ndarray) -> tuple[str, str]:
    """What stands above a target, as :func:`of_prediction`."""
    n = int(solid.sum())
    return name, f"{n:,} of {solid.size:,} voxels ({n / solid.size:.2%}), brighter the higher"


def _counts(outcome: np.ndarray, shown: Collection[int] = tuple(theme.OUTCOMES)) -> str:
    """How many of each, with its colour."""
    parts = []
    for (k, (name, colour)), n in zip(theme.OUTCOMES.items(), theme.score(outcome), strict=False):
        hidden = "" if k in shown else " (hidden)"
        parts.append(f'<span style="color:{colour}">\N{BLACK SQUARE}</span> {n:,} {name}{hidden}')
    return "  ".join(parts)


def _small(height: int) -> dict[str, Any]:
    """The layout of a small figure beside the large one."""
    return {
        "height": height,
        "margin": {"l": 44, "r": 8, "t": 44, "b": 24},
        "showlegend": False,
        "dragmode": False,
        "font": {"size": 11},
        "title": {"text": "", "font": {"size": 12}, "pad": {"t": 16}},
    }


def _box(*parts: Any) -> widgets.VBox:
    """A live figure, and the script that keeps it as wide as its place."""
    return widgets.VBox([Fit(), *parts], layout={"width": "100%", "min_width": "0"})

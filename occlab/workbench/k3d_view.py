"""The live 3-D view of a predicted volume by k3d, which draws every voxel where Plotly would draw blocks.

It takes the place of :class:`.volume.VolumeView`, and says the same of what it shows.
"""

import html
from collections.abc import Collection
from typing import Any
from uuid import uuid4

import ipywidgets as widgets
import numpy as np

from ..errors import require
from ..grid import VoxelGrid
from ..viz import dark as dark_paper
from ..viz import theme, voxels
from . import ui
from .volume import CAMERAS, kept, of_prediction, of_target

LINES = 56
"""Height of the lines above each scene, pixels: as much as they take above Plotly's."""

# k3d tells the other side of a camera five times a second; this turns the other scene in the same frame. The scene that was
# touched last leads: one that follows tells of its camera too, and the two would chase each other.
_LINK = """
const pair = ((globalThis.occlabPairs ??= {})["MARK"] ??= {scenes: new Set(), leader: null});
const place = K3DInstance.getWorld().targetDOMNode;
pair.scenes.add(K3DInstance);
place.addEventListener("pointerdown", () => { pair.leader = K3DInstance; }, true);
K3DInstance.on(K3DInstance.events.CAMERA_CHANGE, (camera) => {
    if (pair.leader !== K3DInstance) return;
    for (const other of [...pair.scenes].filter((one) => one !== K3DInstance))
        if (other.getWorld().targetDOMNode.isConnected) other.setCamera(camera);
        else pair.scenes.delete(other);
});
"""


class K3dView:
    """A prediction, coloured by what became of each voxel, beside its target, coloured by height. Turning one turns both.

    Args:
        grid: of the first volumes; :meth:`show` takes those of others too.
        dark: whether the page is.
        height: of both scenes with the lines above them, pixels.

    Raises:
        OcclabError: k3d is absent.
    """

    def __init__(self, grid: VoxelGrid, *, dark: bool = False, height: int = 420) -> None:
        self._k3d = require("k3d")
        bare = {"menu_visibility": False, "grid_visible": False, "axes_helper": 0}
        fast = {"antialias": 0, "logarithmic_depth_buffer": False}  # software WebGL is slow at both
        light = {"lighting": 1.8}  # what lies flat has about the colour of the legend
        # The mouse wheel scrolls the page; the scene has buttons for it.
        camera = {"camera_auto_fit": False, "camera_fov": 45.0, "camera_mode": "orbit", "camera_up_axis": "z"}
        camera |= {"camera_no_zoom": True, "camera_rotate_speed": 0.5}
        link = _LINK.replace("MARK", uuid4().hex)
        self.plots = [
            self._k3d.plot(height=height - LINES, additional_js_code=link, **bare, **fast, **light, **camera) for _ in range(2)
        ]
        self.lines = [widgets.HTML(layout={"height": f"{LINES}px", "margin": "0", "overflow": "hidden"}) for _ in range(2)]
        self.volumes: list[Any] = []
        """The two objects of voxels, the prediction's and the target's."""
        self._others: list[Any] = []
        self._dark, self._target = dark, (None, None)
        self._lie_over(grid)
        self.look_from("behind")
        columns = []
        for line, plot in zip(self.lines, self.plots, strict=True):
            plot.layout.width = "100%"
            columns.append(ui.column(line, plot, flex="1 1 0", min_width="0", grid_gap="0", overflow="hidden"))
        self.widget = ui.row(*columns, flex_flow="row nowrap", align_items="flex-start", width="100%", min_width="0")

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
        """Draw other volumes, or the same ones otherwise; arguments, result and errors as of ``VolumeView.show``."""
        outcome = theme.outcomes(p, target, grid or self._grid, mask, threshold)
        if grid not in (None, self._grid):
            self._lie_over(grid)
        self._place(0, kept(outcome, shown))
        self._say(0, *of_prediction(names[0], threshold, outcome, shown))
        if self._target[0] is not target or self._target[1] is not mask:
            self._target = (target, mask)
            solid = np.isin(outcome, (1, 2))
            self._place(1, solid * _levels(len(solid))[:, None, None])
            self._say(1, *of_target(names[1], solid))
        return outcome

    def look_from(self, name: str) -> None:
        """Turn both scenes to where :data:`.volume.CAMERAS` says."""
        low, high = np.array(self._grid.point_cloud_range).reshape(2, 3)
        middle, unit = (low + high) / 2, (high - low)[:2].max() / 2  # Plotly counts from the middle, in half the longer side
        eye, aim = (middle + unit * np.array([CAMERAS[name][part][axis] for axis in "xyz"]) for part in ("eye", "center"))
        self._turn([*eye.tolist(), *aim.tolist(), 0, 0, 1])

    def go_nearer(self, factor: float) -> None:
        """Divide the distance from what both scenes look at; below 1 it grows."""
        eye, aim, up = np.array(self.plots[0].camera, dtype=float).reshape(3, 3)
        self._turn([*(aim + (eye - aim) / factor).tolist(), *aim.tolist(), *up.tolist()])

    def paint(self, dark: bool) -> None:
        """Paint for a dark page, or a light one."""
        self._dark = dark
        for plot in self.plots:
            plot.background_color = _packed(dark_paper.shade("#FFFFFF", dark))
        for one in self._others:
            one.color = _packed(dark_paper.shade(theme.INK, dark))

    def close(self) -> None:
        """Take it off the page, with all that it holds there."""
        for one in (self.widget, *self.widget.children, *self.lines, *self.plots, *self.volumes, *self._others):
            widgets.Widget.close(one)  # a plot's own close() leaves its model

    def _turn(self, camera: list[float]) -> None:
        for plot in self.plots:
            plot.camera = camera

    def _lie_over(self, grid: VoxelGrid) -> None:
        """Give both scenes voxels, car and rings of another grid."""
        old, self._others = [*self.volumes, *self._others], []
        self._grid, self._target = grid, (None, None)
        low, high = grid.point_cloud_range[:3], grid.point_cloud_range[3:]
        look = {"bounds": [end for pair in zip(low, high, strict=True) for end in pair], "outlines": False}
        empty = np.zeros(grid.shape, np.uint8)
        colours = [_packed(colour) for _, colour in theme.OUTCOMES.values()], _height_colours(int(_levels(grid.shape[0])[-1]))
        self.volumes = [self._k3d.voxels(empty, color_map=some, compression_level=1, **look) for some in colours]
        for plot, volume in zip(self.plots, self.volumes, strict=True):
            about = [self._other(trace) for trace in voxels.car_and_rings(grid)]
            plot.objects, plot.object_ids = [volume, *about], [volume.id, *(one.id for one in about)]
            self._others += about
        for one in old:
            one.close()
        self.paint(self._dark)

    def _other(self, trace: Any) -> Any:
        """The car or the rings, from what Plotly draws."""
        points = np.stack([trace.x, trace.y, trace.z], axis=1).astype(np.float32) / theme.CENTIMETRES
        if trace.type == "mesh3d":
            return self._k3d.mesh(points, np.stack([trace.i, trace.j, trace.k], axis=1).astype(np.uint32), side="double")
        drawn = np.isfinite(points).all(axis=1)
        ends = np.flatnonzero(drawn[:-1] & drawn[1:])
        place = np.cumsum(drawn) - 1
        pairs = np.stack([place[ends], place[ends + 1]], axis=1).astype(np.uint32)
        return self._k3d.lines(points[drawn], pairs, indices_type="segment", shader="simple")

    def _place(self, number: int, volume: np.ndarray) -> None:
        if not np.array_equal(self.volumes[number].voxels, volume):
            self.volumes[number].voxels = volume

    def _say(self, number: int, heading: str, counts: str) -> None:
        style = f"height:{LINES - 2}px; padding-left:5px; display:flex; align-items:flex-end; font-size:12px"  # as in Plotly
        ui.put(self.lines[number], f'<div style="{style}"><div><b>{html.escape(heading)}</b><br>{counts}</div></div>')


def _levels(heights: int) -> np.ndarray:
    """(Z,) uint8: the colour of each height, counted from 1; k3d has 255."""
    return (1 + np.arange(heights) * min(heights, 255) // heights).astype(np.uint8)


def _height_colours(n: int) -> list[int]:
    sample = require("plotly.colors").sample_colorscale(theme.HEIGHT_SCALE, np.linspace(0, 1, n), colortype="tuple")
    return [_packed("#" + "".join(f"{round(255 * part):02x}" for part in colour)) for colour in sample]


def _packed(colour: str) -> int:
    """0xRRGGBB of "#RRGGBB"."""
    return int(colour[1:], 16)

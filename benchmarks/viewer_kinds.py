"""The viewers that are compared, and the volumes they show: what runs in a notebook's kernel.

A viewer has ``show(volume)``, which a cell ends with; ``update(volume)``, which changes what is shown; ``page()``, a page
that needs nothing else; and ``close()``. All colour by height, look from one place, and draw WIDTH x HEIGHT pixels.
"""

import html
import io
import logging
from typing import Any

import numpy as np
import torch
from torch.nn.functional import avg_pool3d

from occlab import OccupancyUNet, UNetConfig, VoxelGrid, bev_features, occupancy, soft_occupancy, viz, voxelize
from occlab.frames import sample_frames
from occlab.viz import theme, voxels

GRID = VoxelGrid()
WIDTH, HEIGHT = 560, 420
EYE, AIM, VIEW_ANGLE = np.array([-51.3, -11.9, 23.3]), np.array([0.0, 0.0, -8.6]), 45.0
"""The camera of occlab's figures, in metres and degrees."""


def volumes_of(kind: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``n`` voxels of the highest score and, for an update, the highest nine tenths of them.

    A street's scores are its LiDAR's soft occupancy, of one frame for up to 5,000 voxels, else of four piled up; beyond the
    voxels that were hit, the share of hit ones around. Noise: the logits of an untrained network.

    Shape:
        returns: two of (Z, Y, X) bool.
    """
    frames = sample_frames()
    if kind == "street":
        clouds = [torch.from_numpy(frame.lidar) for frame in frames[: 1 if n <= 5_000 else 4]]
        hit = torch.stack([occupancy(cloud, GRID)[0] for cloud in clouds]).any(dim=0)
        soft = torch.stack([soft_occupancy(voxelize(cloud, GRID))[0] for cloud in clouds]).amax(dim=0)
        score = soft + hit + avg_pool3d(hit.float()[None], 5, stride=1, padding=2)[0]
    else:
        torch.manual_seed(0)
        with torch.no_grad():
            model = OccupancyUNet(UNetConfig(width=0.25)).train()
            score = model(bev_features(voxelize(torch.from_numpy(frames[0].pseudo), GRID)))[0]
    order = score.flatten().argsort(descending=True, stable=True)
    first, second = (torch.zeros(score.numel(), dtype=torch.bool) for _ in range(2))
    first[order[:n]] = second[order[: n * 9 // 10]] = True
    return first.reshape(score.shape).numpy(), second.reshape(score.shape).numpy()


class Mesh3d:
    """The mesh of :func:`occlab.viz.voxel_figure`, live, and whole: not cut to what is near the car."""

    scale = "showscale"
    parts = ("x", "y", "z", "i", "j", "k", "intensity")

    def figure(self, volume: np.ndarray) -> Any:
        budget, voxels.MAX_RECTANGLES = voxels.MAX_RECTANGLES, volume.size
        try:
            return viz.voxel_figure(volume, GRID)
        finally:
            voxels.MAX_RECTANGLES = budget

    def show(self, volume: np.ndarray) -> Any:
        import plotly.graph_objects as go

        figure = self.figure(volume)
        figure.data[0].update({self.scale: False})
        figure.update_layout(title=None, margin={"l": 0, "r": 0, "t": 0, "b": 0}, showlegend=False, width=WIDTH, height=HEIGHT)
        self.widget = go.FigureWidget(figure)
        return self.widget

    def update(self, volume: np.ndarray) -> None:
        new = self.figure(volume).data[0]
        with self.widget.batch_update():
            self.widget.data[0].update({name: new[name] for name in self.parts})

    def page(self) -> str:
        return self.widget.to_html(include_plotlyjs=True)

    def close(self) -> None:
        self.widget.close()


class VolumeScene(Mesh3d):
    """The live view of the workbench: of two scenes the target's, beside a prediction of which nothing is drawn.

    It draws no side that cannot be seen from above, and blocks instead of voxels where there are too many.
    """

    def show(self, volume: np.ndarray) -> Any:
        from occlab.workbench.volume import VolumeView

        self.view = VolumeView(GRID, height=HEIGHT + 56)  # lines of text above the scenes
        self.widget, camera = self.view.figure, theme.scene(GRID.point_cloud_range)["camera"]
        self.widget.update_layout(width=WIDTH / 0.495, scene_camera=camera, scene2_camera=camera)
        self.update(volume)
        return self.view.widget

    def update(self, volume: np.ndarray) -> None:
        self.view.show(np.zeros_like(volume), volume, shown=())


class Scatter3d(Mesh3d):
    """A square for each voxel, of one size on the screen."""

    scale = "marker.showscale"
    parts = ("x", "y", "z", "marker.color")

    def figure(self, volume: np.ndarray) -> Any:
        import plotly.graph_objects as go

        centres = np.array(GRID.point_cloud_range[:3]) + (np.argwhere(volume)[:, ::-1] + 0.5) * GRID.voxel_size
        x, y, z = theme.to_centimetres(centres).T
        low, high = GRID.point_cloud_range[2] * theme.CENTIMETRES, GRID.point_cloud_range[5] * theme.CENTIMETRES
        marker = {"symbol": "square", "size": 4, "color": z, "colorscale": theme.HEIGHT_SCALE, "cmin": low, "cmax": high}
        points = go.Scatter3d(x=x, y=y, z=z, mode="markers", marker=marker, hoverinfo="skip")
        return theme.figure([points], title=None, scene=theme.scene(GRID.point_cloud_range))


class K3dVoxels:
    """``k3d.voxels``: the whole grid, a byte a voxel. Without what software WebGL is slow at: it turns twice as fast."""

    def show(self, volume: np.ndarray) -> Any:
        import k3d

        low, high = GRID.point_cloud_range[:3], GRID.point_cloud_range[3:]
        bounds = [end for pair in zip(low, high, strict=True) for end in pair]
        self.object = self.make(volume, color_map=_colours(), outlines=False, bounds=bounds)
        bare = {"menu_visibility": False, "grid_visible": False, "axes_helper": 0}
        fast = {"antialias": 0, "logarithmic_depth_buffer": False}
        self.widget = k3d.plot(height=HEIGHT, camera_fov=VIEW_ANGLE, camera_auto_fit=False, **bare, **fast)
        self.widget.layout.width = f"{WIDTH}px"
        self.widget.camera = [*EYE, *AIM, 0, 0, 1]
        self.widget += self.object
        return self.widget

    def make(self, volume: np.ndarray, **look: Any) -> Any:
        import k3d

        return k3d.voxels(_levels(volume), **look)

    def update(self, volume: np.ndarray) -> None:
        self.object.voxels = _levels(volume)

    def page(self) -> str:
        return self.widget.get_snapshot()

    def close(self) -> None:
        self.object.close()
        self.widget.close()


class K3dSparse(K3dVoxels):
    """``k3d.sparse_voxels``: x, y, z and colour of each voxel, two bytes each."""

    def make(self, volume: np.ndarray, **look: Any) -> Any:
        import k3d

        return k3d.sparse_voxels(_rows(volume), space_size=np.array(GRID.shape[::-1], np.uint32), **look)

    def update(self, volume: np.ndarray) -> None:
        self.object.sparse_voxels = _rows(volume)


class PyVistaPage:
    """PyVista's export: a page of vtk.js in a frame. Another volume is another page."""

    def plotter(self, volume: np.ndarray) -> Any:
        import pyvista

        pyvista.vtk_verbosity("off")  # without a screen VTK says at each start that there is none
        low = np.array(GRID.point_cloud_range[:3])
        cells = pyvista.ImageData(dimensions=np.array(GRID.shape[::-1]) + 1, spacing=GRID.voxel_size, origin=low)
        cells.cell_data["height"] = _levels(volume).ravel()
        surface = cells.threshold(0.5).extract_surface(algorithm="dataset_surface")
        plotter = pyvista.Plotter(off_screen=True, window_size=(WIDTH, HEIGHT))
        plotter.add_mesh(surface, scalars="height", cmap="viridis", clim=(1, GRID.shape[0]), show_scalar_bar=False)
        # The export keeps VTK's view angle of 30 degrees, so it looks from farther away.
        farther = np.tan(np.radians(VIEW_ANGLE / 2)) / np.tan(np.radians(15))
        plotter.camera_position = [AIM + (EYE - AIM) * farther, AIM, (0, 0, 1)]
        return plotter

    def show(self, volume: np.ndarray) -> Any:
        from IPython.display import HTML

        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # trame tries to fetch a program that the export does not need
        plotter = self.plotter(volume)
        self.text = plotter.trame.export_html(None).getvalue()
        plotter.close()
        size = f"width:{WIDTH}px; height:{HEIGHT}px; border:0"
        return HTML(f'<iframe srcdoc="{html.escape(self.text)}" style="{size}"></iframe>')

    def page(self) -> str:
        return self.text

    def close(self) -> None:
        """Nothing is kept."""


class PyVistaPicture(PyVistaPage):
    """PyVista's static backend: a PNG drawn in the kernel, for each turn of the camera too."""

    def show(self, volume: np.ndarray) -> None:
        from IPython.display import display

        self.live = self.plotter(volume)
        self.handle = display(self.picture(), display_id=True)

    def picture(self) -> Any:
        from IPython.display import Image
        from PIL import Image as Picture

        file = io.BytesIO()
        Picture.fromarray(self.live.screenshot(return_img=True)).save(file, "png")
        self.png = file.getvalue()
        return Image(self.png)

    def update(self, volume: np.ndarray) -> None:
        self.live.close()
        self.live = self.plotter(volume)
        self.handle.update(self.picture())

    def turn(self) -> None:
        self.live.camera.azimuth += 5
        self.live.render()
        self.handle.update(self.picture())

    def page(self) -> bytes:
        return self.png

    def close(self) -> None:
        self.live.close()


def _levels(volume: np.ndarray) -> np.ndarray:
    """(Z, Y, X) uint8: the height of each voxel, counted from 1; 0 where it is empty."""
    return volume * np.arange(1, GRID.shape[0] + 1, dtype=np.uint8)[:, None, None]


def _rows(volume: np.ndarray) -> np.ndarray:
    """(N, 4) uint16: x, y, z, height counted from 1."""
    z, y, x = np.nonzero(volume)
    return np.stack([x, y, z, z + 1], axis=1).astype(np.uint16)


def _colours() -> list[int]:
    """0xRRGGBB of each height."""
    from plotly.colors import sample_colorscale

    scale = sample_colorscale(theme.HEIGHT_SCALE, np.linspace(0, 1, GRID.shape[0]), colortype="tuple")
    return [int("".join(f"{round(255 * part):02x}" for part in colour), 16) for colour in scale]

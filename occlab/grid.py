"""The voxel grid: where it lies, how fine it is, and which cell a point falls in."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import OcclabError


@dataclass(frozen=True)
class VoxelGrid:
    """A box of equal cells, in mmdetection3d's convention.

    Cells are half-open: a point belongs to cell ``i`` of an axis when ``floor((p - low) / size) == i``, computed in
    **float32** whatever the dtype of the points. float64 points are rounded to float32 first, so one cloud gets one
    answer in both dtypes. A point whose index is outside ``[0, n)``, or is NaN or infinite, is outside the grid.

    Volumes over the grid have shape (Z, Y, X) = (height, left-right, front-back), the order of BEV feature maps.

    >>> VoxelGrid()
    VoxelGrid(point_cloud_range=(-54.0, -54.0, -5.0, 54.0, 54.0, 3.0), voxel_size=(0.6, 0.6, 0.25))
    >>> VoxelGrid().shape
    (32, 180, 180)
    """

    point_cloud_range: tuple[float, float, float, float, float, float] = (-54.0, -54.0, -5.0, 54.0, 54.0, 3.0)
    """x, y, z of the low corner, then of the high corner, metres."""
    voxel_size: tuple[float, float, float] = (0.6, 0.6, 0.25)
    """Edge of a cell along x, y, z, metres."""

    def __post_init__(self) -> None:
        try:
            box = tuple(float(v) for v in self.point_cloud_range)
            size = tuple(float(v) for v in self.voxel_size)
        except (TypeError, ValueError):
            box, size = (), ()
        if len(box) != 6 or len(size) != 3 or not all(map(math.isfinite, box + size)):
            raise OcclabError(
                f"VoxelGrid expects point_cloud_range of 6 finite numbers and voxel_size of 3, "
                f"got {self.point_cloud_range!r} and {self.voxel_size!r}"
            )
        object.__setattr__(self, "point_cloud_range", box)
        object.__setattr__(self, "voxel_size", size)
        for axis, low, high, edge in zip("xyz", box[:3], box[3:], size, strict=True):
            cells = (high - low) / edge if edge > 0 else 0.0
            if not (edge > 0 and round(cells) >= 1 and abs(cells - round(cells)) < 1e-4):
                raise OcclabError(
                    f"VoxelGrid needs a whole number of cells along {axis}: "
                    f"[{low}, {high}] m in cells of {edge} m gives {cells:g}"
                )
        if self.n_cells >= 2**24:
            # Above 2^24 a float32 no longer holds every cell number, and voxelize computes them in float32.
            raise OcclabError(f"VoxelGrid of shape {self.shape} has {self.n_cells} cells; at most {2**24 - 1} are supported")

    @classmethod
    def from_shape(cls, point_cloud_range: tuple[float, ...], shape: tuple[int, int, int]) -> "VoxelGrid":
        """The grid that divides a box into ``shape`` = (Z, Y, X) cells."""
        if len(point_cloud_range) != 6 or len(shape) != 3 or min(shape) < 1:
            raise OcclabError(f"VoxelGrid.from_shape expects 6 numbers and 3 cell counts of at least 1, got {shape}")
        low, high = point_cloud_range[:3], point_cloud_range[3:]
        sizes = tuple((b - a) / n for a, b, n in zip(low, high, reversed(shape), strict=True))
        return cls(tuple(point_cloud_range), sizes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of cells (Z, Y, X)."""
        low, high = self.point_cloud_range[:3], self.point_cloud_range[3:]
        nx, ny, nz = (round((b - a) / s) for a, b, s in zip(low, high, self.voxel_size, strict=True))
        return nz, ny, nx

    @property
    def n_cells(self) -> int:
        nz, ny, nx = self.shape
        return nz * ny * nx

    def index_of(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Metres to cells.

        Shape:
            points: (N, 3 or more), columns x y z first.
            returns: (N, 3) int64 cell numbers along z, y, x, and (N,) bool, True where the point is inside the grid.
            Cell numbers of points outside are clamped to the grid: use them only where the mask is True.
        """
        low = torch.tensor(self.point_cloud_range[:3], dtype=torch.float32, device=points.device)
        size = torch.tensor(self.voxel_size, dtype=torch.float32, device=points.device)
        limit = torch.tensor(self.shape[::-1], dtype=torch.float32, device=points.device)
        cell_xyz = torch.floor((points[:, :3].to(torch.float32) - low) / size)
        inside = ((cell_xyz >= 0) & (cell_xyz < limit)).all(dim=1)
        cell_xyz = torch.nan_to_num(cell_xyz, nan=0.0).clamp(min=torch.zeros_like(limit), max=limit - 1)
        return cell_xyz.flip(1).long(), inside

    def centre_of(self, index: Tensor) -> Tensor:
        """Cells to metres: (N, 3) cell numbers z, y, x -> (N, 3) float32 centres x, y, z."""
        low = torch.tensor(self.point_cloud_range[:3], dtype=torch.float64, device=index.device)
        size = torch.tensor(self.voxel_size, dtype=torch.float64, device=index.device)
        return (low + (index.flip(1).double() + 0.5) * size).float()

    def heights(self) -> list[float]:
        """Centre of each of the Z height channels, metres."""
        z0, dz = self.point_cloud_range[2], self.voxel_size[2]
        return [z0 + (i + 0.5) * dz for i in range(self.shape[0])]

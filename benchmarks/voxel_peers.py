"""The other ways to voxelize. Each gives the same cells as occlab's rule: floor((p - low) / size) in float32.

Soft candidates return (index, count, variance, p): rows of the occupied voxels in the order of their cell number, and
the dense p. Packages that may be absent are imported where they are used.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from occlab import VoxelGrid


def _box(grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray]:
    return np.array(grid.point_cloud_range[:3], np.float32), np.array(grid.voxel_size, np.float32)


# --- torch ---------------------------------------------------------------------------------------------------------


def _torch_cells(points: Tensor, grid: VoxelGrid) -> tuple[Tensor, Tensor]:
    """Points inside, and their cell numbers; as in most code bases."""
    low = torch.tensor(grid.point_cloud_range[:3], device=points.device)
    size = torch.tensor(grid.voxel_size, device=points.device)
    cell = torch.floor((points - low) / size).long()
    inside = ((cell >= 0) & (cell < torch.tensor(grid.shape[::-1], device=points.device))).all(1)
    points, cell = points[inside], cell[inside]
    _, ny, nx = grid.shape
    return points, (cell[:, 2] * ny + cell[:, 1]) * nx + cell[:, 0]


def torch_hard(points: Tensor, grid: VoxelGrid) -> Tensor:
    volume = torch.zeros(grid.n_cells, dtype=torch.bool, device=points.device)
    volume[_torch_cells(points, grid)[1]] = True
    return volume


def torch_soft(points: Tensor, grid: VoxelGrid, lam: float, gamma: float) -> tuple:
    points, flat = _torch_cells(points, grid)
    index, row, count = torch.unique(flat, return_inverse=True, return_counts=True)
    mean = torch.stack([torch.bincount(row, points[:, a]) for a in range(3)], 1) / count[:, None]
    rest = (points - mean[row]) ** 2
    variance = torch.stack([torch.bincount(row, rest[:, a]) for a in range(3)], 1) / count[:, None]
    p = torch.zeros(grid.n_cells, device=points.device)
    p[index] = -torch.expm1(-lam * count - gamma * variance.mean(1))
    return index, count, variance, p


def _torch_dump_slot(points: Tensor, grid: VoxelGrid) -> tuple[Tensor, list[Tensor]]:
    """Cell number of each point, one past the end for those outside, and the offsets from the centre in cells."""
    flat, inside, offsets = None, None, []
    for axis in (2, 1, 0):
        size = torch.tensor(grid.voxel_size[axis], dtype=torch.float32, device=points.device)
        place = (points[:, axis] - grid.point_cloud_range[axis]) / size
        cell = place.floor()
        within = (cell >= 0) & (cell < grid.shape[2 - axis])
        inside = within if inside is None else inside & within
        flat = cell if flat is None else flat * grid.shape[2 - axis] + cell
        offsets.append(place - cell - 0.5)
    return torch.where(inside, flat, float(grid.n_cells)).long(), offsets[::-1]


def torch_hard_dump_slot(points: Tensor, grid: VoxelGrid) -> Tensor:
    volume = torch.zeros(grid.n_cells + 1, dtype=torch.bool, device=points.device)
    return volume.index_fill_(0, _torch_dump_slot(points, grid)[0], True)[:-1]


def torch_soft_rows(points: Tensor, grid: VoxelGrid, lam: float, gamma: float) -> tuple:
    """Single precision, one variance for the three axes, no promise about the order of the sums: the least work."""
    cell, offsets = _torch_dump_slot(points, grid)
    occupied = torch.zeros(grid.n_cells + 1, dtype=torch.bool, device=points.device)
    occupied.index_fill_(0, cell, True)
    index = occupied[:-1].nonzero().squeeze(1)
    rank = torch.full((grid.n_cells + 1,), len(index), dtype=torch.int32, device=points.device)
    rank[index] = torch.arange(len(index), dtype=torch.int32, device=points.device)
    row = rank.index_select(0, cell)
    size = grid.voxel_size
    x, y, z = (o.mul_(edge) for o, edge in zip(offsets, size, strict=True))
    columns = [torch.bincount(row, weights, len(index) + 1)[:-1] for weights in (None, x, y, z, x * x + y * y + z * z)]
    count = columns[0]
    mx, my, mz, squares = (c / count for c in columns[1:])
    variance = (squares - mx * mx - my * my - mz * mz).clamp_(min=0) / 3
    p = torch.zeros(grid.n_cells, device=points.device)
    p[index] = -torch.expm1(-lam * count - gamma * variance).float()
    return index, count, variance, p


# --- NumPy, pandas -------------------------------------------------------------------------------------------------


def _numpy_cells(points: np.ndarray, grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray]:
    low, size = _box(grid)
    cell = np.floor((points - low) / size).astype(np.int64)
    inside = ((cell >= 0) & (cell < grid.shape[::-1])).all(1)
    points, cell = points[inside], cell[inside]
    _, ny, nx = grid.shape
    return points, (cell[:, 2] * ny + cell[:, 1]) * nx + cell[:, 0]


def numpy_hard(points: np.ndarray, grid: VoxelGrid) -> np.ndarray:
    volume = np.zeros(grid.n_cells, bool)
    volume[_numpy_cells(points, grid)[1]] = True
    return volume


def numpy_soft(points: np.ndarray, grid: VoxelGrid, lam: float, gamma: float) -> tuple:
    points, flat = _numpy_cells(points, grid)
    index, row, count = np.unique(flat, return_inverse=True, return_counts=True)
    mean = np.stack([np.bincount(row, points[:, a]) for a in range(3)], 1) / count[:, None]
    rest = (points - mean[row]) ** 2
    variance = np.stack([np.bincount(row, rest[:, a]) for a in range(3)], 1) / count[:, None]
    return index, count, variance, _numpy_p(grid, index, count, variance, lam, gamma)


def _numpy_p(
    grid: VoxelGrid, index: np.ndarray, count: np.ndarray, variance: np.ndarray, lam: float, gamma: float
) -> np.ndarray:
    p = np.zeros(grid.n_cells, np.float32)
    p[index] = -np.expm1(-lam * count - gamma * variance.mean(1))
    return p


def pandas_soft(points: np.ndarray, grid: VoxelGrid, lam: float, gamma: float) -> Callable[[], tuple]:
    import pandas as pd

    def run() -> tuple:
        inside, flat = _numpy_cells(points, grid)
        groups = pd.DataFrame(inside, columns=["x", "y", "z"]).groupby(flat)
        count, variance = groups.size(), groups.var(ddof=0)
        index, count, variance = count.index.to_numpy(), count.to_numpy(), variance.to_numpy()
        return index, count, variance, _numpy_p(grid, index, count, variance, lam, gamma)

    return run


# --- numba ---------------------------------------------------------------------------------------------------------


def numba_hard(points: np.ndarray, grid: VoxelGrid) -> Callable[[], np.ndarray]:
    import voxel_numba

    low, size = _box(grid)
    return lambda: voxel_numba.hard(points, low, size, grid.shape)


def numba_soft(points: np.ndarray, grid: VoxelGrid, lam: float, gamma: float, *, rows: bool) -> Callable[[], tuple]:
    """The same outputs as occlab's (index, count, mean, variance along each axis, p), sums in float64."""
    import voxel_numba

    low, size = _box(grid)
    accumulate = voxel_numba.sums_in_rows if rows else voxel_numba.sums_over_grid

    def run() -> tuple:
        cells, sums = accumulate(points, low, size, grid.shape)
        count, _mean, variance, p = voxel_numba.finish(cells, sums, low, size, grid.shape, lam, gamma)
        return cells, count, variance, p

    return run


# --- spconv, Open3D ------------------------------------------------------------------------------------------------


def spconv_hard(points: Tensor, grid: VoxelGrid) -> Callable[[], Tensor]:
    from spconv.pytorch.utils import PointToVoxel

    to_voxels = PointToVoxel(
        vsize_xyz=list(grid.voxel_size),
        coors_range_xyz=list(grid.point_cloud_range),
        num_point_features=3,
        max_num_voxels=60_000,
        max_num_points_per_voxel=1,
    )

    def run() -> Tensor:
        z, y, x = to_voxels(points)[1].long().unbind(1)
        volume = torch.zeros(grid.shape, dtype=torch.bool)
        volume[z, y, x] = True
        return volume

    return run


def open3d_hash_set(points: np.ndarray, grid: VoxelGrid) -> Callable[[], np.ndarray]:
    import open3d.core as o3c

    low, size = _box(grid)

    def run() -> np.ndarray:
        cells = o3c.Tensor.from_numpy(np.floor((points - low) / size).astype(np.int32))
        cell_set = o3c.HashSet(len(points), o3c.int32, o3c.SizeVector([3]))
        cell_set.insert(cells)
        return _dense(cell_set.key_tensor()[cell_set.active_buf_indices().to(o3c.int64)].numpy(), grid)

    return run


def open3d_voxel_grid(points: np.ndarray, grid: VoxelGrid) -> Callable[[], np.ndarray]:
    """Open3D's voxels are cubes: the points are stretched so that ours become unit cubes."""
    import open3d as o3d

    scale = 1 / np.array(grid.voxel_size)
    low, high = np.array(grid.point_cloud_range[:3]) * scale, np.array(grid.point_cloud_range[3:]) * scale

    def run() -> np.ndarray:
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points * scale))
        voxels = o3d.geometry.VoxelGrid.create_from_point_cloud_within_bounds(cloud, 1.0, low, high)
        return _dense(np.array([voxel.grid_index for voxel in voxels.get_voxels()]), grid)

    return run


def _dense(cells_xyz: np.ndarray, grid: VoxelGrid) -> np.ndarray:
    x, y, z = cells_xyz[((cells_xyz >= 0) & (cells_xyz < grid.shape[::-1])).all(1)].T
    volume = np.zeros(grid.shape, bool)
    volume[z, y, x] = True
    return volume

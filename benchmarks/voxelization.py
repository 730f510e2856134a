"""Points to hard and to soft occupancy: occlab against the forms people write and the libraries they use."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import voxel_peers as peers
from clouds import sweep
from timing import Candidate, interleave, optional, table
from torch import Tensor

from occlab import VoxelGrid, occupancy, soft_occupancy, voxelize

LAM, GAMMA = 0.3, 5.0


def tables(device: str, quick: bool, left_out: list[str]) -> list[dict[str, Any]]:
    grid, content = VoxelGrid(), []
    for n, seconds in ((34_000, 3.0), (340_000, 6.0), (3_400_000, 12.0)):
        if quick and n > 34_000:
            continue
        seconds, least = (0.3, 2) if quick else (seconds, 5)
        points = sweep(n)
        truth = Truth(points.numpy(), grid)
        about = f"{n:,} points, {truth.inside:.0%} of them inside, {len(truth.count):,} occupied voxels"
        points = points.to(device)
        out = left_out if n == 34_000 else []  # said once
        for what, make in (("Hard occupancy", hard_candidates), ("Statistics and soft occupancy", soft_candidates)):
            candidates = make(points, grid, truth, out)
            interleave(candidates, seconds, least=least, device=device)
            content.append(table(f"{what}: {about}", candidates))
    return content


class Truth:
    """What every candidate is checked against: cells by the grid's float32 rule, everything after it in float64."""

    def __init__(self, points: np.ndarray, grid: VoxelGrid) -> None:
        low, size = np.array(grid.point_cloud_range[:3], np.float32), np.array(grid.voxel_size, np.float32)
        cell = np.floor((points - low) / size)
        inside = ((cell >= 0) & (cell < grid.shape[::-1])).all(1)
        flat = np.ravel_multi_index(cell[inside][:, ::-1].astype(np.int64).T, grid.shape)
        self.inside = inside.mean()
        self.index, row, self.count = np.unique(flat, return_inverse=True, return_counts=True)
        wide = points[inside].astype(np.float64)
        mean = np.stack([np.bincount(row, wide[:, a]) for a in range(3)], 1) / self.count[:, None]
        self.variance = np.stack([np.bincount(row, (wide[:, a] - mean[row, a]) ** 2) for a in range(3)], 1)
        self.variance /= self.count[:, None]
        self.occupied, self.p = np.zeros(grid.n_cells, bool), np.zeros(grid.n_cells)
        self.occupied[self.index] = True
        self.p[self.index] = -np.expm1(-LAM * self.count - GAMMA * self.variance.mean(1))

    def check_hard(self, volume: Any) -> dict[str, str]:
        return {"voxels that differ": str(int((_numpy(volume).reshape(-1).astype(bool) != self.occupied).sum()))}

    def check_soft(self, result: tuple) -> dict[str, str]:
        """``result``: index, count, variance ((M, 3), or (M,) its mean over the axes) of the occupied voxels, and p."""
        index, count, variance, p = (_numpy(part) for part in result)
        p_error = {"largest error of p": f"{np.abs(p.reshape(-1) - self.p).max():.0e}"}
        if not np.array_equal(index, self.index):
            return {"counts that differ": "other voxels", "largest error of variance, m²": "", **p_error}
        expected = self.variance if variance.ndim == 2 else self.variance.mean(1)
        return {
            "counts that differ": str(int((count != self.count).sum())),
            "largest error of variance, m²": f"{np.abs(variance - expected).max():.0e}",
            **p_error,
        }


def _numpy(values: Any) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def hard_candidates(points: Tensor, grid: VoxelGrid, truth: Truth, left_out: list[str]) -> list[Candidate]:
    def one(name: str, run: Callable[[], Any], **options: Any) -> Candidate:
        return Candidate(name, run, truth.check_hard, **options)

    candidates = [
        one("occlab.occupancy", lambda: occupancy(points, grid)),
        one("torch: mask, index, assign (textbook)", lambda: peers.torch_hard(points, grid)),
        one("torch: a dump slot for points outside", lambda: peers.torch_hard_dump_slot(points, grid)),
        _copy(points, torch.bool, grid),
    ]
    if points.device.type == "cuda":
        return candidates
    cloud = points.numpy()
    candidates.insert(1, one("occlab.occupancy, 1 thread", lambda: occupancy(points, grid), threads=1))
    candidates.append(one("NumPy: mask, index, assign (textbook)", lambda: peers.numpy_hard(cloud, grid)))
    numba_hard = lambda: [one("numba, serial", peers.numba_hard(cloud, grid))]  # noqa: E731
    candidates += optional(left_out, "numba", numba_hard)
    candidates += optional(left_out, "spconv", lambda: [one("spconv PointToVoxel, to dense", peers.spconv_hard(points, grid))])

    def open3d() -> list[Candidate]:
        return [
            one("Open3D HashSet of cells, to dense", peers.open3d_hash_set(cloud, grid)),
            one("Open3D VoxelGrid, to dense", peers.open3d_voxel_grid(cloud, grid)),
        ]

    return candidates + optional(left_out, "Open3D", open3d)


def soft_candidates(points: Tensor, grid: VoxelGrid, truth: Truth, left_out: list[str]) -> list[Candidate]:
    def ours() -> tuple:
        stats = voxelize(points, grid)
        return stats.index, stats.count, stats.variance, soft_occupancy(stats, LAM, GAMMA)

    def one(name: str, run: Callable[[], Any], **options: Any) -> Candidate:
        return Candidate(name, run, truth.check_soft, **options)

    candidates = [
        one("occlab: soft_occupancy(voxelize())", ours),
        one("torch: unique, two passes of bincount (textbook)", lambda: peers.torch_soft(points, grid, LAM, GAMMA)),
        one("torch: ranked rows, five float32 bincounts", lambda: peers.torch_soft_rows(points, grid, LAM, GAMMA)),
        _copy(points, torch.float32, grid),
    ]
    if points.device.type == "cuda":
        return candidates
    cloud = points.numpy()
    candidates.insert(1, one("occlab: soft_occupancy(voxelize()), 1 thread", ours, threads=1))
    candidates.append(
        one("NumPy: unique, two passes of bincount (textbook)", lambda: peers.numpy_soft(cloud, grid, LAM, GAMMA))
    )
    pandas_soft = lambda: [one("pandas groupby", peers.pandas_soft(cloud, grid, LAM, GAMMA))]  # noqa: E731
    candidates += optional(left_out, "pandas", pandas_soft)

    def numba() -> list[Candidate]:
        return [
            one("numba, serial, a row for each occupied voxel", peers.numba_soft(cloud, grid, LAM, GAMMA, rows=True)),
            one("numba, serial, sums over the whole grid", peers.numba_soft(cloud, grid, LAM, GAMMA, rows=False)),
        ]

    return candidates + optional(left_out, "numba", numba)


def _copy(points: Tensor, dtype: torch.dtype, grid: VoxelGrid) -> Candidate:
    """The least that must be done: read the points, write the volume."""
    target = torch.empty_like(points)
    volume, source = (torch.empty(grid.n_cells, dtype=dtype, device=points.device) for _ in range(2))
    return Candidate("copy of the points, and of a volume (memory alone)", lambda: (target.copy_(points), volume.copy_(source)))

"""From the hundreds of thousands of pixels of six depth maps to the 40,000 points that a network is fed."""

import numpy as np
import torch
from scipy.spatial import cKDTree
from tqdm.auto import tqdm

from ..errors import OcclabError, require
from ..grid import VoxelGrid

Box6 = tuple[float, float, float, float, float, float]


def _check(points: np.ndarray, name: str = "points") -> None:
    if not isinstance(points, np.ndarray) or points.ndim != 2 or points.shape[1] < 3 or points.dtype.kind != "f":
        got = f"{points.dtype} {points.shape}" if isinstance(points, np.ndarray) else type(points).__name__
        raise OcclabError(f"expected {name} as floats (N, 3 or more), x y z first, got {got}")


def _check_finite(points: np.ndarray, name: str = "points") -> None:
    _check(points, name)
    broken = int((~np.isfinite(points[:, :3])).any(axis=1).sum())
    if broken:
        raise OcclabError(
            f"expected finite {name}, but {broken} of {len(points)} hold NaN or infinity; range_filter drops those"
        )


def range_filter(points: np.ndarray, within: VoxelGrid | Box6) -> np.ndarray:
    """(N,) bool: points inside a grid, or inside a box (x, y, z of the low corner, then of the high corner, metres).

    Half-open, low <= p < high; NaN and infinity are outside. For a grid exactly the points that it has a cell for.
    """
    _check(points)
    if isinstance(within, VoxelGrid):
        return within.index_of(torch.from_numpy(np.ascontiguousarray(points[:, :3])))[1].numpy()
    box = np.asarray(within, dtype=float)
    if box.shape != (6,) or not (box[:3] < box[3:]).all():
        raise OcclabError(f"range_filter expects a VoxelGrid or 6 numbers, the low corner below the high one, got {within!r}")
    return ((points[:, :3] >= box[:3]) & (points[:, :3] < box[3:])).all(axis=1)


def ball_query(points: np.ndarray, centres: np.ndarray, radius: float, k: int) -> np.ndarray:
    """For each centre the first ``k`` points, in their order in ``points``, nearer than ``radius``; not the nearest ones.

    As in PointNet++ (arXiv 1706.02413) and mmcv's ``ball_query``: a ball of fewer points is filled up with its first. One of
    none is filled with -1, where theirs says 0, which is some other point.

    Shape:
        points: (N, 3 or more), centres: (M, 3 or more), metres.
        returns: (M, k) int64 row numbers of points.
    """
    _check_finite(points)
    _check_finite(centres, "centres")
    if not radius > 0 or k < 1:
        raise OcclabError(f"ball_query expects a radius above 0 and k of at least 1, got {radius} and {k}")
    found = np.full((len(centres), k), -1, np.int64)
    if not len(points):
        return found
    xyz, middle = points[:, :3].astype(np.float64), centres[:, :3].astype(np.float64)
    tree = cKDTree(xyz)
    chunk = 1024  # balls hold thousands of points: not all of them at once
    for start in tqdm(range(0, len(centres), chunk), desc="ball query", delay=1.0, mininterval=1.0, unit="chunk"):
        part = middle[start : start + chunk]
        balls = tree.query_ball_point(part, radius, return_sorted=True)
        row = np.repeat(np.arange(len(part)), [len(ball) for ball in balls])
        index = np.concatenate([np.asarray(ball, np.int64) for ball in balls])
        inside = ((xyz[index] - part[row]) ** 2).sum(axis=1) < radius**2  # the tree counts the surface in
        row, index = row[inside], index[inside]
        first = np.searchsorted(row, np.arange(len(part)))
        place = np.arange(len(row)) - first[row]
        some = np.flatnonzero(np.bincount(row, minlength=len(part)))
        found[start + some] = index[first[some], None]
        found[start + row[place < k], place[place < k]] = index[place < k]
    return found


def _in_company(points: np.ndarray, radius: float, k: int) -> np.ndarray:
    """(N,) bool: a ball query round the point itself finds at least ``k`` points, the point being one of them.

    Only the k-th nearest is looked for: 400,000 full balls on the road hold some hundred million points.
    """
    if len(points) < k:
        return np.zeros(len(points), bool)
    xyz = points[:, :3].astype(np.float64)
    distance = cKDTree(xyz).query(xyz, k=[k], distance_upper_bound=radius)[0]
    return distance[:, 0] < radius


def farthest_point_reduce(points: np.ndarray, count: int = 40_000) -> np.ndarray:
    """Farthest-point sampling of a large cloud: what ``sampling.farthest_point`` takes, from another first point.

    ``fpsample`` (QuickFPS, arXiv 2208.08795) keeps points in the buckets of a k-d tree and only looks into buckets that a
    new point can change. 390,000 -> 40,000 points: 0.25 s of one core, where Open3D takes 26 s. The first point is a fixed
    one, but the tree's choice.

    Shape:
        points: (N, 3 or more), metres.
        returns: (min(N, count),) int64 row numbers, ascending; fewer where points coincide.

    Raises:
        OcclabError: fpsample is not installed, or points are not finite.
    """
    _check_finite(points)
    if count < 1:
        raise OcclabError(f"farthest_point_reduce expects a count of at least 1, got {count}")
    if len(points) <= count:
        return np.arange(len(points))
    fpsample = require("fpsample", extra="course")
    height = min(7, len(points).bit_length() - 1)  # 2^height buckets, at most one a point; 7 is the fastest from 100,000 up
    xyz = np.ascontiguousarray(points[:, :3], dtype=np.float32)
    return np.unique(fpsample.bucket_fps_kdline_sampling(xyz, count, h=height, start_idx=0).astype(np.int64))


def reduce_cloud(
    points: np.ndarray,
    *,
    grid: VoxelGrid | Box6,
    count: int = 40_000,
    radius: float = 0.6,
    neighbours: int = 3,
) -> np.ndarray:
    """Range filter, ball query, farthest-point sampling, in this order.

    The farthest point is taken first, and the farthest ones are flying pixels: hence those with fewer than ``neighbours``
    others within ``radius`` go before.

    Args:
        grid: the grid that the points are for, or a box as for :func:`range_filter`.
        radius: metres; by default the edge of a voxel of ``VoxelGrid()``.

    Shape:
        points: (N, 4) float32 or more columns, metres first.
        returns: (at most count, as many columns), the rows in their order.

    Raises:
        OcclabError: nothing is left after one of the steps; the sentence says which.
    """
    if not radius > 0 or neighbours < 0:
        raise OcclabError(f"reduce_cloud expects a radius above 0 and neighbours of at least 0, got {radius} and {neighbours}")
    with tqdm(total=3, desc="reduce cloud", delay=1.0, unit="step") as bar:
        inside = points[range_filter(points, grid)]
        if not len(inside):
            raise OcclabError(
                f"reduce_cloud: none of {len(points)} points lies inside {grid}; are they metres in the LiDAR's frame?"
            )
        bar.update()
        solid = inside[_in_company(inside, radius, neighbours + 1)]
        if not len(solid):
            raise OcclabError(f"reduce_cloud: none of {len(inside)} points has {neighbours} others within {radius:g} m")
        bar.update()
        chosen = solid[farthest_point_reduce(solid, count)]
        bar.update()
    return chosen

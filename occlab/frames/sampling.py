"""Fewer points that still cover what all of them covered."""

import numpy as np
from numpy.random import Generator

from ..errors import OcclabError


def _check(points: np.ndarray, count: int) -> None:
    if points.ndim != 2 or points.shape[1] < 3 or count < 1:
        raise OcclabError(f"sampling expects points (N, 3 or more) and a count of at least 1, got {points.shape} and {count}")


def density_aware(points: np.ndarray, count: int, rng: Generator, cell: float = 0.5) -> np.ndarray:
    """Draw ``count`` rows without replacement, each with weight 1 / (points in its cube of ``cell`` metres).

    Cameras see near surfaces with thousands of pixels a square metre and far ones with a few; even weights would spend
    nearly all points on the road just ahead. Costs one sort, where :func:`farthest_point` costs N x count.

    Weighted sampling as in Efraimidis and Spirakis 2006 (10.1016/j.ipl.2005.11.003): the ``count`` smallest of E / weight,
    where E is exponential.

    Shape:
        points: (N, 3 or more), metres.
        returns: (min(N, count),) int64 row numbers, ascending.
    """
    _check(points, count)
    if len(points) <= count:
        return np.arange(len(points))
    place = np.floor(points[:, :3] / cell).astype(np.int64)
    place -= place.min(axis=0)
    extent = place.max(axis=0) + 1
    flat = np.ravel_multi_index(tuple(place.T), tuple(extent))
    _, which, crowd = np.unique(flat, return_inverse=True, return_counts=True)
    key = rng.standard_exponential(len(points)) * crowd[which]
    return np.sort(np.argpartition(key, count)[:count])


def farthest_point(points: np.ndarray, count: int, first: int = 0) -> np.ndarray:
    """Farthest-point sampling (Gonzalez 1985; PointNet++, arXiv 1706.02413): always the point farthest from those taken.

    The most even choice there is, at N x count distances: for clouds of some thousand points.

    Shape:
        points: (N, 3 or more), metres.
        returns: (min(N, count),) int64 row numbers, in the order taken, beginning with ``first``.
    """
    _check(points, count)
    xyz = points[:, :3].astype(np.float64)
    chosen = np.empty(min(count, len(xyz)), np.int64)
    gap = np.full(len(xyz), np.inf)
    for i in range(len(chosen)):
        chosen[i] = first if i == 0 else gap.argmax()
        gap = np.minimum(gap, ((xyz - xyz[chosen[i]]) ** 2).sum(axis=1))
    return chosen

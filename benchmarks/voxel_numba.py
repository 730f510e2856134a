"""Voxelization as one loop over the points, compiled by numba for one thread: about as fast as it gets on one core."""

import numba
import numpy as np

_HALF = np.float32(0.5)


@numba.njit(cache=True)
def hard(points, low, size, shape):
    """(Z * Y * X,) bool."""
    nz, ny, nx = shape
    volume = np.zeros(nz * ny * nx, np.bool_)
    for i in range(len(points)):
        x = np.floor((points[i, 0] - low[0]) / size[0])
        y = np.floor((points[i, 1] - low[1]) / size[1])
        z = np.floor((points[i, 2] - low[2]) / size[2])
        if x >= 0 and x < nx and y >= 0 and y < ny and z >= 0 and z < nz:
            volume[(int(z) * ny + int(y)) * nx + int(x)] = True
    return volume


@numba.njit(cache=True)
def _add(sums, row, dx, dy, dz):
    dx, dy, dz = np.float64(dx), np.float64(dy), np.float64(dz)
    sums[row, 0] += 1
    sums[row, 1] += dx
    sums[row, 2] += dy
    sums[row, 3] += dz
    sums[row, 4] += dx * dx
    sums[row, 5] += dy * dy
    sums[row, 6] += dz * dz


@numba.njit(cache=True, error_model="numpy")
def sums_in_rows(points, low, size, shape):
    """Cell numbers in order, and for each: n, sums and sums of squares of the offsets from its centre, in cells.

    A voxel gets the next free row when its first point comes, so the sums stay in the cache.
    """
    nz, ny, nx = shape
    most = min(len(points), nz * ny * nx)
    rank = np.full(nz * ny * nx, -1, np.int32)
    cells, sums, n_rows = np.empty(most, np.int64), np.empty((most, 8)), 0
    for i in range(len(points)):
        px = (points[i, 0] - low[0]) / size[0]
        py = (points[i, 1] - low[1]) / size[1]
        pz = (points[i, 2] - low[2]) / size[2]
        x, y, z = np.floor(px), np.floor(py), np.floor(pz)
        if x >= 0 and x < nx and y >= 0 and y < ny and z >= 0 and z < nz:
            cell = (int(z) * ny + int(y)) * nx + int(x)
            row = rank[cell]
            if row < 0:
                row = n_rows
                rank[cell] = row
                cells[row] = cell
                sums[row] = 0
                n_rows += 1
            _add(sums, row, px - x - _HALF, py - y - _HALF, pz - z - _HALF)
    order = np.argsort(cells[:n_rows])
    return cells[:n_rows][order], sums[:n_rows][order]


@numba.njit(cache=True, error_model="numpy")
def sums_over_grid(points, low, size, shape):
    """The same with a row for every cell of the grid: simpler, and faster only for very many points."""
    nz, ny, nx = shape
    sums = np.zeros((nz * ny * nx, 8))
    for i in range(len(points)):
        px = (points[i, 0] - low[0]) / size[0]
        py = (points[i, 1] - low[1]) / size[1]
        pz = (points[i, 2] - low[2]) / size[2]
        x, y, z = np.floor(px), np.floor(py), np.floor(pz)
        if x >= 0 and x < nx and y >= 0 and y < ny and z >= 0 and z < nz:
            _add(sums, (int(z) * ny + int(y)) * nx + int(x), px - x - _HALF, py - y - _HALF, pz - z - _HALF)
    cells = np.nonzero(sums[:, 0])[0]
    return cells, sums[cells]


@numba.njit(cache=True, error_model="numpy")
def finish(cells, sums, low, size, shape, lam, gamma):
    """Counts, means, variances (metres) of the rows, and the dense p."""
    nz, ny, nx = shape
    count, p = np.empty(len(cells), np.int64), np.zeros(nz * ny * nx, np.float32)
    mean, variance = np.empty((len(cells), 3), np.float32), np.empty((len(cells), 3), np.float32)
    for row in range(len(cells)):
        n, cell, spread = sums[row, 0], cells[row], 0.0
        place = (cell % nx, cell // nx % ny, cell // (nx * ny))
        for axis in range(3):
            offset = sums[row, 1 + axis] / n
            mean[row, axis] = low[axis] + (place[axis] + 0.5 + offset) * size[axis]
            variance[row, axis] = max(sums[row, 4 + axis] / n - offset * offset, 0.0) * size[axis] * size[axis]
            spread += variance[row, axis]
        count[row] = int(n)
        p[cell] = -np.expm1(-lam * n - gamma * spread / 3)
    return count, mean, variance, p

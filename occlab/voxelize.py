"""Points to voxels: how many points fell into each cell, where in it, and how spread out.

Legend: N points, M occupied voxels, B frames, Z Y X cells.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import OcclabError
from .grid import VoxelGrid

# Offsets from a voxel's centre are rounded to this fraction of the voxel (9 um in a cell of 0.6 m). Counts, sums and sums
# of squares are then whole numbers that an int64 holds exactly (to 2^23 points a voxel), so the result depends neither on
# the order of the points nor on the device.
_STEPS = 65536.0
# The count rides in the bits above the sum of the x offsets: one accumulation less.
_COUNT_BIT = 40
# Points handled at a time on a CPU: what is computed of them stays in its cache.
_CHUNK = 131072


@dataclass(frozen=True)
class VoxelStatistics:
    """What fell into each occupied voxel, sparse: one row an occupied voxel, rows in the order of their cell number."""

    index: Tensor
    """(M,) int64: cell number in the flattened (B, Z, Y, X) volume."""
    count: Tensor
    """(M,) int64: points in the voxel, at least 1."""
    mean: Tensor
    """(M, 3) float32: mean x, y, z, metres."""
    variance: Tensor
    """(M, 3) float32: population variance (divided by n, so 0 for a single point) along x, y, z, square metres."""
    grid: VoxelGrid
    batch_size: int = 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, Z, Y, X) of the dense volume."""
        return self.batch_size, *self.grid.shape

    @property
    def coordinates(self) -> Tensor:
        """(M, 4) int64: frame, z, y, x of each row, spconv's order."""
        return torch.stack(torch.unravel_index(self.index, self.shape), dim=1)

    def dense(self, values: Tensor) -> Tensor:
        """Spread one value a row over the volume, 0 elsewhere: (M,) -> (B, Z, Y, X)."""
        volume = values.new_zeros(self.batch_size * self.grid.n_cells)
        volume[self.index] = values
        return volume.view(self.shape)


def _slots(grid: VoxelGrid) -> int:
    """Slots of one frame in the layout that :func:`_locate` writes to, a multiple of 8.

    Every row of x and every column of y has one slot more than it has cells, and there is one slot before the first cell
    and one after the last. Points outside the grid are clamped into these: that is twice as fast as comparing each
    coordinate and leaving points out.
    """
    nz, ny, nx = grid.shape
    return -(-(nz * (ny + 1) * (nx + 1) + 2) // 8) * 8


def _chunks(n: int, device: torch.device, *buffers: tuple[torch.dtype, int]) -> Iterator[tuple[slice, list[Tensor]]]:
    """Slices over n points, each with buffers (rows, points) of the dtypes and rows asked for; (points,) where rows is 1.

    The memory is reused from chunk to chunk: fresh memory costs more than the arithmetic.
    """
    size = min(n, _CHUNK) if device.type == "cpu" else n
    memory = [(rows, torch.empty(rows * size, dtype=dtype, device=device)) for dtype, rows in buffers]
    for start in range(0, n, max(size, 1)):
        k = min(size, n - start)
        yield slice(start, start + k), [m[:k] if rows == 1 else m[: rows * k].view(rows, k) for rows, m in memory]


def _place(points: Tensor, axis: int, grid: VoxelGrid, out: Tensor) -> Tensor:
    """Where points lie along an axis, in cells: (p - low) / size, in float32."""
    torch.sub(points[:, axis], grid.point_cloud_range[axis], out=out)
    # Divided by a 0-d tensor, not by a Python number: torch turns the latter into a float64 reciprocal on some devices.
    return out.div_(torch.tensor(grid.voxel_size[axis], dtype=torch.float32, device=out.device))


def _locate(cloud: Tensor, grid: VoxelGrid, marks: Tensor, cells: Tensor | None = None) -> None:
    """Mark the slot of each point.

    Shape:
        cloud: (N, 3 or more); marks: (slots,) bool, set to True where there is a point.
        cells: (N,) int32, filled with the points' slots; may be left out.
    """
    nz, ny, nx = grid.shape
    after = nz * (ny + 1) * (nx + 1)  # the slot behind the last cell, before the 1 for the slot in front is added
    # A float32 holds whole numbers to 2^24, so it can number the slots of all but a few odd grids.
    exact = torch.float32 if after + 1 <= 2**24 else torch.float64
    buffers = ((torch.float32, 1), (exact, 1), (torch.int32, 1), (torch.int64, 1), (torch.bool, 1))
    for here, (place, flat, narrow, wide, true) in _chunks(len(cloud), cloud.device, *buffers):
        points = cloud[here].to(torch.float32)
        flat.copy_(_place(points, 2, grid, place).floor_())  # z, y, x: the volume's order, x fastest
        for axis, n in ((1, ny), (0, nx)):
            cell = _place(points, axis, grid, place).floor_().clamp_(-1, n)
            torch.add(cell, flat, alpha=n + 1, out=flat)
        flat.clamp_(-1, after).nan_to_num_(nan=-1).add_(1)
        # float to int32 to int64 is three times as fast as float to int64.
        slot = narrow if cells is None else cells[here]
        marks.scatter_(0, wide.copy_(slot.copy_(flat)), true.fill_(True))


def _accumulate(cloud: Tensor, grid: VoxelGrid, rank: Tensor, cells: Tensor, sums: Tensor) -> None:
    """Add each point's offsets x, y, z from the centre of its voxel, in steps, and their squares to its row of the sums.

    Shape:
        cloud: (N, 3 or more); rank: (slots,) int32, row of each slot; cells: (N,) int32, slot of each point.
        sums: (6, rows) int64; the first carries the count above the sum.
    """
    buffers = ((torch.float32, 3), (torch.int32, 3), (torch.int64, 1), (torch.int64, 6))
    for here, (places, offsets, row, values) in _chunks(len(cloud), cloud.device, *buffers):
        points = cloud[here].to(torch.float32)
        row.copy_(rank.index_select(0, cells[here]))
        for axis in range(3):
            _place(points, axis, grid, places[axis])
        offsets.copy_(places.frac_().mul_(_STEPS).round_().sub_(_STEPS / 2))
        values[:3] = offsets
        values[0] += 1 << _COUNT_BIT
        values[3:] = offsets.mul_(offsets)  # at most 2^30
        sums.scatter_add_(1, row.expand(6, -1), values)  # all six at once: each is a thread's


def _true_positions(marks: Tensor) -> Tensor:
    """Where a bool tensor is True, as positions in it flattened; the size of its rows is a multiple of 8.

    Looked for eight at a time, because nearly all of a volume is empty: 6 times faster than ``nonzero``.
    """
    words = marks.view(torch.int64).view(-1).nonzero().squeeze(1)
    word, byte = marks.view(-1, 8).index_select(0, words).nonzero().unbind(1)
    return words.index_select(0, word) * 8 + byte


def _check(points: Tensor) -> Tensor:
    if isinstance(points, Tensor) and len(points) >= 2**23:
        raise OcclabError(f"voxelize takes fewer than {2**23:,} points a cloud, got {len(points):,}")
    if not (isinstance(points, Tensor) and points.ndim == 2 and points.shape[1] >= 3 and points.is_floating_point()):
        got = f"{points.dtype} {tuple(points.shape)}" if isinstance(points, Tensor) else type(points).__name__
        raise OcclabError(f"voxelize expects floating-point points of shape (N, 3) or (N, 4), x y z first, got {got}")
    return points


def _batch(points: Tensor | Sequence[Tensor]) -> list[Tensor]:
    clouds = [points] if isinstance(points, Tensor) else list(points)
    if not clouds:
        raise OcclabError("voxelize expects at least one point cloud, got an empty list")
    return [_check(cloud) for cloud in clouds]


@torch.no_grad()
def occupancy(points: Tensor | Sequence[Tensor], grid: VoxelGrid) -> Tensor:
    """Which cells hold a point. The short way to :func:`hard_occupancy` where the statistics are not needed.

    Shape:
        points: (N, 3 or 4) metres, or a list of B such clouds.
        returns: (B, Z, Y, X) bool.
    """
    clouds = _batch(points)
    nz, ny, nx = grid.shape
    marks = torch.zeros(len(clouds), _slots(grid), dtype=torch.bool, device=clouds[0].device)
    for frame, cloud in enumerate(clouds):
        _locate(cloud, grid, marks[frame])
    padded = marks[:, 1 : 1 + nz * (ny + 1) * (nx + 1)].view(-1, nz, ny + 1, nx + 1)
    return padded[:, :, :ny, :nx].contiguous()


@torch.no_grad()
def voxelize(points: Tensor | Sequence[Tensor], grid: VoxelGrid) -> VoxelStatistics:
    """Count, mean and variance of the points in each occupied voxel.

    Points outside the grid, and points with NaN, are left out. The result does not depend on the order of the points,
    and is the same on CPU and CUDA: offsets are centred on their voxel and rounded to 1/65,536 of it, so that their
    sums are exact.

    Shape:
        points: (N, 3 or 4) metres, x y z first, on any device; or a list of B such clouds.

    Raises:
        OcclabError: points that are not a floating-point tensor (N, 3 or more), or 2^23 of them or more.

    >>> stats = voxelize(torch.tensor([[0.1, 0.1, 0.1], [0.3, 0.1, 0.1]]), VoxelGrid())
    >>> stats.count.tolist(), stats.coordinates.tolist()
    ([2], [[0, 20, 90, 90]])
    """
    clouds = _batch(points)
    device = clouds[0].device
    nz, ny, nx = grid.shape
    marks = torch.zeros(len(clouds), _slots(grid), dtype=torch.bool, device=device)
    cells = [torch.empty(len(cloud), dtype=torch.int32, device=device) for cloud in clouds]
    for frame, cloud in enumerate(clouds):
        _locate(cloud, grid, marks[frame], cells[frame])

    # The marked slots, and which of them are cells of the grid.
    slots = _true_positions(marks)
    frame = slots.div(marks.shape[1], rounding_mode="floor")
    slot = slots - frame * marks.shape[1] - 1
    line = slot.div(nx + 1, rounding_mode="floor")
    z = line.div(ny + 1, rounding_mode="floor")
    x, y = slot - line * (nx + 1), line - z * (ny + 1)
    inside = ((x < nx) & (y < ny) & (z >= 0) & (z < nz)).nonzero().squeeze(1)
    frame, x, y, z = (values.index_select(0, inside) for values in (frame, x, y, z))

    # Accumulate into a row for each of them, not into the whole grid: 2 to 3 times faster. The last row takes the rest.
    n_rows = len(inside)
    rank = torch.empty(marks.shape, dtype=torch.int32, device=device)  # read only where it is written next
    rank.view(-1).index_fill_(0, slots, n_rows)
    rows = torch.arange(n_rows, dtype=torch.int32, device=device)
    rank.view(-1).scatter_(0, slots.index_select(0, inside), rows)
    sums = torch.zeros(6, n_rows + 1, dtype=torch.int64, device=device)
    for i, cloud in enumerate(clouds):
        _accumulate(cloud, grid, rank[i], cells[i], sums)
    sums = sums[:, :n_rows]

    count = (sums[0] + (1 << (_COUNT_BIT - 1))) >> _COUNT_BIT
    sums[0] -= count << _COUNT_BIT
    averages = sums / count.double()
    mean, variance = (torch.empty(n_rows, 3, dtype=torch.float32, device=device) for _ in range(2))
    for axis, cell in enumerate((x, y, z)):
        offset, square = averages[axis], averages[3 + axis]
        step = grid.voxel_size[axis] / _STEPS
        variance[:, axis] = (square - offset * offset).clamp_(min=0.0).mul_(step**2)
        place = torch.add(offset, cell, alpha=_STEPS).add_(_STEPS / 2)  # from the grid's corner, in steps
        mean[:, axis] = place.mul_(step).add_(grid.point_cloud_range[axis])
    index = ((frame * nz + z) * ny + y) * nx + x
    return VoxelStatistics(index, count, mean, variance, grid, len(clouds))


def hard_occupancy(stats: VoxelStatistics) -> Tensor:
    """(B, Z, Y, X) float32: 1 where a voxel holds at least one point."""
    return stats.dense(torch.ones_like(stats.count, dtype=torch.float32))


def soft_occupancy(stats: VoxelStatistics, lam: float = 0.3, gamma: float = 5.0) -> Tensor:
    """p = 1 - exp(-lam * n - gamma * var): more points, or more spread ones, more certainly occupied.

    ``n`` is the number of points in the voxel and ``var`` the mean of their population variances along x, y and z, in
    square metres. A voxel with one point gets 1 - exp(-0.3) = 0.26.

    Shape:
        returns: (B, Z, Y, X) float32 in [0, 1]; 1 only by rounding.
    """
    x, y, z = stats.variance.unbind(1)  # added up column by column: a mean over rows of 3 is slow
    p = -torch.expm1(-lam * stats.count.float() - gamma / 3 * (x + y + z))
    return stats.dense(p)

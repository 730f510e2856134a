"""What a sensor's rays say of each voxel: free, occupied or unknown; and what a ray meets first.

A bare LiDAR target calls empty whatever holds no return, so a hidden wall, rightly predicted, counts as a false alarm.
Following each return's ray from the sensor tells the voxels that were seen to be empty from those that nobody looked into.

Method: the exact traversal of a grid by a ray (Amanatides & Woo, "A fast voxel traversal algorithm for ray tracing",
Eurographics 1987), without its step from voxel to voxel: how many planes a ray crosses along each axis is known beforehand,
each crossing enters one voxel, and which one follows from the crossing alone. So all crossings of all rays are one array.

A ray that runs exactly through an edge or a corner goes on in the voxel behind it and does not visit those that it only
touches; so does a ray that starts there. One that runs along a face is in the voxel of the higher number, where a point on
that face would be. All in float64: within rounding of an edge, a voxel may be added that is only touched.
Legend: N points, R rays, C crossings, Z Y X cells.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import BoolTensor, Tensor

from .errors import OcclabError
from .grid import VoxelGrid
from .voxelize import occupancy

UNKNOWN, FREE, OCCUPIED = 0, 1, 2

# Crossings handled at a time, at most; each takes about 150 bytes.
_CHUNK = 2**20


class SeesPoints(Protocol):
    """What is asked of a camera; ``occlab.frames.Camera`` is one."""

    lidar_to_camera: Sequence[Sequence[float]]

    def sees(self, xyz: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class _Segments:
    """Straight lines through the grid, in cells counted from the cell each begins in.

    Axes along which a line runs downwards are mirrored, so that every line runs upwards along every axis.
    """

    ray: Tensor
    """(R,) int64: which of the lines asked for; those that miss the grid are left out."""
    begin: Tensor
    """(3, R) in [0, 1): where the line begins, along x, y, z."""
    length: Tensor
    """(3, R) >= 0."""
    first: Tensor
    """(3, R): the first cell inside the grid."""
    last: Tensor
    """(3, R): the last cell inside the grid."""
    enters: Tensor
    """(R,) in [0, 1): share of the line before it enters the grid."""
    stride: Tensor
    """(3, R): what a step along an axis adds to the number of the cell in the volume."""
    base: Tensor
    """(R,): number in the volume of the cell that the line begins in."""


@dataclass(frozen=True)
class _Visits:
    """Voxels that lines visit, in no order."""

    ray: Tensor
    """(C,) int64: the line."""
    voxel: Tensor
    """(C,) int64: number in the flattened (Z, Y, X) volume."""
    enters: Tensor
    """(C,) share of the line at which it enters the voxel."""
    leaves: Tensor
    """(C,) share of the line at which it leaves the voxel, if it is long enough; more than 1 where it is not."""


def _segments(begin: Tensor, end: Tensor, grid: VoxelGrid) -> _Segments:
    """Lines from (R, 3) to (R, 3), float64 metres, clipped to the grid."""
    low, size, cells = (
        torch.tensor(values, dtype=torch.float64, device=end.device)
        for values in (grid.point_cloud_range[:3], grid.voxel_size, grid.shape[::-1])
    )
    sign = torch.where(end < begin, -1.0, 1.0).double()
    place = (begin - low) / size
    # A sensor on a face by its decimal numbers is on it: 2.4 / 0.4 is 5.999999999999999.
    place = torch.where((place - place.round()).abs() < 1e-9, place.round(), place) * sign
    length = (end - begin).abs() / size
    home = place.floor()
    start = place - home
    bottom = torch.where(sign > 0, 0.0, -cells) - home
    top = bottom + cells
    # Along an axis that a line does not move along, it is inside the grid always or never.
    moves = length > 0
    enters = torch.where(moves, (bottom - start) / length, torch.where(bottom <= 0, -math.inf, math.inf))
    leaves = torch.where(moves, (top - start) / length, torch.where(top > 0, math.inf, -math.inf))
    enters, leaves = enters.amax(1).clamp(min=0.0), leaves.amin(1).clamp(max=1.0)
    first = (start + enters[:, None] * length).floor().clamp(bottom, top - 1)
    last = ((start + leaves[:, None] * length).ceil() - 1).clamp(bottom, top - 1)
    # An end inside the grid lies in the cell that the grid's own float32 rule gives it, and the line goes no further.
    cell, inside = grid.index_of(end)
    cell = cell.flip(1).double()
    own = torch.where(sign > 0, cell, -1 - cell) - home
    last = torch.where(inside[:, None], torch.minimum(last, own), last).maximum(first)
    # -1 - cell mirrors a cell: number = sign * mirrored cell, less 1 where mirrored.
    nx, ny, _ = grid.shape[::-1]
    stride = torch.tensor([1, nx, nx * ny], dtype=torch.float64, device=end.device)
    base = ((sign * home + (sign - 1) / 2) * stride).sum(1)
    kept = (enters < leaves).nonzero().squeeze(1)
    columns = [v[kept].T.contiguous() for v in (start, length, first, last)]
    return _Segments(kept, *columns, enters[kept], (sign * stride)[kept].T.contiguous(), base[kept])


def _visits(segments: _Segments, times: bool) -> Iterator[_Visits]:
    """The first voxels of all lines, then those entered by crossing planes of x, of y, of z.

    Args:
        times: whether ``enters`` and ``leaves`` are asked for; without, they are empty.
    """
    s = segments
    everyone = torch.arange(len(s.ray), device=s.ray.device)
    yield _visit(s, everyone, list(s.first), s.enters, times)
    for axis in range(3):
        count = (s.last[axis] - s.first[axis]).long()
        line = everyone.repeat_interleave(count)
        before = (s.first[axis] + 1 - (count.cumsum(0) - count))[line]
        entered = before.add_(torch.arange(len(line), device=line.device))
        way, length = entered - s.begin[axis][line], s.length[axis][line]
        cells = [entered] * 3
        for other in {0, 1, 2} - {axis}:
            # Multiplied before it is divided: where lines meet exactly in an edge, this finds it.
            cell = (way * s.length[other][line]).div_(length).add_(s.begin[other][line]).floor_()
            cells[other] = cell.clamp_(s.first[other][line], s.last[other][line])
        yield _visit(s, line, cells, way.div_(length) if times else way, times)


def _visit(s: _Segments, line: Tensor, cells: list[Tensor], enters: Tensor, times: bool) -> _Visits:
    voxel = s.base[line]
    for cell, stride in zip(cells, s.stride, strict=True):
        voxel.addcmul_(cell, stride[line])
    if not times:
        return _Visits(s.ray[line], voxel.long(), enters[:0], enters[:0])
    planes = [(cell + 1 - b[line]) / n[line] for cell, b, n in zip(cells, s.begin, s.length, strict=True)]
    return _Visits(s.ray[line], voxel.long(), enters, torch.stack(planes).amin(0))


def _chunks(rays: int, grid: VoxelGrid) -> Iterator[slice]:
    size = max(1, _CHUNK // sum(grid.shape))
    return (slice(start, start + size) for start in range(0, rays, size))


def _places(values: Tensor | Sequence[float], rows: int, what: str, device: torch.device) -> Tensor:
    """(3,) or (rows, 3) finite numbers -> (rows, 3) float64."""
    try:
        places = torch.as_tensor(values, dtype=torch.float64, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OcclabError(f"{what} must be numbers of shape (3,) or ({rows}, 3), got {type(values).__name__}") from error
    if tuple(places.shape) not in ((3,), (rows, 3)):
        raise OcclabError(f"{what} must be of shape (3,) or ({rows}, 3), got {tuple(places.shape)}")
    if not bool(places.isfinite().all()):
        raise OcclabError(f"{what} must be finite, got NaN or infinity among them")
    return places.expand(rows, 3)


def check_volume(volume: Tensor, grid: VoxelGrid, what: str) -> Tensor:
    """``volume`` itself, if it is (Z, Y, X) bool on the grid.

    Raises:
        OcclabError: it is not.
    """
    if not (isinstance(volume, Tensor) and volume.dtype == torch.bool and tuple(volume.shape) == grid.shape):
        got = f"{volume.dtype} {tuple(volume.shape)}" if isinstance(volume, Tensor) else type(volume).__name__
        raise OcclabError(f"{what} must be bool of the grid's shape {grid.shape}, got {got}")
    return volume


@torch.no_grad()
def ray_states(points: Tensor, grid: VoxelGrid, *, origin: Tensor | Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    """Free, occupied and unknown voxels of a LiDAR cloud.

    A voxel with a return is OCCUPIED, exactly as :func:`occlab.voxelize.occupancy` has it; a voxel without, which a ray
    crosses on its way to its return, is FREE; the rest is UNKNOWN. Occupied wins: where a ray passes through a voxel in
    which another one ended (a hedge, the ground at a flat angle, something that drove on), the voxel stays occupied. A
    return outside the grid frees the voxels on its way. A pulse without return is not in the cloud and says nothing.

    Args:
        origin: where the sensor was, in the points' frame of reference, metres. In a cloud of several sweeps every point has
            its own: one for all would free what no ray saw.

    Shape:
        points: (N, 3 or more) metres, x y z first; rows with NaN or infinity are left out. origin: (3,) or (N, 3).
        returns: (Z, Y, X) uint8 of UNKNOWN = 0, FREE = 1 and OCCUPIED = 2, on the points' device.

    Raises:
        OcclabError: points that are not floating-point (N, 3 or more); an origin of another shape, or not finite.

    >>> row = VoxelGrid((0.0, 0.0, 0.0, 5.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    >>> ray_states(torch.tensor([[3.5, 0.5, 0.5]]), row, origin=(1.5, 0.5, 0.5)).flatten().tolist()
    [0, 1, 1, 2, 0]
    """
    occupied = occupancy(points, grid)[0]
    origins = _places(origin, len(points), "the origin of rays", points.device)
    free = torch.zeros(grid.n_cells, dtype=torch.bool, device=points.device)
    for here in _chunks(len(points), grid):
        ends = points[here, :3].double()
        known = ends.isfinite().all(1)
        for visits in _visits(_segments(origins[here][known], ends[known], grid), times=False):
            free[visits.voxel] = True
    states = free.view(grid.shape).to(torch.uint8)
    states[occupied] = OCCUPIED
    return states


def observed_mask(points: Tensor, grid: VoxelGrid, origin: Tensor | Sequence[float] = (0.0, 0.0, 0.0)) -> BoolTensor:
    """Voxels that the LiDAR's rays looked into, free or occupied: the mask for a loss and for metrics.

    Shape:
        points: (N, 3 or more) metres. origin: (3,) or (N, 3), as in :func:`ray_states`.
        returns: (Z, Y, X) bool.
    """
    return ray_states(points, grid, origin=origin) != UNKNOWN


@torch.no_grad()
def first_hit(
    volume: BoolTensor,
    grid: VoxelGrid,
    origins: Tensor | Sequence[float],
    directions: Tensor,
    *,
    far_side: bool = False,
) -> Tensor:
    """How far rays go until they meet an occupied voxel.

    Args:
        far_side: the distance at which the ray leaves that voxel again, instead of that at which it enters it.

    Shape:
        volume: (Z, Y, X) bool. origins: (3,) or (R, 3) metres. directions: (R, 3), of any length but 0.
        returns: (R,) float64 metres; 0 for a ray that begins in an occupied voxel (but for ``far_side``), infinity for one
            that meets none.

    Raises:
        OcclabError: another shape or dtype; NaN, infinity, or a direction of length 0.

    >>> row = VoxelGrid((0.0, 0.0, 0.0, 5.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    >>> wall = torch.tensor([False, False, False, True, True]).view(1, 1, 5)
    >>> first_hit(wall, row, (0.5, 0.5, 0.5), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])).tolist()
    [2.5, inf]
    """
    occupied = check_volume(volume, grid, "the volume that rays are cast into").flatten()
    if not (isinstance(directions, Tensor) and directions.ndim == 2):
        raise OcclabError("directions of rays must be a tensor of shape (R, 3)")
    directions = _places(directions, len(directions), "directions of rays", volume.device)
    origins = _places(origins, len(directions), "origins of rays", volume.device)
    length = directions.norm(dim=1, keepdim=True)
    if not bool((length > 0).all()):
        raise OcclabError("directions of rays must have a length, got one of length 0")
    box = torch.tensor(grid.point_cloud_range, dtype=torch.float64, device=volume.device).view(2, 3)
    # Far enough to be out of the grid on its other side, whatever the direction.
    reach = (origins - box.mean(0)).norm(dim=1, keepdim=True) + (box[1] - box[0]).norm()
    ends = origins + directions / length * reach
    share = torch.full((len(ends),), math.inf, dtype=torch.float64, device=volume.device)
    for here in _chunks(len(ends), grid):
        for visits in _visits(_segments(origins[here], ends[here], grid), times=True):
            hit = occupied[visits.voxel]
            when = visits.leaves if far_side else visits.enters
            share[here].scatter_reduce_(0, visits.ray[hit], when[hit], "amin")
    return share * reach.squeeze(1)


@torch.no_grad()
def visible_from(
    volume: BoolTensor, grid: VoxelGrid, origin: Tensor | Sequence[float], asked: BoolTensor | None = None
) -> BoolTensor:
    """Voxels that can be seen from a point, past those that are occupied.

    A ray goes to the centre of each voxel that is asked for; all that it visits, up to the first occupied voxel and with it,
    is visible. So a patch of road is seen, though the line to its own centre, at a flat angle, passes through the patch before
    it. The voxel that the point is in does not hide anything. Surfaces at the border of the grid or of what is asked for can be
    missed: rays that would meet them lead to voxels outside.

    Args:
        asked: the voxels that rays go to, all by default; the others are not called visible.

    Shape:
        volume: (Z, Y, X) bool, True where a voxel is occupied. origin: (3,) metres, inside the grid or not.
        asked: (Z, Y, X) bool.
        returns: (Z, Y, X) bool.
    """
    hides = check_volume(volume, grid, "the volume that is looked into").clone()
    asked = torch.ones_like(hides) if asked is None else check_volume(asked, grid, "the mask of voxels asked for")
    origin = _places(origin, 1, "the point to look from", volume.device)
    own_cell, inside = grid.index_of(origin)
    if bool(inside):
        hides[tuple(own_cell[0])] = False
    hides = hides.flatten()
    seen = torch.zeros_like(hides)
    targets = grid.centre_of(asked.nonzero()).double()
    for here in _chunks(len(targets), grid):
        ends = targets[here]
        visits = list(_visits(_segments(origin.expand_as(ends), ends, grid), times=True))
        first = torch.full((len(ends),), math.inf, dtype=torch.float64, device=volume.device)
        for v in visits:
            hit = hides[v.voxel]
            first.scatter_reduce_(0, v.ray[hit], v.enters[hit], "amin")
        for v in visits:
            seen[v.voxel[v.enters <= first[v.ray]]] = True
    return seen.view(grid.shape) & asked


def camera_visible(cameras: Sequence[SeesPoints], states: Tensor, grid: VoxelGrid) -> BoolTensor:
    """Voxels in view of a camera and not hidden behind an OCCUPIED one.

    In the spirit of Occ3D's ``mask_camera`` (Tian et al., arXiv 2304.14365), which casts a ray from the camera to each occupied
    voxel and calls observed what lies before the first one on it. Here rays go to every voxel in view, so open air is visible
    too. UNKNOWN voxels hide nothing: this is the most that the cameras can have seen.

    Shape:
        states: (Z, Y, X) uint8 of :func:`ray_states`.
        returns: (Z, Y, X) bool.
    """
    occupied = check_volume(states == OCCUPIED, grid, "states of voxels")
    indices = torch.ones(grid.shape, dtype=torch.bool).nonzero()
    centres = grid.centre_of(indices).double().numpy()
    seen = torch.zeros_like(occupied)
    for camera in cameras:
        placed = np.asarray(camera.lidar_to_camera, dtype=np.float64)
        in_view = torch.from_numpy(camera.sees(centres)).view(grid.shape).to(states.device)
        seen |= visible_from(occupied, grid, -placed[:3, :3].T @ placed[:3, 3], in_view)
    return seen

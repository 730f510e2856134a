"""Which voxels a frame's cameras see: the others have no input, so they count neither in the loss nor in a metric."""

from functools import lru_cache

import numpy as np
import torch
from torch import BoolTensor, Tensor

from ..grid import VoxelGrid
from .camera import Camera
from .frame import Frame


def _planes(camera: Camera, near: float) -> np.ndarray:
    """What a camera sees is the inside of five planes: (5, 4), a point x y z 1 is seen where all products are positive.

    The same test as :meth:`Camera.sees` without its division: pixel u = (row of K . p) / depth > -0.5 is
    (row of K + 0.5 row of depth) . p > 0, and so on for the other three edges of the image.
    """
    placed = np.asarray(camera.lidar_to_camera)[:3]
    u, v, _ = np.asarray(camera.intrinsics) @ placed
    depth = placed[2]
    beyond = depth - [0, 0, 0, near]
    return np.stack(
        [u + 0.5 * depth, (camera.width - 0.5) * depth - u, v + 0.5 * depth, (camera.height - 0.5) * depth - v, beyond]
    )


def _seen_by(camera: Camera, x: np.ndarray, y: np.ndarray, z: np.ndarray, near: float = 0.5) -> np.ndarray:
    """(Z, Y, X) bool. A plane's value is a sum of one term an axis: one comparison a voxel instead of a matrix product."""
    seen = np.ones((len(z), len(y), len(x)), dtype=bool)
    for a, b, c, d in _planes(camera, near):
        on_the_ground = a * x[None, :] + (b * y + d)[:, None]
        seen &= on_the_ground > -(c * z)[:, None, None]
    return seen


@lru_cache(maxsize=16)  # every frame of a sequence shares its cameras; a mask of 180 x 180 x 32 is 1 MB
def _seen(view: tuple[Camera, ...], grid: VoxelGrid) -> Tensor:
    axes = []
    for axis, n in enumerate(grid.shape):
        index = torch.zeros(n, 3, dtype=torch.long)
        index[:, axis] = torch.arange(n)
        axes.append(grid.centre_of(index)[:, 2 - axis].double().numpy())
    z, y, x = axes
    return torch.from_numpy(np.any([_seen_by(camera, x, y, z) for camera in view], axis=0))


def view_mask(frame: Frame, grid: VoxelGrid) -> BoolTensor:
    """Voxels whose centre projects into at least one of the frame's cameras; all of them when it names no camera.

    What stands in the way is not considered: a voxel behind a wall is still in view.

    Shape:
        returns: (Z, Y, X) bool, on the CPU.
    """
    if not frame.view:
        return torch.ones(grid.shape, dtype=torch.bool)
    return _seen(frame.view, grid).clone()  # the cached one must survive whatever the caller does to his

"""Moving whole frames about z: mirrored, turned by quarters, turned by any angle. Legend: Z heights, Y X cells."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import OcclabError
from ..grid import VoxelGrid
from .config import TrainConfig


@dataclass(frozen=True)
class Movement:
    """What is done to a frame: mirrored first, then turned by quarters, then by degrees, each about the z axis."""

    flip: tuple[bool, bool] = (False, False)
    """Mirrored along x, along y."""
    turns: int = 0
    """Quarter turns, from x to y."""
    degrees: float = 0.0
    """Further turn, from x to y."""

    @property
    def matrix(self) -> tuple[float, float, float, float]:
        """(a, b, c, d): x becomes a x + b y, and y becomes c x + d y. Without degrees these are exactly 0, 1 and -1; the 16
        ways to write such a movement are 8 matrices.

        >>> Movement(flip=(True, True)).matrix == Movement(turns=2).matrix == (-1, 0, 0, -1)
        True
        """
        sx, sy = (-1.0 if mirrored else 1.0 for mirrored in self.flip)
        cosine, sine = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[self.turns % 4]
        if self.degrees:
            angle = math.radians(self.degrees) + math.pi / 2 * self.turns
            cosine, sine = math.cos(angle), math.sin(angle)
        return cosine * sx, -sine * sy, sine * sx, cosine * sy


STILL = Movement()
"""Nothing is moved: how frames are evaluated."""


def check_grid(config: TrainConfig) -> None:
    """Mirrored and turned frames must lie on the same cells.

    Raises:
        OcclabError: a grid that is not centred, or for quarter turns not square.
    """
    grid = config.grid
    low, high = grid.point_cloud_range[:2], grid.point_cloud_range[3:5]
    centred = all(a + b == 0 for a, b in zip(low, high, strict=True))
    if config.flip and not centred:
        raise OcclabError(f"flip needs a grid centred on 0 along x and y, got {grid.point_cloud_range}")
    if config.quarter_turns and not (centred and low[0] == low[1] and grid.voxel_size[0] == grid.voxel_size[1]):
        raise OcclabError(
            f"quarter_turns needs a grid that is square and centred on 0 along x and y, "
            f"got {grid.point_cloud_range} in cells of {grid.voxel_size}"
        )


def draw_movements(config: TrainConfig, n: int, generator: torch.Generator) -> list[Movement]:
    """The movements of a batch of n frames. Each kind draws its numbers whether it is in use or not, so that switching one
    on leaves the others as they were."""
    flips = torch.rand(n, 2, generator=generator) < 0.5
    turns = torch.randint(4, (n,), generator=generator)
    degrees = (2 * torch.rand(n, generator=generator, dtype=torch.float64) - 1) * config.rotation
    return [
        Movement(
            tuple(flips[i].tolist()) if config.flip else (False, False),
            int(turns[i]) if config.quarter_turns else 0,
            float(degrees[i]) if config.rotation else 0.0,
        )
        for i in range(n)
    ]


def move_points(points: Tensor, movement: Movement) -> Tensor:
    """Points moved about the z axis, without their intensity.

    Shape:
        points: (N, 3 or more); returns: (N, 3).
    """
    a, b, c, d = movement.matrix
    x, y, z = points[:, :3].unbind(1)
    return torch.stack([a * x + b * y, c * x + d * y, z], dim=1)  # no matrix product: a GPU may round its factors to TF32


def move_mask(mask: Tensor, movement: Movement, grid: VoxelGrid) -> Tensor:
    """A mask moved with its frame: each cell takes the value of the cell that its centre came from, False where that lies
    outside the grid. Exact for mirrored frames and quarter turns; the nearest neighbour for other angles.

    Shape:
        mask: (Z, Y, X) bool, and so is what is returned.
    """
    if movement == STILL:
        return mask
    a, b, c, d = movement.matrix
    _, ny, nx = grid.shape
    row, column = (i.flatten() for i in torch.meshgrid(torch.arange(ny), torch.arange(nx), indexing="ij"))
    centres = grid.centre_of(torch.stack([torch.zeros_like(row), row, column], dim=1))
    x, y, z = centres.unbind(1)
    origin, inside = grid.index_of(torch.stack([a * x + c * y, b * x + d * y, z], dim=1))  # the inverse: the transpose
    came_from, inside = (origin[:, 1] * nx + origin[:, 2]).to(mask.device), inside.to(mask.device)
    return (mask.flatten(1)[:, came_from] & inside).view_as(mask)

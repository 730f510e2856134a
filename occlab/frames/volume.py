"""A published occupancy volume in one order of axes, whatever the file's own order is."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import BoolTensor, Tensor

from ..errors import OcclabError
from ..grid import VoxelGrid


@dataclass(frozen=True)
class OccupancyVolume:
    """Occupied voxels, their classes where the file has any, and which voxels were observed.

    Raises:
        OcclabError: a tensor of another dtype or shape than (Z, Y, X) of the grid.
    """

    occupied: BoolTensor
    """(Z, Y, X)."""
    grid: VoxelGrid
    name: str
    reference: Literal["lidar", "ego"]
    """Frame of reference: origin at the LiDAR, or on the ground below the middle of the rear axle (nuScenes' ego frame).
    Both with x forward, y left, z up."""
    classes: Tensor | None = None
    """(Z, Y, X) uint8, the file's own class numbers; None in a binary volume."""
    masks: dict[str, BoolTensor] = field(default_factory=dict)
    """Name, such as ``lidar`` or ``camera`` -> (Z, Y, X), True where the voxel was observed and counts."""
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tensors = {"occupied": (self.occupied, torch.bool)}
        tensors |= {f"mask {name}": (mask, torch.bool) for name, mask in self.masks.items()}
        tensors |= {} if self.classes is None else {"classes": (self.classes, torch.uint8)}
        for what, (tensor, dtype) in tensors.items():
            if tensor.dtype != dtype or tuple(tensor.shape) != self.grid.shape:
                raise OcclabError(
                    f"volume {self.name}: {what} must be {dtype} of the grid's shape {self.grid.shape}, "
                    f"got {tensor.dtype} {tuple(tensor.shape)}"
                )

    @property
    def rate(self) -> float:
        """Share of occupied voxels."""
        return float(self.occupied.float().mean())

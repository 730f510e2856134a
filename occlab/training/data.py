"""Frames to batches. Three separate random streams, so that changing one thing changes only that thing."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import OcclabError
from ..features import bev_features
from ..frames import Frame, read_frames, streets, view_mask
from ..settings import Profile
from ..voxelize import VoxelStatistics, hard_occupancy, soft_occupancy, voxelize
from .augmentation import STILL, Movement, check_grid, draw_movements, move_mask, move_points
from .config import TrainConfig


@dataclass(frozen=True)
class Batch:
    """Legend: B frames, C feature channels, Z heights, Y X cells."""

    features: Tensor
    """(B, C, Y, X) float32."""
    target: Tensor
    """(B, Z, Y, X) float32 in [0, 1]."""
    mask: Tensor | None
    """(B, Z, Y, X) bool, True where a cell counts; None: everywhere."""


def stream(seed: int, name: str, step: int = 0) -> torch.Generator:
    """A random generator of its own for each purpose and step, so that a resumed run draws what an unbroken one does."""
    digest = hashlib.sha256(f"{seed}/{name}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def split_frames(data: Path | None, profile: Profile) -> tuple[list[Frame], list[Frame]]:
    """Frames to train on and frames to hold out, as many as the profile asks for where there are as many.

    The last frames are held out, at most a fifth of them. In a folder in driving order they follow the ones trained on, so
    their scores say little about other places; simulated streets are each a place of their own.

    Args:
        data: a SemanticKITTI root or a folder of frames; None: simulated streets.
    """
    wanted = profile.train_frames + profile.held_out_frames
    frames = streets(wanted) if data is None else read_frames(data, limit=wanted)
    n_held_out = min(profile.held_out_frames, max(1, len(frames) // 5), len(frames) - 1)
    return frames[: len(frames) - n_held_out], frames[len(frames) - n_held_out :]


class Batches:
    """The batches of a run, by step number; frames are voxelised once and kept sparse on the device.

    >>> batches = Batches(frames, config)  # doctest: +SKIP
    >>> batches[0].target.shape  # doctest: +SKIP
    torch.Size([1, 32, 180, 180])
    """

    def __init__(self, frames: Sequence[Frame], config: TrainConfig, device: torch.device | str = "cpu") -> None:
        if not frames:
            raise OcclabError("training needs at least one frame, got none")
        check_grid(config)
        self.frames, self.config, self.device = list(frames), config, torch.device(device)
        self._voxels: dict[tuple, tuple[VoxelStatistics, VoxelStatistics]] = {}

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    def __iter__(self) -> Iterator[Batch]:
        """Every frame once, in order, one a batch and never moved: for evaluation."""
        return (self.frame(i) for i in range(len(self)))

    def __getitem__(self, step: int) -> Batch:
        """The batch of step number ``step``, from 0: each epoch is a new permutation of all frames."""
        n, size, seed = len(self), self.config.batch_size, self.config.seed
        if size > n:
            raise OcclabError(f"batch_size is {size}, but there are only {n} frames")
        places = range(step * size, (step + 1) * size)
        epochs = {e: torch.randperm(n, generator=stream(seed, "data", e)).tolist() for e in {place // n for place in places}}
        movements = draw_movements(self.config, size, stream(seed, "augmentation", step))
        parts = [self.frame(epochs[p // n][p % n], movement) for p, movement in zip(places, movements, strict=True)]
        if size == 1:
            return parts[0]
        targets, masks = [part.target for part in parts], [part.mask for part in parts]
        return Batch(torch.cat([part.features for part in parts]), torch.cat(targets), _join_masks(targets, masks))

    def frame(self, i: int, movement: Movement = STILL) -> Batch:
        """One frame as a batch of one, mirrored and turned where asked."""
        pseudo, lidar = self._statistics(i, movement)
        return Batch(bev_features(pseudo), *self._target(i, lidar, movement))

    def targets(self) -> tuple[Tensor, Tensor | None]:
        """Targets and masks of all frames, (B, Z, Y, X) each, for the ladder of floors."""
        targets, masks = zip(*(self._target(i, self._statistics(i, STILL)[1]) for i in range(len(self))), strict=True)
        return torch.cat(targets), _join_masks(targets, masks)

    def _target(self, i: int, lidar: VoxelStatistics, movement: Movement = STILL) -> tuple[Tensor, Tensor | None]:
        target = soft_occupancy(lidar) if self.config.targets == "soft" else hard_occupancy(lidar)
        if not self.frames[i].view:
            return target, None
        mask = move_mask(view_mask(self.frames[i], self.config.grid), movement, self.config.grid).to(self.device)[None]
        if not mask.any():
            raise OcclabError(f"frame {self.frames[i].name}: its cameras see no voxel of the grid; check lidar_to_camera")
        return target, mask

    def _statistics(self, i: int, movement: Movement) -> tuple[VoxelStatistics, VoxelStatistics]:
        """Pseudo and LiDAR cloud, voxelised; kept, but for turns by an angle, which never come back."""
        key = (i, movement.matrix)
        if key in self._voxels:
            return self._voxels[key]
        clouds = (self.frames[i].pseudo, self.frames[i].lidar)
        moved = [move_points(torch.from_numpy(points).to(self.device), movement) for points in clouds]
        found = tuple(voxelize(cloud, self.config.grid) for cloud in moved)
        for what, points, voxels in zip(("pseudo", "LiDAR"), clouds, found, strict=True):
            if len(voxels.count) == 0:
                # An empty target settles at exactly ln 2 + 1/2 as well: a misplaced cloud must not pass for the plateau.
                raise OcclabError(
                    f"frame {self.frames[i].name}: none of its {len(points)} {what} points lies in the grid "
                    f"{self.config.grid.point_cloud_range}; expected metres, with the origin at the LiDAR"
                )
        if not movement.degrees:
            self._voxels[key] = found
        return found


def _join_masks(targets: Sequence[Tensor], masks: Sequence[Tensor | None]) -> Tensor | None:
    if all(mask is None for mask in masks):
        return None
    whole = [torch.ones_like(t, dtype=torch.bool) if mask is None else mask for t, mask in zip(targets, masks, strict=True)]
    return torch.cat(whole)

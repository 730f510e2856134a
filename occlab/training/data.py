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
        low, high = config.grid.point_cloud_range[:2], config.grid.point_cloud_range[3:5]
        if config.flip and any(a + b != 0 for a, b in zip(low, high, strict=True)):
            raise OcclabError(f"flip needs a grid centred on 0 along x and y, got {config.grid.point_cloud_range}")
        self.frames, self.config, self.device = list(frames), config, torch.device(device)
        self._voxels: dict[tuple, tuple[VoxelStatistics, VoxelStatistics]] = {}

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    def __iter__(self) -> Iterator[Batch]:
        """Every frame once, in order, one a batch and never mirrored: for evaluation."""
        return (self.frame(i) for i in range(len(self)))

    def __getitem__(self, step: int) -> Batch:
        """The batch of step number ``step``, from 0: each epoch is a new permutation of all frames."""
        n, size, seed = len(self), self.config.batch_size, self.config.seed
        if size > n:
            raise OcclabError(f"batch_size is {size}, but there are only {n} frames")
        places = range(step * size, (step + 1) * size)
        epochs = {e: torch.randperm(n, generator=stream(seed, "data", e)).tolist() for e in {place // n for place in places}}
        flips = torch.zeros(size, 2, dtype=torch.bool)
        if self.config.flip:
            flips = torch.rand(size, 2, generator=stream(seed, "augmentation", step)) < 0.5
        parts = [self.frame(epochs[p // n][p % n], tuple(flip)) for p, flip in zip(places, flips.tolist(), strict=True)]
        if size == 1:
            return parts[0]
        targets, masks = [part.target for part in parts], [part.mask for part in parts]
        return Batch(torch.cat([part.features for part in parts]), torch.cat(targets), _join_masks(targets, masks))

    def frame(self, i: int, flip: tuple[bool, bool] = (False, False)) -> Batch:
        """One frame as a batch of one, mirrored along (x, y) where asked."""
        return Batch(bev_features(self._statistics(i, flip)[0]), *self._target(i, flip))

    def targets(self) -> tuple[Tensor, Tensor | None]:
        """Targets and masks of all frames, (B, Z, Y, X) each, for the ladder of floors."""
        targets, masks = zip(*(self._target(i) for i in range(len(self))), strict=True)
        return torch.cat(targets), _join_masks(targets, masks)

    def _target(self, i: int, flip: tuple[bool, bool] = (False, False)) -> tuple[Tensor, Tensor | None]:
        lidar = self._statistics(i, flip)[1]
        target = soft_occupancy(lidar) if self.config.targets == "soft" else hard_occupancy(lidar)
        if not self.frames[i].view:
            return target, None
        axes = [axis for axis, mirrored in ((2, flip[0]), (1, flip[1])) if mirrored]
        mask = view_mask(self.frames[i], self.config.grid).flip(axes).to(self.device)[None]
        if not mask.any():
            raise OcclabError(f"frame {self.frames[i].name}: its cameras see no voxel of the grid; check lidar_to_camera")
        return target, mask

    def _statistics(self, i: int, flip: tuple[bool, bool]) -> tuple[VoxelStatistics, VoxelStatistics]:
        if (i, flip) not in self._voxels:
            sign = torch.tensor([-1.0 if flip[0] else 1.0, -1.0 if flip[1] else 1.0, 1.0], device=self.device)
            clouds = (self.frames[i].pseudo, self.frames[i].lidar)
            moved = [torch.from_numpy(points[:, :3]).to(self.device) * sign for points in clouds]
            self._voxels[i, flip] = tuple(voxelize(cloud, self.config.grid) for cloud in moved)
            for what, points, voxels in zip(("pseudo", "LiDAR"), clouds, self._voxels[i, flip], strict=True):
                if len(voxels.count) == 0:
                    # An empty target settles at exactly ln 2 + 1/2 as well: a misplaced cloud must not pass for the plateau.
                    raise OcclabError(
                        f"frame {self.frames[i].name}: none of its {len(points)} {what} points lies in the grid "
                        f"{self.config.grid.point_cloud_range}; expected metres, with the origin at the LiDAR"
                    )
        return self._voxels[i, flip]


def _join_masks(targets: Sequence[Tensor], masks: Sequence[Tensor | None]) -> Tensor | None:
    if all(mask is None for mask in masks):
        return None
    whole = [torch.ones_like(t, dtype=torch.bool) if mask is None else mask for t, mask in zip(targets, masks, strict=True)]
    return torch.cat(whole)

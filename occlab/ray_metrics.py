"""Scores that know what rays can see: IoU over observed voxels, and RayIoU.

Legend: B frames, R rays, Z Y X cells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import BoolTensor, Tensor

from .errors import OcclabError
from .grid import VoxelGrid
from .metrics import Scores, trivial_scores
from .visibility import UNKNOWN, check_volume, first_hit

THRESHOLDS = (1.0, 2.0, 4.0)
"""Largest depth errors, metres, at which a ray still counts as right; RayIoU is the mean over them."""


def masked_scores(
    p: Tensor, target: Tensor, mask: Tensor, predictions: dict[str, Tensor] | None = None
) -> dict[str, dict[str, Scores]]:
    """Scores over every voxel and over the observed ones, each beside what no network is needed for.

    A LiDAR target calls a hidden wall empty; over observed voxels, predicting it is no false alarm.

    Args:
        mask: which voxels were observed, as bool, or as the uint8 states of :func:`occlab.visibility.ray_states`.
        predictions: others to score beside, such as ``{"the input": occupancy of the pseudo cloud}``.

    Shape:
        p, target, each of predictions: (B, Z, Y, X), predictions in [0, 1]; mask: broadcastable to them.
        returns: ``"every voxel"`` and ``"observed voxels"`` -> ``"prediction"``, ``"all empty"``, ``"all occupied"`` and the
            names in predictions -> scores.

    Raises:
        OcclabError: a mask of another dtype or shape; a prediction of another shape than the target or outside [0, 1].
    """
    if mask.dtype not in (torch.bool, torch.uint8):
        raise OcclabError(f"the mask of observed voxels must be bool, or uint8 states of voxels, got {mask.dtype}")
    observed = mask if mask.dtype == torch.bool else mask != UNKNOWN
    try:
        observed = observed.expand_as(target)
    except RuntimeError as error:
        raise OcclabError(f"a mask of shape {tuple(mask.shape)} does not fit a target of {tuple(target.shape)}") from error
    everything = {"prediction": p, **(predictions or {})}
    return {
        "every voxel": trivial_scores(target, everything),
        "observed voxels": trivial_scores(target, everything, observed),
    }


def query_directions() -> Tensor:
    """The rays of RayIoU: every degree round, at 39 elevations from -45 to 12.5 degrees, as a LiDAR on a car looks.

    The first ten elevations meet flat ground at distances of 1, 2, ... 10 times the sensor's height; from there on they are
    equally spaced, up to the top of nuScenes' field of view.

    Shape:
        returns: (14040, 3) float64 x, y, z, of length 1.
    """
    elevations = [-math.atan2(1, k) for k in range(1, 11)]
    spacing = elevations[-1] - elevations[-2]
    while elevations[-1] < 0.21:
        elevations.append(elevations[-1] + spacing)
    elevation = torch.tensor(elevations, dtype=torch.float64)[:, None]
    azimuth = torch.arange(360, dtype=torch.float64).deg2rad()[None]
    flat = elevation.cos()
    return torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin().expand(-1, 360)], dim=-1).view(-1, 3)


@dataclass(frozen=True)
class RayScores:
    """RayIoU lies in [0, 1]; 0 / 0 is 0."""

    ray_iou: float
    """Mean of the IoU at each of ``THRESHOLDS``."""
    at: dict[float, float]
    """Threshold, metres -> IoU."""
    depth_l1: float
    """Mean |depth error| of the rays that hit in prediction and target, metres; NaN where there is none, as 0 would praise an
    empty prediction."""
    abs_rel: float
    """Mean of |depth error| / depth in the target, of the same rays; NaN where there is none."""
    found: float
    """Share of the target's rays that hit anything in the prediction, at whatever depth."""
    rays: int
    """Rays that hit in the target: all that are counted."""


class RayScore:
    """RayIoU (SparseOcc, arXiv 2312.17118) of binary occupancy, accumulated frame by frame.

    From each origin rays go out in each direction; a ray's depth is where it leaves the first occupied voxel on its way, as
    in the official code. Rays that meet nothing in the target are left out. Of the others, a ray is a true positive where it
    hits in the prediction too and the depths differ by less than 1, 2 or 4 m:
    IoU = TP / (rays + rays that hit in the prediction - TP), so a hit at the wrong depth is a false positive *and* a false
    negative; RayIoU is the mean over the three.

    What is different here: there are no classes. Officially a ray must also find the right class, and the mean is over classes
    too; with one class a true positive is easier and rare classes weigh no more than others, so this RayIoU is higher than a
    published one. And because rays that are free in the target do not count, something predicted in open sky costs nothing
    unless it hides what the target has: print voxel IoU beside it.

    >>> grid = VoxelGrid((0.0, 0.0, 0.0, 9.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    >>> wall, nearer = torch.zeros(2, *grid.shape, dtype=torch.bool)
    >>> wall[..., 7], nearer[..., 4] = True, True
    >>> score = RayScore()
    >>> score.update(nearer, wall, grid, (0.5, 0.5, 0.5), torch.tensor([[1.0, 0.0, 0.0]]))
    >>> score.compute().at
    {1.0: 0.0, 2.0: 0.0, 4.0: 1.0}
    """

    def __init__(self) -> None:
        self._rays, self._hits, self._true, self._l1, self._relative = 0, 0, [0] * len(THRESHOLDS), 0.0, 0.0

    def update(
        self,
        predicted: BoolTensor,
        target: BoolTensor,
        grid: VoxelGrid,
        origins: Tensor | Sequence[float] = (0.0, 0.0, 0.0),
        directions: Tensor | None = None,
    ) -> None:
        """Add a frame.

        Args:
            origins: where the rays begin. Officially up to 8 places of the LiDAR along the scene, inside the grid.
            directions: :func:`query_directions` by default.

        Shape:
            predicted, target: (Z, Y, X) bool. origins: (3,) or (O, 3) metres. directions: (R, 3); O x R rays are cast.

        Raises:
            OcclabError: another dtype or shape; places or directions that are not finite; a direction of length 0.
        """
        check_volume(predicted, grid, "the predicted occupancy")
        check_volume(target, grid, "the target occupancy")
        places = torch.as_tensor(origins, dtype=torch.float64, device=target.device)
        places = places[None] if places.ndim == 1 else places
        directions = query_directions() if directions is None else directions
        for place in places:
            true = first_hit(target, grid, place, directions, far_side=True)
            counted = true.isfinite()
            true = true[counted]
            guess = first_hit(predicted.to(target.device), grid, place, directions, far_side=True)[counted]
            hit = guess.isfinite()
            error = (guess[hit] - true[hit]).abs()
            self._rays += len(true)
            self._hits += len(error)
            self._true = [n + int((error < t).sum()) for n, t in zip(self._true, THRESHOLDS, strict=True)]
            self._l1 += float(error.sum())
            self._relative += float((error / true[hit]).sum())

    def compute(self) -> RayScores:
        ious = [true / max(1, self._rays + self._hits - true) for true in self._true]
        return RayScores(
            ray_iou=sum(ious) / len(ious),
            at=dict(zip(THRESHOLDS, ious, strict=True)),
            depth_l1=self._l1 / self._hits if self._hits else math.nan,
            abs_rel=self._relative / self._hits if self._hits else math.nan,
            found=self._hits / max(1, self._rays),
            rays=self._rays,
        )

"""Frames from made-up streets: LiDAR and cameras' depth of the same scene, the depth with a network's errors."""

from dataclasses import asdict, dataclass, field

import numpy as np

from ..errors import OcclabError
from ..grid import VoxelGrid
from .camera import Camera
from .depth_errors import DepthErrors, apply_errors, confidence
from .frame import Frame
from .sampling import density_aware
from .scene import Scene, SceneConfig, build_scene
from .sensors import LidarConfig, camera_rig, depth_maps, scan


@dataclass(frozen=True)
class StreetConfig:
    """Everything about a simulated frame but its seed."""

    grid: VoxelGrid = field(default_factory=VoxelGrid)
    """Pseudo points outside its range are dropped before sampling, as the pipeline does."""
    scene: SceneConfig = field(default_factory=SceneConfig)
    lidar: LidarConfig = field(default_factory=LidarConfig)
    errors: DepthErrors = field(default_factory=DepthErrors)
    stride: int = 6
    """Every how many pixels, down and across, depth is computed."""
    points: int = 40_000
    """Pseudo points kept."""

    def __post_init__(self) -> None:
        if self.stride < 1 or self.points < 1:
            raise OcclabError(f"StreetConfig expects stride and points of at least 1, got {self.stride} and {self.points}")


@dataclass(frozen=True)
class StreetParts:
    """Every stage between a seed and a frame, for looking at."""

    scene: Scene
    cameras: tuple[Camera, ...]
    clean: tuple[np.ndarray, ...]
    """A true depth map a camera, metres, infinity in the sky."""
    depth: tuple[np.ndarray, ...]
    """The same with errors."""
    confidence: tuple[np.ndarray, ...]
    """In [0, 1]."""
    unprojected: np.ndarray
    """(K, 4) float32: every pixel's point, x, y, z, confidence, before range filter and sampling."""
    pseudo: np.ndarray
    """(N, 4) float32: what is left after both."""
    lidar: np.ndarray
    """(M, 4) float32: x, y, z, intensity."""


def simulate_scene(seed: int, config: StreetConfig = StreetConfig()) -> Scene:
    """The street of a seed, without sensors."""
    return build_scene(_stream(seed, 0), config.scene)


def simulate_parts(seed: int, config: StreetConfig = StreetConfig()) -> StreetParts:
    """A frame with all that led to it.

    Scene, LiDAR, depth errors and sampling draw from streams of their own, so the same seed with other errors is the same
    street under the same LiDAR.

    Raises:
        OcclabError: Open3D is not installed, or the seed is no whole number of at least 0.
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise OcclabError(f"a street's seed must be a whole number of at least 0, got {seed!r}")
    scene = simulate_scene(seed, config)
    lidar = scan(scene, config.lidar, _stream(seed, 1))
    cameras = camera_rig()
    clean = depth_maps(scene, cameras, config.stride)
    depth = [apply_errors(d, config.errors, rng) for d, rng in zip(clean, _stream(seed, 2).spawn(len(cameras)), strict=True)]
    sure = [confidence(c, d) for c, d in zip(clean, depth, strict=True)]
    unprojected = np.concatenate([unproject(*view, config.stride) for view in zip(cameras, depth, sure, strict=True)])
    inside = unprojected[in_range(unprojected, config.grid)]
    pseudo = inside[density_aware(inside, config.points, _stream(seed, 3))]
    return StreetParts(scene, cameras, tuple(clean), tuple(depth), tuple(sure), unprojected, pseudo, lidar)


def simulate_frame(seed: int, config: StreetConfig = StreetConfig()) -> Frame:
    """One street, seen by LiDAR (the target) and by cameras whose depth is wrong in the ways of depth networks (the input).

    The same seed and config always give the same frame.

    Raises:
        OcclabError: Open3D is not installed, or the seed is no whole number of at least 0.

    >>> simulate_frame(7).name  # doctest: +SKIP
    'street-000007'
    """
    parts = simulate_parts(seed, config)
    return Frame(parts.pseudo, parts.lidar, f"street-{seed:06d}", {"kind": "street", "seed": int(seed), **asdict(config)})


def unproject(camera: Camera, depth: np.ndarray, sure: np.ndarray, stride: int) -> np.ndarray:
    """A depth map as points in the LiDAR's frame; pixels of infinite depth give none.

    Shape:
        depth, sure: (rows, columns), the pixels of ``camera.rays(stride)``.
        returns: (N, 4) float32: x, y, z, confidence.
    """
    origin, direction = camera.rays(stride)
    known = np.isfinite(depth)
    xyz = origin + depth[known][:, None] * direction[known]
    return np.column_stack([xyz, sure[known]]).astype(np.float32)


def in_range(points: np.ndarray, grid: VoxelGrid) -> np.ndarray:
    """(N,) bool: points strictly inside the grid's box, as mmdetection3d's PointsRangeFilter has it."""
    low, high = np.asarray(grid.point_cloud_range[:3]), np.asarray(grid.point_cloud_range[3:])
    return ((points[:, :3] > low) & (points[:, :3] < high)).all(axis=1)


def _stream(seed: int, part: int) -> np.random.Generator:
    return np.random.default_rng([seed, part])

"""What a spinning LiDAR and a ring of cameras measure in a scene, by ray casting (Open3D's port of Embree)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from ..errors import OcclabError, require
from .camera import Camera
from .meshes import Mesh, box, merge
from .scene import Scene


@dataclass(frozen=True)
class LidarConfig:
    """A Velodyne HDL-32E as on the nuScenes car (nuScenes, arXiv 1903.11027): 32 beams, 20 turns a second."""

    beams: int = 32
    lowest: float = -30.67
    """Elevation of the lowest beam, degrees."""
    highest: float = 10.67
    azimuths: int = 1084
    """Pulses of each beam a turn."""
    rate: float = 20.0
    """Turns (sweeps) a second."""
    sweeps: int = 10
    """Sweeps put together, each moved into the frame of the last by the car's own motion, as mmdetection3d loads nuScenes."""
    noise: float = 0.02
    """Standard deviation of a range, metres."""
    dropout: float = 0.01
    """Share of the pulses lost for no reason."""
    sensitivity: float = 450.0
    """Range, metres, at which a white surface square to the beam sends back 63 % of the pulses; sets how soon asphalt, dark and
    seen at a flat angle, is lost."""
    max_range: float = 100.0
    own_car: bool = True
    """Keep the returns from the car's own roof. nuScenes keeps them (about 4,000 points a sweep). Without: they are dropped."""

    def __post_init__(self) -> None:
        if min(self.beams, self.azimuths, self.sweeps) < 1 or not self.lowest <= self.highest:
            raise OcclabError(
                f"LidarConfig expects beams, azimuths and sweeps of at least 1 and lowest <= highest, got {self.beams}, "
                f"{self.azimuths}, {self.sweeps}, {self.lowest} and {self.highest}"
            )


@dataclass(frozen=True)
class Hits:
    """Where rays end. A ray that meets nothing has an infinite distance."""

    distance: np.ndarray
    """(N,) float32, in lengths of the ray's direction."""
    kind: np.ndarray
    """(N,) uint8, number into ``meshes.KINDS``; meaningless where the distance is infinite."""
    reflectivity: np.ndarray
    """(N,) float32."""
    cosine: np.ndarray
    """(N,) float32: cosine of the angle between ray and surface normal, 1 where the ray strikes squarely."""


class RayTarget:
    """A mesh that rays can be cast at.

    Raises:
        OcclabError: Open3D is not installed.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._o3d = require("open3d", package="open3d")
        self._mesh = mesh
        self._scene: Any = self._o3d.t.geometry.RaycastingScene()
        if len(mesh.triangles):
            self._scene.add_triangles(
                self._o3d.core.Tensor.from_numpy(np.ascontiguousarray(mesh.vertices)),
                self._o3d.core.Tensor.from_numpy(np.ascontiguousarray(mesh.triangles)),
            )

    def cast(self, origin: np.ndarray, direction: np.ndarray) -> Hits:
        """The nearest surface along each ray.

        Shape:
            origin: (3,), direction: (N, 3), in the mesh's frame, metres.
        """
        n = len(direction)
        if len(self._mesh.triangles) == 0:
            return Hits(np.full(n, np.inf, np.float32), np.zeros(n, np.uint8), np.zeros(n, np.float32), np.ones(n, np.float32))
        rays = np.empty((n, 6), np.float32)
        rays[:, :3], rays[:, 3:] = origin, direction
        found = self._scene.cast_rays(self._o3d.core.Tensor.from_numpy(rays))
        distance = found["t_hit"].numpy()
        met = np.isfinite(distance)
        triangle = np.where(met, found["primitive_ids"].numpy(), 0)
        along = np.einsum("ij,ij->i", found["primitive_normals"].numpy(), rays[:, 3:])
        cosine = np.abs(along) / np.linalg.norm(rays[:, 3:], axis=1)
        return Hits(
            distance, self._mesh.kind[triangle], self._mesh.reflectivity[triangle], np.where(met, cosine, 1).astype(np.float32)
        )


def nearest(*hits: Hits) -> Hits:
    """The same rays cast at several targets: for each the nearest surface."""
    first = np.argmin([h.distance for h in hits], axis=0)[None]

    def pick(name: str) -> np.ndarray:
        return np.take_along_axis(np.stack([getattr(h, name) for h in hits]), first, axis=0)[0]

    return Hits(pick("distance"), pick("kind"), pick("reflectivity"), pick("cosine"))


def own_car() -> Mesh:
    """The car under the LiDAR (a Renault Zoe, 4.08 x 1.73 x 1.56 m; the LiDAR stands over the front seats)."""
    body = box((4.0, 1.7, 0.6), "car", 0.3, centre=(-0.4, 0), base=-1.5)
    cabin = box((2.4, 1.5, 0.55), "car", 0.15, centre=(-0.5, 0), base=-0.9, top=(1.7, 1.15))
    return merge([body, cabin])


def lidar_directions(config: LidarConfig, phase: float = 0.0) -> np.ndarray:
    """Unit vectors of one turn, beam by beam.

    Args:
        phase: where between two pulses the turn begins, in [0, 1).

    Shape:
        returns: (beams * azimuths, 3) float64 in the LiDAR's frame.
    """
    elevation = np.radians(np.linspace(config.lowest, config.highest, config.beams))[:, None]
    azimuth = 2 * np.pi * (np.arange(config.azimuths) + phase)[None] / config.azimuths
    x, y = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth)
    return np.stack(np.broadcast_arrays(x, y, np.sin(elevation)), axis=-1).reshape(-1, 3)


def received(hits: Hits, config: LidarConfig) -> np.ndarray:
    """Chance that a pulse comes back, from the LiDAR equation: reflectivity x cosine / range^2, saturating.

    Shape:
        returns: (N,) in [0, 1 - dropout].
    """
    with np.errstate(divide="ignore"):
        signal = hits.reflectivity * hits.cosine * (config.sensitivity / hits.distance) ** 2
    chance = -np.expm1(-signal) * (1 - config.dropout)
    return np.where(hits.distance <= config.max_range, chance, 0.0)


def scan(scene: Scene, config: LidarConfig, rng: Generator) -> np.ndarray:
    """Sweeps of the LiDAR up to the key moment, all in the LiDAR's frame at that moment.

    Each sweep is cast from where the car was, at the street as it was then. What stood still comes to lie on itself;
    what moved is smeared over half a second, as in nuScenes.

    Shape:
        returns: (N, 4) float32: x, y, z in metres, intensity in [0, 1].
    """
    static = RayTarget(scene.static)
    car = RayTarget(own_car())
    clouds = []
    for sweep in range(config.sweeps):
        time = -sweep / config.rate
        pose = scene.lidar_pose(time)
        directions = lidar_directions(config, phase=rng.random())
        turned = directions @ pose[:3, :3].T
        moving = RayTarget(merge([mover.at(time) for mover in scene.movers]))
        hits = nearest(static.cast(pose[:3, 3], turned), moving.cast(pose[:3, 3], turned))
        own = car.cast(np.zeros(3), directions)
        is_own = own.distance < hits.distance
        hits = nearest(hits, own)
        returned = rng.random(len(directions)) < received(hits, config)
        if not config.own_car:
            returned &= ~is_own
        distance = hits.distance[returned] + config.noise * rng.standard_normal(returned.sum())
        xyz = (directions[returned] * distance[:, None]) @ pose[:3, :3].T + pose[:3, 3]
        bright = hits.reflectivity[returned] * (0.4 + 0.6 * hits.cosine[returned]) * rng.normal(1, 0.1, returned.sum())
        clouds.append(np.column_stack([xyz, np.clip(bright, 0, 1)]).astype(np.float32))
    return np.concatenate(clouds)


# Yaw and field of view as in nuScenes (arXiv 1903.11027, figure 4), degrees; places relative to the LiDAR, metres, rounded.
_RIG = (
    ("CAM_FRONT", 0.0, 70.0, (0.75, 0.0, -0.33)),
    ("CAM_FRONT_RIGHT", -55.0, 70.0, (0.6, -0.5, -0.33)),
    ("CAM_FRONT_LEFT", 55.0, 70.0, (0.6, 0.5, -0.33)),
    ("CAM_BACK", 180.0, 110.0, (-0.9, 0.0, -0.27)),
    ("CAM_BACK_LEFT", 110.0, 70.0, (0.1, 0.5, -0.27)),
    ("CAM_BACK_RIGHT", -110.0, 70.0, (0.1, -0.5, -0.27)),
)


def camera_rig() -> tuple[Camera, ...]:
    """Six cameras of 1600 x 900 pixels round the car, together seeing all around, as on the nuScenes car."""
    width, height, cameras = 1600, 900, []
    for name, yaw, fov, place in _RIG:
        focal = width / 2 / np.tan(np.radians(fov) / 2)
        c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
        rotation = np.array([[s, -c, 0], [0, 0, -1], [c, s, 0]])  # rows: the camera's right, down and forward
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, -rotation @ place
        intrinsics = ((focal, 0, (width - 1) / 2), (0, focal, (height - 1) / 2), (0, 0, 1))
        cameras.append(Camera(name, width, height, intrinsics, tuple(map(tuple, pose))))
    return tuple(cameras)


def depth_maps(scene: Scene, cameras: Sequence[Camera], stride: int = 8) -> list[np.ndarray]:
    """Depth along the view of every ``stride``-th pixel at the key moment: what a perfect depth network would say.

    Shape:
        returns: one (rows, columns) float32 a camera, metres, infinity in the sky; pixels as in ``Camera.rays``.
    """
    target = RayTarget(merge([scene.static, *(mover.mesh for mover in scene.movers)]))
    maps = []
    for camera in cameras:
        origin, direction = camera.rays(stride)
        maps.append(target.cast(origin, direction.reshape(-1, 3)).distance.reshape(direction.shape[:2]))
    return maps

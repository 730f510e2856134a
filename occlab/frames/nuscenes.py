"""nuScenes v1.0: LiDAR sweeps with cameras and boxes, in occlab's frame.

Sweeps are ``samples/LIDAR_TOP/*.pcd.bin`` (no PCD header): (N, 5) float32 x, y, z, intensity 0 to 255, ring, in the LiDAR's
own axes x right, y forward, z up. They are turned by 90 degrees to x forward, y left, z up, and so are the boxes and the
cameras. Every sensor fires at another moment and has an ego pose of its own: anything passes from one sensor to another
through the global frame and both poses. With one pose for all sensors the cameras are off by up to 0.40 m (measured on one
key frame). nuScenes' ego poses have z = 0 always, so accumulated sweeps do not line up on a ramp.

Format: Caesar et al., "nuScenes", CVPR 2020; tables in :mod:`.nuscenes_tables`.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OcclabError
from .camera import Camera
from .nuscenes_tables import FIELDS, NuscenesTables, Record, index_tables, read_tables
from .sweep import Box, Sweep, read_sweep

LIDAR = "LIDAR_TOP"
OWN_CAR = (-1.7, 2.6, -1.0, 1.0)
"""x low, x high, y low, y high around the LiDAR, metres: where the returns of the own car lie.

A Renault Zoe is 4.08 m long and 1.95 m wide with its mirrors, and carries the LiDAR 0.94 m before its rear axle. On the one
real key frame at hand this takes 8,526 of 34,688 points, all there are within 2 m, and none of the road, which begins at
3.0 m. (The devkit's ``remove_close``, 1 m along x and y, takes 8,274 of them and leaves the bonnet.)"""
FROM_NUSCENES = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
"""LiDAR coordinates as nuScenes has them (x right, y forward) to occlab's (x forward, y left)."""


def nuscenes_sweeps(
    root: str | Path,
    *,
    version: str | None = None,
    scenes: Sequence[str] | None = None,
    sweeps: int = 1,
    remove_own_car: bool = True,
    limit: int | None = None,
) -> Iterator[Sweep]:
    """The key frames of a nuScenes v1.0 data set, scene by scene, in the order of time. Needs no devkit.

    Args:
        root: the folder that holds ``v1.0-*`` and ``samples``, the one that holds it as ``nuscenes``, or ``v1.0-*`` itself.
        version: e.g. ``v1.0-mini``; needed only where there are several.
        scenes: names or tokens; all by default.
        sweeps: as :func:`nuscenes_sweep`.
        remove_own_car: as :func:`nuscenes_sweep`.
        limit: at most so many in all.

    Raises:
        OcclabError: a table or a file is missing or broken; the sentence names it.
    """
    yield from _sweeps(read_tables(root, version), scenes, sweeps, remove_own_car, limit)


def from_devkit(
    nusc: Any,
    *,
    scenes: Sequence[str] | None = None,
    sweeps: int = 1,
    remove_own_car: bool = True,
    limit: int | None = None,
) -> Iterator[Sweep]:
    """The same from a data set that ``nuscenes.nuscenes.NuScenes`` of nuscenes-devkit has loaded: its tables are used.

    Args:
        nusc: the loaded object, or any with ``dataroot``, ``version`` and the tables as attributes.

    Raises:
        OcclabError: as :func:`nuscenes_sweeps`, or the object is of another kind.
    """
    missing = [name for name in ("dataroot", "version", *FIELDS) if not hasattr(nusc, name)]
    if missing:
        raise OcclabError(f"from_devkit expects a loaded NuScenes object, got a {type(nusc).__name__} without {missing[0]}")
    tables = index_tables(Path(nusc.dataroot), nusc.version, {table: getattr(nusc, table) for table in FIELDS})
    yield from _sweeps(tables, scenes, sweeps, remove_own_car, limit)


def _sweeps(
    tables: NuscenesTables, scenes: Sequence[str] | None, sweeps: int, remove_own_car: bool, limit: int | None
) -> Iterator[Sweep]:
    for token in islice(tables.samples(scenes), limit):
        yield nuscenes_sweep(tables, token, sweeps=sweeps, remove_own_car=remove_own_car)


def nuscenes_sweep(tables: NuscenesTables, sample_token: str, *, sweeps: int = 1, remove_own_car: bool = True) -> Sweep:
    """One key frame.

    Args:
        tables: from :func:`.nuscenes_tables.read_tables`.
        sample_token: which sample.
        sweeps: LiDAR sweeps to put together, the key frame's and those before it (fewer where the scene begins). Each goes
            to the global frame through its own calibration and ego pose, and from there to the key frame's LiDAR.
            Moving objects leave a trail.
        remove_own_car: leave out what lies in :data:`OWN_CAR`, of each sweep before it is moved.

    Returns:
        All ``CAM_*`` of the sample as cameras, in the order of their names, with their images (none where the data set came
        without images), and its annotations as boxes. ``source`` counts the sweeps and the points taken out.

    Raises:
        OcclabError: no such sample; a file is missing or broken; the sentence names it.
    """
    if type(sweeps) is not int or sweeps < 1:
        raise OcclabError(f"sweeps must be a whole number from 1, the key frame's own included, got {sweeps!r}")
    sample = tables.get("sample", sample_token)
    key = tables.key_frames[sample_token].get(LIDAR)
    if key is None:
        raise OcclabError(f"{tables.file('sample_data')}: expected a key frame of {LIDAR} of sample {sample_token}, found none")
    from_global = FROM_NUSCENES @ np.linalg.inv(_to_global(tables, key))  # to the key frame's LiDAR, in occlab's axes
    to_global = np.linalg.inv(from_global)
    clouds, removed = [], 0
    for record in _with_earlier(tables, key, sweeps):
        points, own = _read_points(tables.root / record["filename"])
        removed += int(own.sum()) if remove_own_car else 0
        points = points[~own] if remove_own_car else points
        if record is not key:
            points = _moved(points, from_global @ _to_global(tables, record) @ FROM_NUSCENES.T)
        clouds.append(points)
    cameras, images = _cameras(tables, tables.key_frames[sample_token], to_global)
    scene = tables.records["scene"][sample["scene_token"]]
    log = tables.records["log"][scene["log_token"]]
    name = f"nuscenes-{log['vehicle']}-{log['date_captured']}-{key['timestamp']}"
    return Sweep(
        np.concatenate(clouds),
        re.sub(r"[^\w.-]+", "_", name),  # fit for a file name
        {
            "data_set": "nuScenes",
            "version": tables.version,
            "scene": scene["name"],
            "sample": sample_token,
            "sweeps": len(clouds),
            "own_car_points": removed,
        },
        cameras,
        images,
        tuple(_box(tables, annotation, from_global) for annotation in tables.annotations.get(sample_token, [])),
    )


def _rotation(quaternion: Sequence[float]) -> np.ndarray:
    """w, x, y, z -> 3 x 3."""
    w, x, y, z = np.asarray(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _pose(record: Record) -> np.ndarray:
    """4 x 4 of a record with rotation and translation."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = _rotation(record["rotation"]), record["translation"]
    return pose


def _to_global(tables: NuscenesTables, sample_data: Record) -> np.ndarray:
    """4 x 4: a sensor's own coordinates, as nuScenes has them, to global ones, by its calibration and its own ego pose."""
    ego = tables.records["ego_pose"][sample_data["ego_pose_token"]]
    return _pose(ego) @ _pose(tables.records["calibrated_sensor"][sample_data["calibrated_sensor_token"]])


def _with_earlier(tables: NuscenesTables, key: Record, count: int) -> Iterator[Record]:
    """The key frame's record of sample_data, then up to ``count - 1`` earlier ones, the latest first."""
    record = key
    yield record
    for _ in range(count - 1):
        if not record["prev"]:
            return
        earlier = tables.records["sample_data"][record["prev"]]
        if tables.channel(earlier) != LIDAR or earlier["timestamp"] >= record["timestamp"]:
            raise OcclabError(
                f"{tables.file('sample_data')}: record {record['token']}: prev: expected a sweep of {LIDAR} before "
                f"{record['timestamp']}, got one of {tables.channel(earlier)} at {earlier['timestamp']}"
            )
        record = earlier
        yield record


def _read_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) float32 in occlab's axes, intensity in [0, 1], and (N,) bool: is it the own car?"""
    x, y, z, intensity, _ = read_sweep(path, 5).T
    if not (intensity.min() >= 0 and intensity.max() <= 255):
        raise OcclabError(f"{path}: expected intensity in [0, 255], got {intensity.min():g} to {intensity.max():g}")
    points = np.column_stack([y, -x, z, intensity / 255])
    x_low, x_high, y_low, y_high = OWN_CAR
    own = (points[:, 0] > x_low) & (points[:, 0] < x_high) & (points[:, 1] > y_low) & (points[:, 1] < y_high)
    if own.all():
        raise OcclabError(f"{path}: expected a LiDAR sweep, but all {len(own)} points lie where the own car is")
    return points, own


def _moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    xyz = points[:, :3] @ matrix[:3, :3].T + matrix[:3, 3]
    return np.column_stack([xyz, points[:, 3]]).astype(np.float32)


def _cameras(
    tables: NuscenesTables, key_frames: dict[str, Record], to_global: np.ndarray
) -> tuple[tuple[Camera, ...], tuple[Path, ...]]:
    """Cameras placed relative to the LiDAR, and their images.

    Args:
        to_global: 4 x 4, the LiDAR's coordinates in occlab's axes to global ones.
    """
    cameras, images = [], []
    for channel in sorted(name for name in key_frames if name.startswith("CAM_")):
        record = key_frames[channel]
        calibration = tables.records["calibrated_sensor"][record["calibrated_sensor_token"]]
        sides = record.get("width"), record.get("height")
        if not all(type(side) is int and side > 0 for side in sides):
            raise OcclabError(
                f"{tables.file('sample_data')}: record {record['token']}: expected the width and height of an image of "
                f"{channel}, got {sides[0]!r} and {sides[1]!r}"
            )
        if not calibration["camera_intrinsic"]:
            raise OcclabError(
                f"{tables.file('calibrated_sensor')}: record {calibration['token']}: camera_intrinsic: expected 3 x 3 numbers "
                f"for {channel}, got []"
            )
        matrix = np.linalg.inv(_to_global(tables, record)) @ to_global
        cameras.append(Camera(channel, *sides, calibration["camera_intrinsic"], matrix))
        images.append(tables.root / record["filename"])
    absent = [path for path in images if not path.is_file()]
    if absent and len(absent) < len(images):  # none at all: the data set was fetched without its images
        raise OcclabError(f"{absent[0]}: expected the image that sample_data.json names, but there is no such file")
    return tuple(cameras), () if absent else tuple(images)


def _box(tables: NuscenesTables, annotation: Record, from_global: np.ndarray) -> Box:
    width, length, height = annotation["size"]
    pose = from_global @ _pose(annotation)
    instance = tables.records["instance"][annotation["instance_token"]]
    return Box(
        tuple(pose[:3, 3].tolist()),
        (length, width, height),
        tuple(map(tuple, pose[:3, :3].tolist())),
        tables.records["category"][instance["category_token"]]["name"],
        annotation["num_lidar_pts"],
    )

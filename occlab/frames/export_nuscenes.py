"""Simulated frames as a nuScenes v1.0 data set, as nuscenes-devkit opens and draws it.

Layout: ``ROOT/v1.0-mini/*.json``, the 13 tables; ``samples/LIDAR_TOP/*.pcd.bin`` and ``sweeps/LIDAR_TOP/*.pcd.bin``, float32
(N, 5) x, y, z, intensity (whole numbers to 255), ring; ``samples/CAM_*/*.jpg``, 1600 x 900; ``maps/*.png``, 0.1 m a pixel.
Each frame is a scene of one sample, in a log and on a map of its own; the LiDAR's earlier turns are its sweeps.

Frames of reference, all metres: LIDAR_TOP x right, y forward, z up; ego x forward, y left, z up, on the ground under the rear
axle; global with the ego at the middle of the map, turned by a heading drawn from the seed. All sensors of a sample fire at
one moment. As in nuScenes the ego pose has z = 0: on a slope the sweeps do not quite line up.
Format: Caesar et al., "nuScenes", CVPR 2020, and schema_nuscenes.md of nuscenes-devkit.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..errors import OcclabError, require
from .camera import Camera
from .frame import Frame
from .meshes import KINDS, Mesh, merge
from .nuscenes import FROM_NUSCENES
from .scene import END, LIDAR_HEIGHT, Road
from .sensors import RayTarget, camera_rig
from .simulate import _stream
from .street_truth import Street, street_of, write_folder

EGO_FROM_LIDAR = np.array([[1.0, 0, 0, 0.9437], [0, 1, 0, 0], [0, 0, 1, LIDAR_HEIGHT], [0, 0, 0, 1]])
"""Occlab's LiDAR coordinates to nuScenes' ego ones: same axes, origin 0.94 m behind and 1.84 m below, as on the real car."""
_MAP = 256.0  # metres along each side of a map
_START = 1_600_000_000_000_000  # microseconds: the first frame's time, a day in 2020
_COLOURS = {
    "road": (96, 96, 100),
    "pavement": (150, 145, 140),
    "terrain": (110, 130, 80),
    "building": (170, 140, 120),
    "barrier": (140, 120, 100),
    "car": (70, 100, 170),
    "person": (210, 120, 60),
    "pole": (120, 120, 130),
    "trunk": (100, 75, 50),
    "foliage": (80, 120, 60),
}
_SKY = np.array([190.0, 215.0, 240.0])
_ATTRIBUTES = ("vehicle.moving", "vehicle.parked", "pedestrian.moving", "pedestrian.standing")
_CATEGORIES = ("vehicle.car", "vehicle.bus.rigid", "human.pedestrian.adult")
_VISIBILITY = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}
Tables = dict[str, list[dict[str, Any]]]


def export_nuscenes(frames: Sequence[Frame], root: str | Path, *, version: str = "v1.0-mini", stride: int = 5) -> None:
    """Write simulated frames as a nuScenes v1.0 data set. The same frames always give the same bytes.

    Sweeps, pictures and boxes are drawn again from the frames' seeds; pseudo points are not written. Vehicles and people with
    at least one point in the key sweep become annotations, 5 cm larger than they are on every side but the lower one. Their
    visibility is the share of their pixels that nothing hides.

    Args:
        frames: from ``simulate_frame`` or ``streets``.
        root: a new or empty folder, or this very export.
        version: name of the folder of the tables.
        stride: every how many pixels, across and down, a camera's ray is cast; the pictures are enlarged to 1600 x 900.

    Raises:
        OcclabError: no frames, two of one name, one that is not from this release's simulator; a root with other content;
            Open3D or OpenCV is not installed.
    """
    names = [frame.name for frame in frames]
    if not names or len(set(names)) != len(names):
        raise OcclabError(f"export expects one frame or more, each of another name, got {', '.join(names) or 'none'}")
    if stride < 1 or Path(version).name != version or version in (".", "..", "maps", "samples", "sweeps"):
        raise OcclabError(f"export expects stride >= 1 and a version such as v1.0-mini, got {stride!r} and {version!r}")
    write_folder(root, (version, "maps", "samples", "sweeps"), lambda folder: _write(frames, folder, version, stride))


def _write(frames: Sequence[Frame], folder: Path, version: str, stride: int) -> None:
    tables = _shared_tables()
    for i, frame in enumerate(frames):
        _Exporter(frame, street_of(frame), _START + i * 60_000_000, folder, tables).write(stride)
    (folder / version).mkdir()
    for name, rows in tables.items():
        (folder / version / f"{name}.json").write_text(json.dumps(rows, indent=0, allow_nan=False) + "\n")


def token(*parts: object) -> str:
    """32 hex digits that depend on the parts alone."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]


def _pose(matrix: np.ndarray) -> dict[str, list[float]]:
    """4 x 4 -> translation and rotation (quaternion w x y z)."""
    quaternion = Rotation.from_matrix(matrix[:3, :3]).as_quat(canonical=True, scalar_first=True)
    return {"translation": matrix[:3, 3].tolist(), "rotation": quaternion.tolist()}


def _shared_tables() -> Tables:
    """What does not depend on the frames, and empty lists for what does."""
    names = "attribute calibrated_sensor category ego_pose instance log map sample sample_annotation sample_data scene sensor"
    tables: Tables = {name: [] for name in [*names.split(), "visibility"]}
    tables["attribute"] = [{"token": token("attribute", name), "name": name, "description": ""} for name in _ATTRIBUTES]
    tables["category"] = [{"token": token("category", name), "name": name, "description": ""} for name in _CATEGORIES]
    tables["visibility"] = [
        {"token": number, "level": level, "description": f"visibility of whole object is {level[1:]} %"}
        for number, level in _VISIBILITY.items()
    ]
    places = [("LIDAR_TOP", "lidar", EGO_FROM_LIDAR @ FROM_NUSCENES, [])]
    for camera in camera_rig():
        ego_from_camera = EGO_FROM_LIDAR @ np.linalg.inv(camera.lidar_to_camera)
        places.append((camera.name, "camera", ego_from_camera, [list(row) for row in camera.intrinsics]))
    for channel, modality, place, intrinsic in places:
        tables["sensor"].append({"token": token("sensor", channel), "channel": channel, "modality": modality})
        links = {"token": token("calibrated_sensor", channel), "sensor_token": token("sensor", channel)}
        tables["calibrated_sensor"].append({**links, **_pose(place), "camera_intrinsic": intrinsic})
    return tables


class _Exporter:
    """One frame on its way into the data set: a scene of one sample."""

    def __init__(self, frame: Frame, street: Street, start: int, folder: Path, tables: Tables) -> None:
        self.name, self.street, self.start, self.folder, self.tables = frame.name, street, start, folder, tables
        heading = _stream(frame.source["seed"], 5).uniform(-np.pi, np.pi)
        self.global_from_key = np.eye(4)
        self.global_from_key[:3, :3] = Rotation.from_euler("z", heading).as_matrix()
        self.global_from_key[:2, 3] = _MAP / 2

    def write(self, stride: int) -> None:
        """All files of the frame, and its records."""
        named = {name: token(name, self.name) for name in ("log", "map", "scene", "sample")}
        key = {"prev": "", "next": ""}
        log = {"logfile": self.name, "vehicle": "occlab", "date_captured": "2020-09-13", "location": self.name}
        self._add("log", named["log"], **log)
        map_file = f"maps/{named['map']}.png"
        self._add("map", named["map"], category="semantic_prior", filename=map_file, log_tokens=[named["log"]])
        ends = {"first_sample_token": named["sample"], "last_sample_token": named["sample"], "nbr_samples": 1}
        self._add("scene", named["scene"], log_token=named["log"], name=self.name, description="a simulated street", **ends)
        self._add("sample", named["sample"], timestamp=self.start, scene_token=named["scene"], **key)
        self._image(map_file, road_mask(self.street.scene.road, self._to_global(0.0) @ EGO_FROM_LIDAR))
        self._sweeps(named["sample"])
        depths = []
        for camera, picture, depth in pictures(self.street, stride):
            file = f"samples/{camera.name}/{self.name}__{camera.name}__{self.start}.jpg"
            self._image(file, picture)
            self._sensor_data(named["sample"], camera.name, 0.0, file, height=camera.height, width=camera.width, **key)
            depths.append((camera, depth))
        self._annotations(named["sample"], depths, stride)

    def _add(self, table: str, key: str, **values: object) -> None:
        self.tables[table].append({"token": key, **values})

    def _to_global(self, time: float) -> np.ndarray:
        """4 x 4: ego at ``time`` seconds -> global, with nuScenes' z = 0."""
        matrix = self.global_from_key @ EGO_FROM_LIDAR @ self.street.scene.lidar_pose(time) @ np.linalg.inv(EGO_FROM_LIDAR)
        matrix[2, 3] = 0.0
        return matrix

    def _image(self, file: str, pixels: np.ndarray) -> None:
        cv2 = require("cv2", package="opencv-python-headless")
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix, pixels if pixels.ndim == 2 else pixels[..., ::-1])[1].tobytes())

    def _sensor_data(self, sample: str, channel: str, time: float, file: str, **values: object) -> None:
        """A record of sample_data, and the ego pose of its moment."""
        stamp = self.start + round(time * 1e6)
        own = token("sample_data", self.name, channel, stamp)
        self._add("ego_pose", own, timestamp=stamp, **_pose(self._to_global(time)))
        links = {"sample_token": sample, "ego_pose_token": own, "calibrated_sensor_token": token("calibrated_sensor", channel)}
        kind = {"fileformat": file.split(".")[1], "is_key_frame": file.startswith("samples"), "filename": file}
        self._add("sample_data", own, **links, timestamp=stamp, **kind, **values)

    def _sweeps(self, sample: str) -> None:
        times = [sweep.time for sweep in self.street.sweeps]  # the key one first, backwards in time
        tokens = ["", *(token("sample_data", self.name, "LIDAR_TOP", self.start + round(t * 1e6)) for t in times), ""]
        for i, sweep in enumerate(self.street.sweeps):
            stamp = self.start + round(sweep.time * 1e6)
            file = f"{'sweeps' if i else 'samples'}/LIDAR_TOP/{self.name}__LIDAR_TOP__{stamp}.pcd.bin"
            x, y, z, intensity = sweep.own.T
            rows = np.column_stack([-y, x, z, np.round(intensity * 255), sweep.ring]).astype("<f4")
            path = self.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(rows.tobytes())
            sides = {"height": 0, "width": 0, "prev": tokens[i + 2], "next": tokens[i]}
            self._sensor_data(sample, "LIDAR_TOP", sweep.time, file, **sides)

    def _annotations(self, sample: str, depths: list[tuple[Camera, np.ndarray]], stride: int) -> None:
        for i, (box, mesh, speed) in enumerate(self.street.objects(self.street.sweeps[0].points)):
            if not box.n_points:
                continue
            own, instance = token("annotation", self.name, i), token("instance", self.name, i)
            ends = {"first_annotation_token": own, "last_annotation_token": own, "nbr_annotations": 1}
            self._add("instance", instance, category_token=token("category", box.category), **ends)
            place = np.eye(4)
            place[:3, :3], place[:3, 3] = box.rotation, box.centre
            who, still = ("pedestrian", "standing") if box.category.startswith("human") else ("vehicle", "parked")
            self._add(
                "sample_annotation",
                own,
                sample_token=sample,
                instance_token=instance,
                visibility_token=_level(visible_share(mesh, depths, stride)),
                attribute_tokens=[token("attribute", f"{who}.{'moving' if speed else still}")],
                **_pose(self._to_global(0.0) @ EGO_FROM_LIDAR @ place),
                size=[box.size[1], box.size[0], box.size[2]],
                prev="",
                next="",
                num_lidar_pts=box.n_points,
                num_radar_pts=0,
            )


def _level(share: float) -> str:
    """Token of nuScenes' four levels of visibility."""
    return str(1 + sum(share >= edge for edge in (0.4, 0.6, 0.8)))


def road_mask(road: Road, global_from_lidar: np.ndarray) -> np.ndarray:
    """nuScenes' semantic prior: where cars or people go.

    Shape:
        returns: (2560, 2560) uint8, 255 on road and pavement, 0 elsewhere; 0.1 m a pixel, drawn at 0.4 m; row 0 at the
        largest global y.
    """
    step = 0.4
    middle = np.arange(step / 2, _MAP, step)
    there = np.stack([*np.meshgrid(middle, middle[::-1]), np.zeros((len(middle),) * 2), np.ones((len(middle),) * 2)], axis=-1)
    x, y, _, _ = np.moveaxis(there @ np.linalg.inv(global_from_lidar).T, -1, 0)
    # The inverse of Road.at: places as polar coordinates about the centre of the bend.
    k = road.curvature
    forward, left = k * x, 1 - k * (y + road.own_t)
    s, t = np.arctan2(forward, left) / k, (1 - np.hypot(forward, left)) / k
    paved = ((np.abs(t) < road.half_width + road.pavement) | road.in_side_road(s, t)) & (np.abs(s) < END)
    return np.repeat(np.repeat(np.where(paved, 255, 0).astype(np.uint8), 4, axis=0), 4, axis=1)


def pictures(street: Street, stride: int) -> list[tuple[Camera, np.ndarray, np.ndarray]]:
    """What the cameras see at the key moment.

    Shape:
        returns: for each camera of the rig itself, its picture (900, 1600, 3) uint8 RGB, and the depth of every
        ``stride``-th pixel (rows, columns) float32, as in ``Camera.rays``, infinite in the sky.
    """
    cv2 = require("cv2", package="opencv-python-headless")
    target = RayTarget(merge([street.scene.static, *(mover.mesh for mover in street.scene.movers)]))
    colours = np.array([_COLOURS[kind] for kind in KINDS], dtype=float)
    seen = []
    for camera in camera_rig():
        origin, direction = camera.rays(stride)
        hits = target.cast(origin, direction.reshape(-1, 3))
        light = (0.5 + 0.5 * hits.cosine) * (0.8 + 0.4 * hits.reflectivity)
        haze = np.exp(-hits.distance / 120)[:, None]  # 0 in the sky, which is infinitely far
        shaded = colours[hits.kind] * light[:, None] * haze + _SKY * (1 - haze)
        small = np.clip(np.round(shaded), 0, 255).astype(np.uint8).reshape(*direction.shape)
        picture = cv2.resize(small, (camera.width, camera.height), interpolation=cv2.INTER_LINEAR)
        seen.append((camera, picture, hits.distance.reshape(direction.shape[:2])))
    return seen


def visible_share(mesh: Mesh, depths: list[tuple[Camera, np.ndarray]], stride: int) -> float:
    """Share of the rays which would meet an object alone that meet it in its street too; 0 where no camera points at it."""
    alone = visible = 0
    target = RayTarget(mesh)
    for camera, depth in depths:
        pixels, ahead = camera.project(mesh.vertices.astype(np.float64))
        if not (ahead > 0.1).any():
            continue
        origin, direction = camera.rays(stride)
        rows, columns = slice(None), slice(None)
        if (ahead > 0.1).all():  # else it reaches behind the camera and has no outline in the picture
            low, high = np.floor(pixels.min(axis=0) / stride).astype(int), np.ceil(pixels.max(axis=0) / stride).astype(int)
            columns, rows = (slice(max(a - 1, 0), max(b + 1, 0)) for a, b in zip(low, high, strict=True))
        rays = direction[rows, columns].reshape(-1, 3)
        own = target.cast(origin, rays).distance if len(rays) else np.zeros(0)
        alone += int(np.isfinite(own).sum())
        visible += int((np.isfinite(own) & (depth[rows, columns].ravel() > own - 0.01)).sum())
    return visible / alone if alone else 0.0

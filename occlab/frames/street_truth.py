"""What the simulator knows of a frame and a cloud does not show: sweeps one by one, what each point hit, cars and people.

Nothing of it is stored with a frame. It is drawn again from the seed and the settings in ``frame.source``, which always
give the same street.
"""

import filecmp
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import OcclabError
from . import scene as scenes
from .frame import Frame
from .meshes import KINDS, Mesh, merge
from .scene import Mover, Scene, SceneConfig, build_scene
from .sensors import LidarConfig, RayTarget, nearest, own_car, scan
from .simulate import _stream
from .store import REACH
from .sweep import Box

NOTHING = 255
"""Kind of a point on the own car, or of one whose ray, cast again, ends elsewhere."""
SLACK = 0.05
"""Metres that a box stands off its object, but not downwards: ranges scatter by 2 cm, and annotators draw round the points."""


@dataclass(frozen=True)
class StreetSweep:
    """One turn of the LiDAR."""

    time: float
    """Seconds after the key moment: 0 or less."""
    pose: np.ndarray
    """(4, 4) float64: coordinates of the LiDAR at this time -> coordinates of the LiDAR at the key moment."""
    points: np.ndarray
    """(N, 4) float32: x, y, z, intensity in the frame of the **key moment's** LiDAR, as in ``Frame.lidar``."""
    own: np.ndarray
    """(N, 4) float32: the same in the frame of this time's LiDAR."""
    ring: np.ndarray
    """(N,) uint8: number of the beam, 0 the lowest."""
    kind: np.ndarray
    """(N,) uint8, number into ``meshes.KINDS``, or :data:`NOTHING`."""
    moving: np.ndarray
    """(N,) bool: on something that moves."""


@dataclass(frozen=True)
class Street:
    """A simulated frame's street, LiDAR sweeps and objects."""

    scene: Scene
    lidar: LidarConfig
    sweeps: tuple[StreetSweep, ...]
    """The LiDAR's turns, the last one (time 0) first. Their points one after the other are ``Frame.lidar``."""
    standing: tuple[Mesh, ...]
    """Parked vehicles and people who stand; they are in ``scene.static`` too."""

    def objects(self, points: np.ndarray) -> list[tuple[Box, Mesh, float]]:
        """Vehicles and people at the key moment: box, mesh, and speed in metres a second.

        Args:
            points: (N, 3 or more) to be counted in the boxes, in the key moment's LiDAR frame.
        """
        things = [(mesh, 0.0) for mesh in self.standing]
        things += [(mover.mesh, float(np.linalg.norm(mover.velocity))) for mover in self.scene.movers]
        found = []
        for mesh, speed in things:
            box = object_box(mesh)
            near = points[np.abs(points[:, :2] - np.asarray(box.centre[:2])).max(axis=1) < max(box.size)]
            found.append((replace(box, n_points=int(box.contains(near).sum())), mesh, speed))
        return found


@dataclass(frozen=True)
class _Then(Scene):
    """A street at another moment than its key one, which ``scan`` takes for the key moment."""

    then: float = 0.0

    def lidar_pose(self, time: float) -> np.ndarray:
        return super().lidar_pose(self.then + time)


def street_of(frame: Frame) -> Street:
    """The street that a simulated frame shows.

    Raises:
        OcclabError: the frame is not from this simulator, or from another release of it; Open3D is not installed.
    """
    try:
        seed = frame.source["seed"]
        if frame.source["kind"] != "street" or not isinstance(seed, int) or seed < 0:
            raise ValueError
        config, lidar = SceneConfig(**frame.source["scene"]), LidarConfig(**frame.source["lidar"])
    except (KeyError, TypeError, ValueError) as error:
        raise OcclabError(
            f"frame {frame.name}: only simulated streets can be exported, expected a source with kind 'street', seed, scene "
            f"and lidar, got {', '.join(map(str, frame.source)) or 'none'}"
        ) from error
    scene = build_scene(_stream(seed, 0), config)
    rng, car, static = _stream(seed, 1), RayTarget(own_car()), RayTarget(scene.static)
    sweeps = tuple(_sweep(scene, lidar, -i / lidar.rate, rng, static, car) for i in range(lidar.sweeps))
    drawn = sum(_reachable(sweep.points) for sweep in sweeps)
    if drawn != _reachable(frame.lidar):
        raise OcclabError(
            f"frame {frame.name}: expected the {drawn} LiDAR points that this release of the simulator draws for seed {seed}, "
            f"got {_reachable(frame.lidar)}; make the frame again"
        )
    return Street(scene, lidar, sweeps, _standing(seed, config))


def _sweep(
    scene: Scene, lidar: LidarConfig, time: float, rng: np.random.Generator, static: RayTarget, car: RayTarget
) -> StreetSweep:
    moved = tuple(Mover(mover.at(time), mover.velocity) for mover in scene.movers)
    points = scan(_Then(scene.static, moved, scene.road, scene.speed, time), replace(lidar, sweeps=1), rng)
    pose = scene.lidar_pose(time)
    xyz = (points[:, :3] - pose[:3, 3]) @ pose[:3, :3]
    length = np.linalg.norm(xyz, axis=1)
    direction = xyz / length[:, None]
    turned = direction @ pose[:3, :3].T
    fixed = static.cast(pose[:3, 3], turned)
    moving = RayTarget(merge([mover.mesh for mover in moved])).cast(pose[:3, 3], turned)
    own = car.cast(np.zeros(3), direction)
    hits = nearest(fixed, moving, own)
    known = (np.abs(hits.distance - length) < 6 * lidar.noise + 1e-3) & (hits.distance < own.distance)
    step = (lidar.highest - lidar.lowest) / max(lidar.beams - 1, 1)
    above = np.degrees(np.arcsin(np.clip(direction[:, 2], -1, 1))) - lidar.lowest
    return StreetSweep(
        time,
        pose,
        points,
        np.column_stack([xyz, points[:, 3]]).astype(np.float32),
        np.round(above / (step or 1.0)).astype(np.uint8),
        np.where(known, hits.kind, NOTHING).astype(np.uint8),
        known & (moving.distance < fixed.distance),
    )


def _reachable(points: np.ndarray) -> int:
    """Points that a stored frame keeps, see :mod:`occlab.frames.store`."""
    return int(((points[:, :3] >= -REACH) & (points[:, :3] < REACH)).all(axis=1).sum())


def _standing(seed: int, config: SceneConfig) -> tuple[Mesh, ...]:
    """What ``build_scene`` merges into one mesh, drawn again one by one: its parts are the same, so must be the order."""
    rng = _stream(seed, 0)
    road = scenes._draw_road(rng, config)
    scenes._ground(road, rng)
    parts: list[Mesh] = []
    for side in (1, -1):
        parts += scenes._frontage(road, side, rng, config)
        parts += scenes._along_the_kerb(road, side, rng, config)
    rng.uniform(*config.speed)
    parts += [person.mesh for person in scenes._people(road, rng, config) if not any(person.velocity)]
    wanted = [KINDS.index("car"), KINDS.index("person")]
    return tuple(mesh for mesh in parts if np.isin(mesh.kind, wanted).all())


def object_box(mesh: Mesh) -> Box:
    """The upright box round a vehicle or a person, :data:`SLACK` included. Categories are nuScenes'."""
    first = mesh.vertices.astype(np.float64)
    person = mesh.kind[0] == KINDS.index("person")
    # A person's first vertices are a ring that begins ahead of its centre; a vehicle's are the corners of a box, rear first.
    ahead = first[0] - first[:6].mean(axis=0) if person else first[1] - first[0]
    c, s = ahead[:2] / np.linalg.norm(ahead[:2])
    rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    own = first @ rotation
    low, high = own.min(axis=0) - (SLACK, SLACK, 0), own.max(axis=0) + SLACK
    category = "human.pedestrian.adult" if person else "vehicle.bus.rigid" if high[0] - low[0] > 7 else "vehicle.car"
    centre = tuple((rotation @ ((low + high) / 2)).tolist())
    return Box(centre, tuple((high - low).tolist()), tuple(map(tuple, rotation.tolist())), category)


def write_folder(root: str | Path, top: Sequence[str], fill: Callable[[Path], object]) -> None:
    """Let ``fill`` write a folder beside ``root`` and move it there when it is whole.

    A ``root`` that holds the very same files already is left as it is.

    Args:
        top: names that ``fill`` may write at the top.

    Raises:
        OcclabError: ``root`` has other content, or cannot be written.
    """
    root = Path(root).absolute()
    refusal = OcclabError(f"{root}: expected a new or empty folder to export to, or this very export, got other content")
    partial = root.with_name(f".{root.name}.{os.getpid()}")
    try:
        if root.exists() and not (root.is_dir() and {path.name for path in root.iterdir()} <= set(top)):
            raise refusal
        partial.mkdir(parents=True)
        fill(partial)
        if root.exists() and any(root.iterdir()):
            if not _same_files(partial, root):
                raise refusal
            return
        os.replace(partial, root)
    except OSError as error:
        raise OcclabError(f"{root}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _same_files(a: Path, b: Path) -> bool:
    names = [sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) for root in (a, b)]
    return names[0] == names[1] and not any(filecmp.cmpfiles(a, b, names[0], shallow=False)[1:])

"""How a camera's point cloud lies relative to the LiDAR's: axes, unit, scale, height, yaw, pitch.

The two are not samples of the same points: depth errors grow with range and smear along the view ray, and the cameras see
what no beam meets. Three things keep the estimate honest: distances are measured along the normal of a flat piece of the
LiDAR's surface (point to plane), each is weighted by how far depth errors move a point along that normal, and far outliers
count nothing (Geman-McClure's kernel). Scale is one of the unknowns, which Open3D's own point-to-plane registration does not
have; Open3D thins the cloud and fits the planes.

Sources: Chen and Medioni, "Object modelling by registration of multiple range images", 1992 (point to plane); Zhou, Park and
Koltun, "Fast global registration", ECCV 2016 (the kernel). Legend: N points, M points of the LiDAR after thinning.
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from ..errors import OcclabError, require

NEAR, FAR = 3.0, 35.0
"""Metres from the LiDAR between which pseudo points are compared: nearer lies the car, further the depth errs too much."""
LEAST = 300
"""Thinned points that an estimate needs."""
# Distance, metres, within which a pseudo point takes the nearest LiDAR point as its own, round by round. Narrowing it further
# steadies nothing: it trades the depth's noise for a pull to wherever the estimate happens to be.
_GATES = (3.0, 3.0, 2.0, 2.0) + (1.5,) * 8
_ROUGH, _FINE = 0.035, 0.02  # reach of the overlap score in the search, and when candidates are compared, as a share of range
_SCALES = tuple(np.geomspace(0.25, 4, 25).tolist())
_YAWS = tuple(range(-15, 16, 5))
_MARGIN = 1.15  # other axes must overlap by this factor better than the usual ones


@dataclass(frozen=True)
class Pose:
    """How the pseudo cloud was moved: ``pseudo = scale * Rz(yaw) Ry(pitch) * true + (0, 0, z_offset)``, then its axes."""

    scale: float = 1.0
    """Above 1: the cloud is too large, everything too far from the LiDAR."""
    z_offset: float = 0.0
    """Metres. Above 0: the cloud lies too high."""
    yaw: float = 0.0
    """Degrees. Above 0: turned to the left, counter-clockwise seen from above."""
    pitch: float = 0.0
    """Degrees, about the y axis. Above 0: nose down, what is ahead lies too low."""
    axes: tuple[int, int, int] = (1, 2, 3)
    """What the cloud's columns hold: 1, 2, 3 for x, y, z, negative where mirrored; (2, 1, 3) is x and y swapped."""

    @property
    def rotation(self) -> np.ndarray:
        c, s = np.cos(np.radians(self.yaw)), np.sin(np.radians(self.yaw))
        about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        c, s = np.cos(np.radians(self.pitch)), np.sin(np.radians(self.pitch))
        return about_z @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])

    def move(self, xyz: np.ndarray) -> np.ndarray:
        """(N, 3) true positions -> where a cloud with this fault has them."""
        moved = self.scale * xyz @ self.rotation.T + [0, 0, self.z_offset]
        return moved[:, np.abs(self.axes) - 1] * np.sign(self.axes)

    def undo(self, xyz: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`move`."""
        upright = np.empty(xyz.shape)
        upright[:, np.abs(self.axes) - 1] = xyz * np.sign(self.axes)
        return (upright - [0, 0, self.z_offset]) @ self.rotation / self.scale


AXES = tuple(
    tuple(int(s * axis) for s, axis in zip(sign, order, strict=True))
    for order in itertools.permutations((1, 2, 3))
    for sign in itertools.product((1, -1), repeat=3)
)
"""All 48 ways to swap and mirror three axes."""


def thinned(xyz: np.ndarray, cell: float, most: int) -> np.ndarray:
    """At most one point of each cube of edge ``cell``, at most ``most`` in all; the same ones every time."""
    _, first = np.unique(np.floor(xyz / cell).astype(np.int64), axis=0, return_index=True)
    return xyz[np.random.default_rng(0).permutation(first)[:most]]


def within(xyz: np.ndarray, near: float, far: float) -> np.ndarray:
    """(N,) bool: between two distances from the LiDAR."""
    distance = np.linalg.norm(xyz, axis=1)
    return (distance > near) & (distance < far)


def ground_level(xyz: np.ndarray) -> float:
    """Height of the fullest 0.2 m layer between 4 and 30 m around, metres; 0 where nothing is."""
    around = within(xyz[:, :2], 4, 30) & (np.abs(xyz[:, 2]) < 10)
    if not around.any():
        return 0.0
    count, edges = np.histogram(xyz[around, 2], bins=np.arange(-10, 10.1, 0.2))
    return float(edges[count.argmax()] + 0.1)


class Surface:
    """The LiDAR cloud as what other points are held against: thinned to 0.25 m, with a plane fitted around each point.

    Raises:
        OcclabError: Open3D is not installed, or there are too few points.
    """

    def __init__(self, lidar: np.ndarray, name: str) -> None:
        geometry = require("open3d", package="open3d")
        kept = lidar[within(lidar, 2.5, 65)]
        cloud = geometry.geometry.PointCloud(geometry.utility.Vector3dVector(np.ascontiguousarray(kept, dtype=np.float64)))
        cloud = cloud.voxel_down_sample(0.25)
        self.xyz = np.asarray(cloud.points)
        """(M, 3) float64."""
        if len(self.xyz) < LEAST:
            raise OcclabError(
                f"frame {name}: check_alignment needs at least {LEAST} LiDAR points between 2.5 and 65 m, 0.25 m apart, "
                f"got {len(self.xyz)} of {len(lidar)}"
            )
        cloud.estimate_covariances(geometry.geometry.KDTreeSearchParamHybrid(1.0, 20))
        spread, directions = np.linalg.eigh(np.asarray(cloud.covariances))
        self.normal = directions[:, :, 0]
        """(M, 3)."""
        # Scattered leaves and single scan lines have no normal worth the name.
        self.flat = (spread[:, 1] > 1e-3) & (spread[:, 0] < 0.1 * spread[:, 1])
        """(M,) bool."""
        self.tree = cKDTree(self.xyz)
        self.level = ground_level(self.xyz)

    def overlap(self, xyz: np.ndarray, reach: float) -> float:
        """How well points lie on the surface: mean of exp(-d^2 / 2), d the distance in units of ``reach`` x range; 0 to 1.

        A reach that grows with range makes a cloud no better by being shrunk to where the LiDAR's points lie close together.
        """
        length = np.clip(np.linalg.norm(xyz, axis=1), 0.1, 30) * reach
        distance, _ = self.tree.query(xyz, distance_upper_bound=3 * 30 * reach)
        return float(np.exp(-((distance / length) ** 2) / 2).mean())


def refine(surface: Surface, cloud: np.ndarray, pose: Pose, gates: tuple[float, ...] = _GATES) -> Pose:
    """Improve scale, height, yaw and pitch by robust point-to-plane steps (Gauss-Newton), the axes as they are.

    Shape:
        cloud: (N, 3) float64 metres.
    """
    start = pose.scale
    for gate in gates:
        true = pose.undo(cloud)
        usable = within(true, NEAR, FAR)
        true = true[usable]
        distance, nearest = surface.tree.query(true, distance_upper_bound=gate)
        met = np.isfinite(distance)
        met[met] = surface.flat[nearest[met]]
        if met.sum() < LEAST // 3:
            return pose
        true, nearest = true[met], nearest[met]
        normal = surface.normal[nearest]
        residual = ((true - surface.xyz[nearest]) * normal).sum(axis=1)
        # A depth error of size 0.02 r + 0.005 r^2 lies along the ray: of it, the plane sees what the angle between them leaves.
        length = np.linalg.norm(true, axis=1)
        along = np.abs((true * normal).sum(axis=1)) / length
        sigma = np.hypot(0.05, (0.02 * length + 0.005 * length**2) * along)
        weight = 1 / (1 + (residual / (2 * sigma)) ** 2) ** 2 / sigma**2
        # Columns: how the residual changes with log scale, height, yaw, pitch (radians).
        upward, nose = pose.rotation.T @ [0, 0, 1], np.array([0, 1, 0])
        columns = [
            -(normal * true).sum(axis=1),
            -(normal @ upward) / pose.scale,
            -(normal * np.cross(upward, true)).sum(axis=1),
            -(normal * np.cross(nose, true)).sum(axis=1),
        ]
        jacobian = np.stack(columns, axis=1)
        weighted = jacobian * weight[:, None]
        step = -np.linalg.solve(jacobian.T @ weighted + 1e-6 * np.eye(4), weighted.T @ residual)
        step = np.clip(step, [-0.1, -0.5, -0.05, -0.05], [0.1, 0.5, 0.05, 0.05])
        pose = replace(
            pose,
            scale=float(np.clip(pose.scale * np.exp(step[0]), 0.75 * start, 1.33 * start)),
            z_offset=float(pose.z_offset + step[1]),
            yaw=float(pose.yaw + np.degrees(step[2])),
            pitch=float(pose.pitch + np.degrees(step[3])),
        )
    return pose


def _starts(surface: Surface, cloud: np.ndarray, axes: tuple[int, ...], scales=(1.0,), yaws=(0.0,)) -> list[Pose]:
    """Where to begin with these axes: each scale as the cloud lies, and with its ground brought to the LiDAR's."""
    starts = []
    for scale in scales:
        level = ground_level(Pose(axes=axes).undo(cloud) / scale)
        for z_offset in (0.0, scale * (level - surface.level)):
            starts += [Pose(scale, z_offset, yaw, 0.0, axes) for yaw in yaws]
    return starts


def _plausible(pose: Pose) -> float:
    """What an overlap is worth: a cloud shrunk and pushed down onto the road around the LiDAR meets a lot of it by chance."""
    return float(np.exp(-0.5 * abs(np.log(pose.scale)) - 0.2 * abs(pose.z_offset)))


def register(surface: Surface, cloud: np.ndarray, name: str) -> tuple[Pose, float]:
    """Where the cloud lies, and how well it overlaps the surface once that is undone, 0 to 1.

    Other axes are taken only where they fit clearly better.

    Shape:
        cloud: (N, 3) float64 metres.

    Raises:
        OcclabError: fewer than :data:`LEAST` points to compare.
    """
    points = thinned(cloud[within(cloud, NEAR, 2 * FAR)], 0.3, 15_000)
    if len(points) < LEAST:
        raise OcclabError(
            f"frame {name}: check_alignment needs at least {LEAST} pseudo points between {NEAR:g} and {2 * FAR:g} m, "
            f"0.3 m apart, got {len(points)} of {len(cloud)}"
        )
    few, some = points[:800], points[:3000]

    def rough(start: Pose) -> float:
        return surface.overlap(start.undo(few), _ROUGH)

    plain = (1, 2, 3)
    by_axes = {axes: max(map(rough, _starts(surface, few, axes))) for axes in AXES}
    likely = [plain, *sorted((axes for axes in AXES if axes != plain), key=by_axes.__getitem__)[:-4:-1]]
    found = []
    for axes in likely:
        for search in (((1.0,), (0.0,)), (_SCALES, (0.0,)), ((1.0,), _YAWS)):
            pose = refine(surface, some, max(_starts(surface, few, axes, *search), key=rough), _GATES[:6])
            found.append((surface.overlap(pose.undo(some), _FINE) * _plausible(pose), pose))
    usual = max((one for one in found if one[1].axes == plain), key=lambda one: one[0])
    best = max(found, key=lambda one: one[0])
    if best[0] < _MARGIN * usual[0]:
        best = usual
    pose = refine(surface, points, best[1])
    return pose, surface.overlap(pose.undo(points), _FINE)

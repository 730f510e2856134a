"""What a data set's files hold of one moment, before a pseudo cloud is made of its images."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OcclabError
from .arrays import LARGEST
from .camera import Camera
from .frame import Frame
from .point_files import read_bin


@dataclass(frozen=True)
class Box:
    """An annotated object: an upright cuboid in the LiDAR's frame."""

    centre: tuple[float, float, float]
    """x, y, z, metres."""
    size: tuple[float, float, float]
    """Length (along the heading), width, height, metres."""
    rotation: tuple[tuple[float, float, float], ...]
    """3 x 3: box axes (x along the heading, y left, z up) to the LiDAR's."""
    category: str
    n_points: int | None = None
    """LiDAR points inside, as the data set counts them."""

    def contains(self, xyz: np.ndarray) -> np.ndarray:
        """(N, 3 or more) positions -> (N,) bool: inside, the surface included."""
        own = (xyz[:, :3].astype(np.float64) - self.centre) @ np.asarray(self.rotation)
        return (np.abs(own) <= np.asarray(self.size) / 2).all(axis=1)


@dataclass(frozen=True)
class Sweep:
    """LiDAR points with the cameras and boxes of their moment, in one frame of reference: x forward, y left, z up, metres,
    origin at the LiDAR, whatever the files' own axes are.

    Raises:
        OcclabError: points of another dtype or shape, none at all, or NaN or infinity among them; images that do not match
            the cameras.
    """

    points: np.ndarray
    """(N, 4) float32: x, y, z, intensity in [0, 1]."""
    name: str
    """Unique within its source, e.g. ``nuscenes-n015-2018-07-24-1532402927647951``."""
    source: dict[str, Any] = field(default_factory=dict)
    """Where it came from. JSON-able, free of absolute paths."""
    cameras: tuple[Camera, ...] = ()
    images: tuple[Path, ...] = ()
    """The image file of each camera, in the cameras' order; empty where there are none."""
    boxes: tuple[Box, ...] = ()

    def __post_init__(self) -> None:
        Frame(self.points, self.points, self.name)  # the same demands, in the same words
        if self.images and len(self.images) != len(self.cameras):
            raise OcclabError(f"sweep {self.name}: expected an image a camera, got {len(self.images)} for {len(self.cameras)}")

    def with_pseudo(self, pseudo: np.ndarray, depth: str) -> Frame:
        """The frame of this sweep with a pseudo cloud.

        Args:
            pseudo: (N, 4) float32 in the LiDAR's frame: x, y, z, confidence in [0, 1].
            depth: what made it, e.g. ``Depth Anything 3``; kept in the frame's source.
        """
        return Frame(pseudo, self.points, self.name, self.source | {"depth": depth}, self.cameras)


def read_sweep(path: Path, columns: int) -> np.ndarray:
    """:func:`.point_files.read_bin`, of a file that is no larger than a sweep can be, and not all one point.

    Raises:
        OcclabError: it is; or as ``read_bin``.
    """
    check_size(path)
    points = read_bin(path, columns)
    check_spread(path, points)
    return points


def check_size(path: Path) -> None:
    """Refuse a file without a header that is too large to be a sweep, before it is read.

    Raises:
        OcclabError: it is.
    """
    if path.is_file() and path.stat().st_size > LARGEST:
        raise OcclabError(f"{path}: expected a sweep of at most {LARGEST >> 20} MiB, got {path.stat().st_size >> 20} MiB")


def check_spread(path: Path, points: np.ndarray) -> None:
    """Refuse a sweep whose points are all one: a buffer that nothing was written to, most often of zeros.

    Raises:
        OcclabError: they are.
    """
    if len(points) > 1 and (points[:, :3] == points[0, :3]).all():
        place = ", ".join(f"{value:g}" for value in points[0, :3])
        raise OcclabError(f"{path}: expected a point cloud, but all its {len(points)} points lie at one place, {place}")

"""LiDAR sweeps as plain float32 files, and what is wrong with one that is not.

Formats: KITTI ``velodyne/*.bin`` (x y z reflectance; Geiger et al., CVPR 2012) and nuScenes ``LIDAR_TOP/*.pcd.bin``
(x y z intensity ring; Caesar et al., CVPR 2020). Neither has a header: what the bytes mean is a matter of agreement,
so a file read with the wrong agreement yields numbers, only absurd ones. :func:`read_bin` looks for that.
"""

from pathlib import Path

import numpy as np

from ..errors import OcclabError

LAYOUTS = {4: "x y z reflectance, as KITTI writes them", 5: "x y z intensity ring, as nuScenes writes them"}
FARTHEST = 300.0
"""Metres. No automotive LiDAR reaches further: 120 m for KITTI's HDL-64E, 100 m for nuScenes' HDL-32E."""
_NEARLY_ALL = 0.99


def _fits(values: np.ndarray) -> bool:
    """Do nearly all rows look like x, y, z in metres and an intensity from 0 to 255?

    Bytes in the wrong order turn many numbers into denormals, hence the smallest magnitude (a real 0 is fine).
    A wrong number of columns puts negative coordinates where the intensity should be.
    """
    with np.errstate(invalid="ignore"):
        size = np.abs(values[:, :3])
        xyz = ((size <= FARTHEST) & ((size >= 1e-6) | (size == 0))).all(axis=1)
        intensity = (values[:, 3] >= 0) & (values[:, 3] <= 255)
    return float((xyz & intensity).mean()) >= _NEARLY_ALL


def _other_reading(content: bytes, columns: int) -> str | None:
    """What the file would be if not what the caller asked for, in words; None when nothing else fits either."""
    other = 9 - columns
    candidates = [
        ("<f4", other, f"it fits {other} columns ({LAYOUTS[other]})"),
        (">f4", columns, "it fits when every value's four bytes are swapped (big-endian)"),
        ("<f8", columns, "it fits when read as float64"),
    ]
    for dtype, n, words in candidates:
        if len(content) % (np.dtype(dtype).itemsize * n) == 0 and _fits(np.frombuffer(content, dtype).reshape(-1, n)):
            return words
    return None


def read_bin(path: str | Path, columns: int, content: bytes | None = None) -> np.ndarray:
    """Read one sweep.

    Shape:
        returns: (N, columns) float32, metres first.

    Args:
        path: the file.
        columns: 4 (KITTI) or 5 (nuScenes).
        content: the file's bytes, where the caller has read them already.

    Raises:
        OcclabError: the file is missing, empty, cut off, big-endian, float64, has another number of columns, or holds
            NaN, infinity or numbers that are no point cloud; the sentence says which.
    """
    path = Path(path)
    if columns not in LAYOUTS:
        raise OcclabError(f"read_bin reads files of 4 (KITTI) or 5 (nuScenes) columns, not {columns!r}")
    if content is None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise OcclabError(f"{path}: expected a LiDAR sweep, but it cannot be read ({error.strerror})") from error
    expected = f"expected little-endian float32 with {columns} columns ({LAYOUTS[columns]})"
    if not content:
        raise OcclabError(f"{path}: {expected}, but the file is empty")
    if len(content) % (4 * columns):
        other = _other_reading(content, columns)
        reason = (
            other
            or f"its {len(content)} bytes are not a whole number of {4 * columns}-byte points: it is cut off or not a sweep"
        )
        raise OcclabError(f"{path}: {expected}, but {reason}")
    points = np.frombuffer(content, "<f4").reshape(-1, columns)
    fits = _fits(points)
    if not fits and (other := _other_reading(content, columns)):
        raise OcclabError(f"{path}: {expected}, but {other}")
    broken = int((~np.isfinite(points)).any(axis=1).sum())
    if broken:
        raise OcclabError(f"{path}: {expected}, but {broken} of {len(points)} points hold NaN or infinity")
    if not fits:
        raise OcclabError(
            f"{path}: {expected}, but its numbers are no point cloud: fewer than {_NEARLY_ALL:.0%} of {len(points)} points "
            f"lie within {FARTHEST:g} m and have an intensity from 0 to 255"
        )
    return points.astype(np.float32)  # a copy: writable, native byte order

"""Frames on disk: small files that are checked when they are read and can run no code.

A file is a compressed ``.npz`` of four uint8 arrays:

``header``   JSON: format, version, name, source, view
``pseudo``   (7, N): a row each for the high bytes of x, y, z, the low bytes of z, x, y, and the fourth column
``lidar``    (7, M): the same
``sha256``   (32,): of the three others

A coordinate is a 16-bit number of 2 mm steps, plus half a step. So no point comes to lie on an edge of a grid whose edges
are whole steps (those of every grid in this project), nor does one cross such an edge. Points are sorted by those bytes,
cells of 0.512 m first, with the low bytes apart: a KITTI sweep then packs into 3.4 bytes a point, against 5.3 unsorted.
"""

import hashlib
import io
import json
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..errors import OcclabError
from ..files import write_atomically
from .arrays import ArrayHeader, peek_npz, read_npz
from .camera import Camera
from .frame import Frame

VERSION = 1
STEP = 0.002
"""Metres between neighbouring stored coordinates."""
REACH = 32768 * STEP
"""Metres: points at or beyond +-65.536 along any axis are not stored."""
MOST_POINTS = 2**23
"""Points of a cloud that are stored at most, as many as ``voxelize`` takes."""
_FORMAT = "occlab frame"
_WHAT = "a frame file (.npz written by occlab)"
_CLOUDS = ("pseudo", "lidar")
_LONGEST_HEADER = 2**20  # bytes
_BYTES = ArrayHeader(np.dtype(np.uint8), (-1,))
_POINTS = ArrayHeader(np.dtype(np.uint8), (7, -1))


def _pack(points: np.ndarray, what: str) -> np.ndarray:
    """(N, 4) float32 -> (7, M) uint8, in one canonical order whatever the order of the points."""
    fourth = points[:, 3]
    if not ((fourth >= 0) & (fourth <= 1)).all():
        raise OcclabError(
            f"{what}: the fourth column must lie in [0, 1] to be stored, got {fourth.min():g} to {fourth.max():g}"
        )
    if len(points) > MOST_POINTS:
        raise OcclabError(f"{what}: at most {MOST_POINTS:,} are stored, got {len(points):,}")
    step = np.floor(points[:, :3] / np.float64(STEP)) + 32768
    near = ((step >= 0) & (step < 65536)).all(axis=1)
    if not near.any():
        raise OcclabError(f"{what}: no point lies within {REACH:g} m of the origin, so there is nothing to store")
    x, y, z = step[near].astype(np.uint64).T
    # One number a point, most significant byte first in the order in which they shall be sorted.
    high = (x >> 8) << 16 | (y >> 8) << 8 | (z >> 8)
    low = (z & 255) << 16 | (x & 255) << 8 | (y & 255)
    packed = np.sort(high << 32 | low << 8 | np.round(fourth[near] * 255).astype(np.uint64))
    return np.ascontiguousarray(packed.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 1:].T)


def _unpack(rows: np.ndarray) -> np.ndarray:
    points = np.empty((rows.shape[1], 4), np.float32)
    for axis, low in enumerate((4, 5, 3)):
        points[:, axis] = (rows[axis] * 256.0 + rows[low] - 32768 + 0.5) * STEP
    points[:, 3] = rows[6] / 255
    return points


def _digest(arrays: dict[str, np.ndarray]) -> np.ndarray:
    digest = hashlib.sha256()
    for name in ("header", *_CLOUDS):
        digest.update(f"{name} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]))
    return np.frombuffer(digest.digest(), np.uint8)


def write_frame(path: str | Path, frame: Frame) -> None:
    """Write one frame, whole or not at all: a reader never meets half a file, nor is one left after a power cut.

    Coordinates are kept to 1 mm, the fourth column to 1/510; points beyond 65.5 m are dropped. Use what
    :func:`read_frame` returns rather than what was written, then a fresh frame and a stored one are the same data.

    Raises:
        OcclabError: a fourth column outside [0, 1], a source that is not JSON or longer than 1 MiB, no point in reach or more
            than :data:`MOST_POINTS`, or a folder that cannot be written.
    """
    path = Path(path)
    header = {"format": _FORMAT, "version": VERSION, "name": frame.name, "source": frame.source}
    header["view"] = [camera.to_json() for camera in frame.view]
    try:
        text = json.dumps(header, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise OcclabError(f"frame {frame.name}: its source must be JSON to be stored: {error}") from error
    if len(text.encode()) > _LONGEST_HEADER:
        raise OcclabError(f"frame {frame.name}: name, source and view take {len(text):,} characters, more than are stored")
    arrays = {"header": np.frombuffer(text.encode(), np.uint8)}
    arrays |= {what: _pack(getattr(frame, what), f"frame {frame.name}: {what} points") for what in _CLOUDS}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, sha256=_digest(arrays))
    write_atomically(path, lambda partial: partial.write_bytes(buffer.getbuffer()))


def _header(path: Path) -> dict[str, Any]:
    """What the file says of itself, beside the points."""
    if "header" not in peek_npz(path, _WHAT):
        raise OcclabError(f"{path}: expected {_WHAT}, but this .npz was not written by occlab: it has no header")
    text = read_npz(path, _WHAT, {"header": _BYTES}, most=_LONGEST_HEADER)["header"].tobytes()
    try:
        header = json.loads(text)
        known, version = header["format"] == _FORMAT, header["version"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise OcclabError(f"{path}: expected {_WHAT}, but its header is not an occlab frame's") from error
    if not known:
        raise OcclabError(f"{path}: expected {_WHAT}, but its header names the format {reprlib.repr(header['format'])}")
    if type(version) is not int or version > VERSION:
        raise OcclabError(
            f"{path}: expected frame version {VERSION}, got {reprlib.repr(version)}, of a newer occlab perhaps; update occlab"
        )
    return header


def read_frame(path: str | Path) -> Frame:
    """Read one frame and check it against its hash. No file takes more memory than :data:`MOST_POINTS` a cloud do.

    Raises:
        OcclabError: the file is missing, cut off, damaged, of a newer version, or not a frame; the sentence says which.
    """
    path = Path(path)
    header = _header(path)
    expected = {"header": _BYTES, **dict.fromkeys(_CLOUDS, _POINTS), "sha256": ArrayHeader(_BYTES.dtype, (32,))}
    arrays = read_npz(path, _WHAT, expected, most=7 * MOST_POINTS)
    if not np.array_equal(arrays["sha256"], _digest(arrays)):
        raise OcclabError(
            f"{path}: expected {_WHAT}, but it is damaged: its content does not match the sha256 that was stored with it"
        )
    try:
        name, source = header["name"], header["source"]
        if not isinstance(name, str) or not isinstance(source, dict):
            raise OcclabError("name or source is of another type")
        view = tuple(Camera.from_json(camera) for camera in header["view"])
        if not all(type(side) is int and side > 0 for camera in view for side in (camera.width, camera.height)):
            raise OcclabError("a camera's width and height are not whole numbers above 0")
        return Frame(_unpack(arrays["pseudo"]), _unpack(arrays["lidar"]), name, source, view)
    except (KeyError, TypeError, OverflowError, OcclabError) as error:
        raise OcclabError(f"{path}: expected {_WHAT}, but its header lacks what a frame needs: {error}") from error


def read_store(folder: str | Path, limit: int | None = None) -> list[Frame]:
    """Every frame of a folder (or its first ``limit``), in the order of the file names.

    Raises:
        OcclabError: no such folder, no ``.npz`` in it, or one of them cannot be read.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise OcclabError(f"{folder}: expected a folder of frame files (.npz), found none")
    return [read_frame(path) for path in paths[:limit]]


def stored_frame(path: Path, make: Callable[[], Frame]) -> Frame:
    """The frame in that file of occlab's own; made and written first where the file is missing or broken."""
    try:
        return read_frame(path)
    except OcclabError:
        write_frame(path, make())
        return read_frame(path)


def fill_store(
    folder: str | Path, names: Sequence[str], make: Callable[[int], Frame], description: str, *, repair: bool = False
) -> list[Frame]:
    """The frames of those names in a folder: frame i is made by ``make(i)`` where its file is missing, under a progress bar.

    Every frame returned has been through the file, the new ones too. An interrupted run loses at most one frame.

    Args:
        repair: make broken files again too. For a folder of occlab's own, never for one that may hold others' files.

    Raises:
        OcclabError: a file that is there and cannot be read, unless ``repair``.
    """
    paths = [Path(folder) / f"{name}.npz" for name in names]
    frames: dict[int, Frame] = {}
    missing = []
    for i, path in enumerate(paths):
        try:
            frames[i] = read_frame(path)
        except OcclabError:
            if path.exists() and not repair:
                raise
            missing.append(i)
    for i in tqdm(missing, desc=description, mininterval=1.0, unit="frame", disable=not missing):
        frames[i] = stored_frame(paths[i], lambda i=i: make(i))
    return [frames[i] for i in range(len(paths))]

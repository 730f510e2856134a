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
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..errors import OcclabError
from ..files import write_atomically
from .camera import Camera
from .frame import Frame

VERSION = 1
STEP = 0.002
"""Metres between neighbouring stored coordinates."""
REACH = 32768 * STEP
"""Metres: points at or beyond +-65.536 along any axis are not stored."""
_FORMAT = "occlab frame"
_CLOUDS = ("pseudo", "lidar")


def _pack(points: np.ndarray, what: str) -> np.ndarray:
    """(N, 4) float32 -> (7, M) uint8, in one canonical order whatever the order of the points."""
    fourth = points[:, 3]
    if not ((fourth >= 0) & (fourth <= 1)).all():
        raise OcclabError(
            f"{what}: the fourth column must lie in [0, 1] to be stored, got {fourth.min():g} to {fourth.max():g}"
        )
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
    high, low = rows[:3].astype(np.float64), rows[[4, 5, 3]]
    xyz = (high * 256 + low - 32768 + 0.5) * STEP
    return np.column_stack([xyz.T, rows[6] / 255]).astype(np.float32)


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
        OcclabError: a fourth column outside [0, 1], a source that is not JSON, no point in reach, or a folder that cannot
            be written.
    """
    path = Path(path)
    header = {"format": _FORMAT, "version": VERSION, "name": frame.name, "source": frame.source}
    header["view"] = [camera.to_json() for camera in frame.view]
    try:
        text = json.dumps(header, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise OcclabError(f"frame {frame.name}: its source must be JSON to be stored: {error}") from error
    arrays = {"header": np.frombuffer(text.encode(), np.uint8)}
    arrays |= {what: _pack(getattr(frame, what), f"frame {frame.name}: {what} points") for what in _CLOUDS}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, sha256=_digest(arrays))
    write_atomically(path, lambda partial: partial.write_bytes(buffer.getbuffer()))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The file's four arrays, each uint8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OcclabError(f"{path}: expected a frame file, but it cannot be read ({error.strerror})") from error
    if not content.startswith(b"PK"):
        raise OcclabError(f"{path}: expected a frame file (.npz written by occlab), but this is another kind of file")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            if "header" not in archive.files:
                raise OcclabError(f"{path}: expected a frame file, but this .npz was not written by occlab: it has no header")
            return {name: archive[name] for name in ("header", *_CLOUDS, "sha256") if name in archive.files}
    except (OcclabError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib, lzma and numpy each have their own for a broken archive
        raise OcclabError(f"{path}: this frame file is damaged or cut off ({error}); expected a whole .npz") from error


def read_frame(path: str | Path) -> Frame:
    """Read one frame and check it against its hash.

    Raises:
        OcclabError: the file is missing, cut off, damaged, of a newer version, or not a frame; the sentence says which.
    """
    path = Path(path)
    arrays = _arrays(path)
    try:
        header = json.loads(arrays["header"].tobytes())
        known = header["format"] == _FORMAT
        version = int(header["version"])
    except (ValueError, TypeError, KeyError) as error:
        raise OcclabError(f"{path}: expected a frame file, but its header is not an occlab frame's") from error
    if not known:
        raise OcclabError(f"{path}: expected a frame file, but its header names the format {header['format']!r}")
    if version > VERSION:
        raise OcclabError(
            f"{path}: written by a newer occlab (frame version {version}, this one reads {VERSION}); update occlab"
        )
    if len(arrays) != 4 or not np.array_equal(arrays["sha256"], _digest(arrays)):
        raise OcclabError(f"{path}: this frame file is damaged: its content does not match the sha256 that was stored with it")
    clouds = {what: arrays[what] for what in _CLOUDS}
    for what, rows in clouds.items():
        if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[0] != 7:
            raise OcclabError(f"{path}: expected {what} as uint8 of shape (7, N), got {rows.dtype} {rows.shape}")
    try:
        view = tuple(Camera.from_json(camera) for camera in header["view"])
        return Frame(
            **{what: _unpack(rows) for what, rows in clouds.items()}, name=header["name"], source=header["source"], view=view
        )
    except (KeyError, TypeError, OcclabError) as error:
        raise OcclabError(f"{path}: its header lacks what a frame needs: {error}") from error


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

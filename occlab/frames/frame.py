"""One moment: what the cameras' depth says is there, what the LiDAR says is there, and where both came from."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import OcclabError
from .camera import Camera


@dataclass(frozen=True)
class Frame:
    """Pseudo points (the network's input) and LiDAR points (its target) in one frame of reference.

    x is forward, y left, z up, in metres, origin at the LiDAR.

    Raises:
        OcclabError: points of another dtype or shape, none at all, or NaN or infinity among them.
    """

    pseudo: np.ndarray
    """(N, 4) float32: x, y, z, and the depth model's confidence or the image's brightness in [0, 1]."""
    lidar: np.ndarray
    """(M, 4) float32: x, y, z, intensity in [0, 1]."""
    name: str
    """Unique within its source, e.g. ``street-000007`` or ``semantickitti-00-000003``."""
    source: dict[str, Any] = field(default_factory=dict)
    """Where it came from: simulator settings or files. JSON-able, free of absolute paths."""
    view: tuple[Camera, ...] = ()
    """Voxels that none of these cameras sees are left out of loss and metrics. Empty: every voxel counts."""

    def __post_init__(self) -> None:
        for what in ("pseudo", "lidar"):
            points = getattr(self, what)
            shaped = isinstance(points, np.ndarray) and points.ndim == 2 and points.shape[1] == 4
            if not (shaped and points.dtype == np.float32):
                got = f"{getattr(points, 'dtype', type(points).__name__)} {getattr(points, 'shape', '')}"
                raise OcclabError(f"frame {self.name}: {what} points must be float32 of shape (N, 4), got {got}")
            if len(points) == 0:
                raise OcclabError(f"frame {self.name}: no {what} points")
            bad = int((~np.isfinite(points)).any(axis=1).sum())
            if bad:
                raise OcclabError(f"frame {self.name}: {bad} of {len(points)} {what} points hold NaN or infinity")

    @property
    def fingerprint(self) -> str:
        """Hash of points and view: two frames with the same one are the same data."""
        digest = hashlib.sha256(repr(self.view).encode())
        for points in (self.pseudo, self.lidar):
            digest.update(repr(points.shape).encode())
            digest.update(np.ascontiguousarray(points).tobytes())
        return digest.hexdigest()[:16]

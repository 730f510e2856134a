"""A pinhole camera, placed relative to the LiDAR."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import OcclabError


@dataclass(frozen=True)
class Camera:
    """Pinhole camera. Camera axes follow OpenCV: x right, y down, z along the view, pixel (0, 0) at the top left centre."""

    name: str
    width: int
    height: int
    intrinsics: tuple[tuple[float, float, float], ...]
    """3 x 3: focal lengths and principal point, pixels."""
    lidar_to_camera: tuple[tuple[float, float, float, float], ...]
    """4 x 4: LiDAR coordinates (m) to camera coordinates (m)."""

    def __post_init__(self) -> None:
        k, t = np.asarray(self.intrinsics, dtype=float), np.asarray(self.lidar_to_camera, dtype=float)
        if k.shape != (3, 3) or t.shape != (4, 4) or not (np.isfinite(k).all() and np.isfinite(t).all()):
            expected = "finite 3x3 intrinsics and 4x4 lidar_to_camera"
            raise OcclabError(f"camera {self.name}: expected {expected}, got {k.shape} and {t.shape}")
        object.__setattr__(self, "intrinsics", tuple(map(tuple, k.tolist())))
        object.__setattr__(self, "lidar_to_camera", tuple(map(tuple, t.tolist())))

    def project(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """LiDAR-frame points (N, 3) -> pixel coordinates (N, 2) and depth along the view (N,), metres."""
        t, k = np.asarray(self.lidar_to_camera), np.asarray(self.intrinsics)
        in_camera = xyz[:, :3] @ t[:3, :3].T + t[:3, 3]
        depth = in_camera[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = (in_camera @ k.T)[:, :2] / depth[:, None]
        return pixels, depth

    def sees(self, xyz: np.ndarray, near: float = 0.5) -> np.ndarray:
        """(N, 3) positions -> (N,) bool: in front of the camera, further than ``near`` metres, and inside the image."""
        (pixels, depth) = self.project(xyz)
        with np.errstate(invalid="ignore"):
            inside = (pixels > -0.5).all(axis=1) & (pixels[:, 0] < self.width - 0.5) & (pixels[:, 1] < self.height - 0.5)
        return inside & (depth > near)

    def rays(self, stride: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The view ray of every ``stride``-th pixel, scaled so that its length along the view is 1.

        Returns:
            Origin (3,) and directions (rows, columns, 3), float32, in the LiDAR frame: a pixel of depth d shows the
            point ``origin + d * direction``.
        """
        t, k = np.asarray(self.lidar_to_camera), np.asarray(self.intrinsics)
        columns, rows = np.meshgrid(np.arange(stride // 2, self.width, stride), np.arange(stride // 2, self.height, stride))
        pixels = np.stack([columns, rows, np.ones_like(columns)], axis=-1).astype(float)
        in_camera = pixels @ np.linalg.inv(k).T
        rotation = t[:3, :3].T
        return (-rotation @ t[:3, 3]).astype(np.float32), (in_camera @ rotation.T).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Camera":
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise OcclabError(f"camera record is not name, width, height, intrinsics, lidar_to_camera: {error}") from error

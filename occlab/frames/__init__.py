"""Frames: what the network is given (a pseudo point cloud) and what it must find (the LiDAR's), with where both came from.

Import nothing heavy here: Open3D and OpenCV are loaded when a frame is made, not when this package is.
"""

from .camera import Camera
from .catalogue import read_frames, sample_frames, streets
from .frame import Frame
from .kitti import kitti_frames
from .rescan import rescan
from .simulate import StreetConfig, simulate_frame
from .store import read_frame, write_frame
from .view import view_mask

__all__ = [
    "Camera",
    "Frame",
    "StreetConfig",
    "kitti_frames",
    "read_frame",
    "read_frames",
    "rescan",
    "sample_frames",
    "simulate_frame",
    "streets",
    "view_mask",
    "write_frame",
]

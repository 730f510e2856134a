"""Frames: what the network is given (a pseudo point cloud) and what it must find (the LiDAR's), with where both came from.

Import nothing heavy here: Open3D and OpenCV are loaded when a frame is made, not when this package is.
"""

from .camera import Camera
from .catalogue import read_frames, sample_frames, streets
from .cloud_files import cloud_folder, read_cloud
from .depth_models import from_depth_anything_3, metric_scale, pseudo_points
from .export_kitti import export_semantickitti
from .export_nuscenes import export_nuscenes
from .export_occ3d import export_occ3d
from .frame import Frame
from .guess import describe, guess
from .kitti import kitti_frames
from .nuscenes import from_devkit, nuscenes_sweeps
from .occupancy_files import read_flat_index, read_occ3d, read_openoccupancy, read_semantickitti_volume, read_surroundocc
from .reduce import ball_query, range_filter, reduce_cloud
from .rescan import rescan
from .simulate import StreetConfig, simulate_frame
from .store import read_frame, write_frame
from .sweep import Box, Sweep
from .view import view_mask
from .volume import OccupancyVolume

__all__ = [
    "Box",
    "Camera",
    "Frame",
    "OccupancyVolume",
    "StreetConfig",
    "Sweep",
    "ball_query",
    "cloud_folder",
    "describe",
    "export_nuscenes",
    "export_occ3d",
    "export_semantickitti",
    "from_depth_anything_3",
    "from_devkit",
    "guess",
    "kitti_frames",
    "metric_scale",
    "nuscenes_sweeps",
    "pseudo_points",
    "range_filter",
    "read_cloud",
    "read_flat_index",
    "read_frame",
    "read_frames",
    "read_occ3d",
    "read_openoccupancy",
    "read_semantickitti_volume",
    "read_surroundocc",
    "reduce_cloud",
    "rescan",
    "sample_frames",
    "simulate_frame",
    "streets",
    "view_mask",
    "write_frame",
]

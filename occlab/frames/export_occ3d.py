"""A simulated frame as an Occ3D-nuScenes label.

File: ``labels.npz`` with ``semantics``, ``mask_lidar`` and ``mask_camera``, each uint8 (200, 200, 16) in x, y, z; 0.4 m, x and
y from -40 to 40 m, z from -1 to 5.4 m, in the ego frame: origin on the ground under the rear axle, x forward, y left.
Format: Tian et al., "Occ3D", NeurIPS 2023, arXiv 2304.14365.
"""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..files import write_atomically
from ..visibility import OCCUPIED, UNKNOWN, ray_states, visible_from
from .export_kitti import commonest
from .export_nuscenes import EGO_FROM_LIDAR
from .frame import Frame
from .meshes import KINDS
from .occupancy_files import OCC3D_GRID
from .sensors import camera_rig
from .street_truth import NOTHING, street_of

CLASSES = {
    "road": 11,
    "pavement": 13,
    "terrain": 14,
    "building": 15,
    "barrier": 1,
    "car": 4,
    "person": 7,
    "pole": 15,
    "trunk": 16,
    "foliage": 16,
}
"""What a thing is in the simulator -> Occ3D's number. Buses and vans are cars."""
FREE_CLASS = 17


def export_occ3d(frame: Frame, path: str | Path) -> None:
    """Write one simulated frame as Occ3D's ``labels.npz``. The same frame always gives the same bytes.

    Points of all sweeps are drawn again from the frame's seed; the own car's are left out.

    * ``semantics``: the commonest class among a voxel's points, 17 (free) where there are none.
    * ``mask_lidar``: 1 where a voxel holds a point or a ray passes through on its way to one.
    * ``mask_camera``: 1 where ``mask_lidar`` is, a camera has the voxel's centre in view, and a ray from there to the centre of
      such a voxel comes by before, or when, it meets the first one that holds a point (``occlab.visibility.visible_from``).

    Raises:
        OcclabError: the frame is not from this release's simulator; the file cannot be written; Open3D is not installed.
    """
    clouds, values, origins = [], [], []
    table = np.array([*(CLASSES[kind] for kind in KINDS), *[FREE_CLASS] * (NOTHING + 1 - len(KINDS))])
    for sweep in street_of(frame).sweeps:
        known = sweep.kind != NOTHING
        clouds.append(torch.from_numpy(sweep.points[known, :3] + EGO_FROM_LIDAR[:3, 3].astype(np.float32)))
        values.append(torch.from_numpy(table[sweep.kind[known]]))
        origins.append(torch.from_numpy(sweep.pose[:3, 3] + EGO_FROM_LIDAR[:3, 3]).expand(len(clouds[-1]), 3))
    points = torch.cat(clouds)
    states = ray_states(points, OCC3D_GRID, origin=torch.cat(origins))
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        semantics=_xyz(commonest(points, torch.cat(values), OCC3D_GRID, empty=FREE_CLASS)),
        mask_lidar=_xyz(states != UNKNOWN),
        mask_camera=_xyz(_seen_by_cameras(states)),
    )
    write_atomically(Path(path), lambda partial: partial.write_bytes(buffer.getbuffer()))


def _seen_by_cameras(states: Tensor) -> Tensor:
    """(Z, Y, X) states of rays -> the same shape, bool."""
    cells = (states != UNKNOWN).nonzero()
    centres = OCC3D_GRID.centre_of(cells).double().numpy() - EGO_FROM_LIDAR[:3, 3]
    seen = torch.zeros(OCC3D_GRID.shape, dtype=torch.bool)
    for camera in camera_rig():
        in_view = torch.zeros_like(seen)
        in_view[tuple(cells[torch.from_numpy(camera.sees(centres))].T)] = True
        origin = np.linalg.inv(camera.lidar_to_camera)[:3, 3] + EGO_FROM_LIDAR[:3, 3]
        seen |= visible_from(states == OCCUPIED, OCC3D_GRID, torch.from_numpy(origin), in_view)
    return seen


def _xyz(volume: Tensor) -> np.ndarray:
    return np.ascontiguousarray(volume.permute(2, 1, 0).numpy().astype(np.uint8))

"""Simulated frames as SemanticKITTI sequences.

Layout: ``ROOT/sequences/NN/`` with ``velodyne/*.bin`` (float32 x, y, z, reflectance), ``labels/*.label`` (uint32: class in the
lower 16 bits, moving ones as 252 and 254; instance 0), ``calib.txt``, ``poses.txt``, ``times.txt``, and
``voxels/*.bin .label .invalid .occluded``. Each frame is a sequence of its own: the LiDAR's turns in the order of time, the
key moment last. Voxels are written of the key moment alone.

There are no pictures, so these sequences are no stereo frames; a frame's pseudo points are in ``pseudo/*.bin``, float32 x, y,
z, confidence, which is no part of the format.
Format: Behley et al., "SemanticKITTI", ICCV 2019, and its scene completion task; KITTI odometry development kit.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import OcclabError
from ..grid import VoxelGrid
from ..visibility import FREE, UNKNOWN, ray_states
from ..voxelize import occupancy
from .frame import Frame
from .kitti import SEMANTICKITTI_GRID
from .meshes import KINDS
from .occupancy_files import REGENERATED_GRID
from .sensors import camera_rig
from .street_truth import NOTHING, Street, StreetSweep, street_of, write_folder

CLASSES = {
    "road": 40,
    "pavement": 48,
    "terrain": 72,
    "building": 50,
    "barrier": 51,
    "car": 10,
    "person": 30,
    "pole": 80,
    "trunk": 71,
    "foliage": 70,
}
"""What a thing is in the simulator -> SemanticKITTI's number. Buses and vans are cars."""
MOVING = {10: 252, 30: 254}
_BASELINE = 0.54
_LOWEST = -2.0  # metres; the old release's voxels leave out what is lower, though their grid begins at -2.2


def export_semantickitti(frames: Sequence[Frame], root: str | Path, *, shifted: bool = False) -> None:
    """Write simulated frames as SemanticKITTI sequences 00, 01, ... The same frames always give the same bytes.

    Sweeps and labels are drawn again from the frames' seeds. The own car's returns are unlabelled (0), as is the rare point
    whose ray, cast once more, ends elsewhere.

    Voxels, each of the four by a plain rule, with rays from the LiDAR to its labelled returns, as in
    :func:`occlab.visibility.ray_states`:

    * ``.bin``: holds a labelled point of the key sweep.
    * ``.label``: the commonest class among the labelled points of all sweeps (the lowest of equally common ones); 0: none.
    * ``.occluded``: no ray of the key sweep passes through on its way. So the voxel that was hit counts as occluded, as in
      the published files.
    * ``.invalid``: neither a point nor a ray of any sweep.

    Args:
        shifted: z from -2.2 to 4.2 m, with nothing under -2.0 m, as in the release of before August 2020; otherwise from
            -2.0 to 4.4 m.

    Raises:
        OcclabError: no frames, two of one name, one that is not from this release's simulator; a root with other content;
            Open3D is not installed.
    """
    names = [frame.name for frame in frames]
    if not names or len(set(names)) != len(names):
        raise OcclabError(f"export expects one frame or more, each of another name, got {', '.join(names) or 'none'}")

    def fill(folder: Path) -> None:
        for i, frame in enumerate(frames):
            _write(folder / "sequences" / f"{i:02d}", frame, street_of(frame), shifted)

    write_folder(root, ("sequences",), fill)


def point_classes(sweep: StreetSweep) -> np.ndarray:
    """(N,) uint32: SemanticKITTI's class of each point of a sweep, 0 where it has none."""
    table = np.zeros(NOTHING + 1, np.uint32)
    table[: len(KINDS)] = [CLASSES[kind] for kind in KINDS]
    classes = table[sweep.kind]
    for still, moving in MOVING.items():
        classes[(classes == still) & sweep.moving] = moving
    return classes


def _write(folder: Path, frame: Frame, street: Street, shifted: bool) -> None:
    for part in ("velodyne", "labels", "voxels", "pseudo"):
        (folder / part).mkdir(parents=True)
    tr = np.asarray(next(camera.lidar_to_camera for camera in camera_rig() if camera.name == "CAM_FRONT"))
    sweeps = street.sweeps[::-1]
    from_lidar_of_first = tr @ np.linalg.inv(sweeps[0].pose)
    poses = [from_lidar_of_first @ sweep.pose @ np.linalg.inv(tr) for sweep in sweeps]
    (folder / "calib.txt").write_text(_calib(tr))
    (folder / "poses.txt").write_text("".join(f"{_row(pose[:3])}\n" for pose in poses))
    (folder / "times.txt").write_text("".join(f"{sweep.time - sweeps[0].time:.6e}\n" for sweep in sweeps))
    for i, sweep in enumerate(sweeps):
        (folder / "velodyne" / f"{i:06d}.bin").write_bytes(sweep.own.astype("<f4").tobytes())
        (folder / "labels" / f"{i:06d}.label").write_bytes(point_classes(sweep).astype("<u4").tobytes())
    key = f"{len(sweeps) - 1:06d}"
    (folder / "pseudo" / f"{key}.bin").write_bytes(frame.pseudo.astype("<f4").tobytes())
    for suffix, content in _voxels(street, SEMANTICKITTI_GRID if shifted else REGENERATED_GRID, shifted).items():
        (folder / "voxels" / f"{key}.{suffix}").write_bytes(content)


def _row(matrix: np.ndarray) -> str:
    return " ".join(f"{value:.12e}" for value in matrix.ravel())


def _calib(tr: np.ndarray) -> str:
    """The front camera as both left ones, and right ones 54 cm beside it."""
    (intrinsics,) = (np.asarray(camera.intrinsics) for camera in camera_rig() if camera.name == "CAM_FRONT")
    rows = [f"P{i}: {_row(intrinsics @ np.column_stack([np.eye(3), [x, 0, 0]]))}\n" for i, x in enumerate((0, -_BASELINE) * 2)]
    return "".join([*rows, f"Tr: {_row(tr[:3])}\n"])


def _voxels(street: Street, grid: VoxelGrid, shifted: bool) -> dict[str, bytes]:
    """Suffix -> content of the file."""
    classes = [point_classes(sweep) for sweep in street.sweeps]
    labelled = [torch.from_numpy(sweep.points[c != 0, :3]) for sweep, c in zip(street.sweeps, classes, strict=True)]
    origins = [torch.from_numpy(sweep.pose[:3, 3]).expand(len(p), 3) for sweep, p in zip(street.sweeps, labelled, strict=True)]
    everything = torch.cat(labelled)
    key_states = ray_states(labelled[0], grid, origin=origins[0])
    states = ray_states(everything, grid, origin=torch.cat(origins))
    lowest = _LOWEST if shifted else grid.point_cloud_range[2]
    values = torch.from_numpy(np.concatenate([c[c != 0] for c in classes]).astype(np.int64))
    high = everything[:, 2] >= lowest
    labels = commonest(everything[high], values[high], grid, empty=0)
    scan = occupancy(labelled[0][labelled[0][:, 2] >= lowest], grid)[0]
    return {
        "bin": _bits(scan),
        "label": labels.permute(2, 1, 0).numpy().astype("<u2").tobytes(),
        "occluded": _bits(key_states != FREE),
        "invalid": _bits((states == UNKNOWN) & (labels == 0)),
    }


def _bits(volume: Tensor) -> bytes:
    """(Z, Y, X) bool -> the file's order x, y, z, eight a byte, the first the most significant."""
    return np.packbits(volume.permute(2, 1, 0).numpy()).tobytes()


def commonest(points: Tensor, values: Tensor, grid: VoxelGrid, empty: int) -> Tensor:
    """The commonest value among the points of each voxel, the lowest of equally common ones.

    Shape:
        points: (N, 3 or more) metres. values: (N,) int64, 0 to 65535.
        returns: (Z, Y, X) int64, ``empty`` where there is no point.
    """
    index, inside = grid.index_of(points)
    z, y, x = index[inside].T
    cell = (z * grid.shape[1] + y) * grid.shape[2] + x
    pairs, count = torch.unique(cell << 16 | values[inside], return_counts=True)
    order = torch.argsort(count, stable=True, descending=True)  # equally common ones stay sorted by value
    cells, first = np.unique((pairs[order] >> 16).numpy(), return_index=True)
    volume = torch.full((grid.n_cells,), empty, dtype=torch.int64)
    volume[torch.from_numpy(cells)] = (pairs[order] & 0xFFFF)[torch.from_numpy(first)]
    return volume.view(grid.shape)

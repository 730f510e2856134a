"""The files that the readers' benchmark reads, each written by its format's own description."""

from pathlib import Path

import numpy as np
from torch import BoolTensor, Tensor

from occlab import VoxelGrid, occupancy
from occlab.frames import StreetConfig, simulate_frame
from occlab.frames.export_nuscenes import export_nuscenes
from occlab.frames.occupancy_files import OCC3D_GRID, OPENOCCUPANCY_GRID, REGENERATED_GRID, SURROUNDOCC_GRID
from occlab.frames.sensors import LidarConfig


def write_clouds(folder: Path, points: np.ndarray) -> dict[str, Path]:
    """Files of one cloud, (N, 4) float32 x, y, z, intensity in [0, 1]; name -> path."""
    n = len(points)
    five = np.column_stack([points[:, :3], np.round(points[:, 3] * 255), np.arange(n) % 32]).astype("<f4")
    pcd = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\n"
        f"WIDTH {n}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {n}\nDATA "
    )
    properties = "".join(f"property float {name}\n" for name in ("x", "y", "z", "intensity"))
    ply = f"ply\nformat binary_little_endian 1.0\nelement vertex {n}\n{properties}end_header\n"
    rows = points.astype("<f4").tobytes()
    lines = "\n".join(" ".join(f"{value:.9g}" for value in row) for row in points.tolist())  # 9 digits give a float32 back
    contents = {
        "kitti.bin": rows,
        "nuscenes.bin": five.tobytes(),
        "binary.pcd": f"{pcd}binary\n".encode() + rows,
        "ascii.pcd": f"{pcd}ascii\n{lines}\n".encode(),
        "cloud.ply": ply.encode() + rows,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    np.save(folder / "cloud.npy", points)
    return {name: folder / name for name in (*contents, "cloud.npy")}


def write_las(path: Path, points: np.ndarray) -> None:
    """The same cloud in whole millimetres, by laspy."""
    import laspy

    header = laspy.LasHeader(point_format=0, version="1.2")
    header.scales = [0.001, 0.001, 0.001]
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = points[:, :3].T.astype(np.float64)
    cloud.intensity = np.round(points[:, 3] * 255).astype(np.uint16)
    cloud.write(str(path))


def write_nuscenes(root: Path, sweeps: int) -> list[Path]:
    """A data set of one simulated key frame and the sweeps before it; the sweeps' files."""
    import cv2  # noqa: F401, who has it not gets an ImportError here
    import open3d  # noqa: F401

    config = StreetConfig(lidar=LidarConfig(sweeps=sweeps), stride=24, points=2000)
    export_nuscenes([simulate_frame(3, config)], root, stride=15)
    return sorted(root.glob("*/LIDAR_TOP/*.pcd.bin"))


def write_volumes(folder: Path, points: Tensor) -> dict[str, tuple[list[Path], VoxelGrid, BoolTensor]]:
    """The voxels of a cloud, x forward, y left, in each published format, with classes from 1 to 10 by height.

    Returns:
        Data set -> its files, of which the first is the one to ask for, its grid, and (Z, Y, X) bool.
    """
    grids = {
        "occ3d": OCC3D_GRID,
        "openoccupancy": OPENOCCUPANCY_GRID,
        "surroundocc": SURROUNDOCC_GRID,
        "occnet": SURROUNDOCC_GRID,
        "semantickitti": REGENERATED_GRID,
    }
    writers = {"occ3d": _occ3d, "semantickitti": _semantickitti}
    written = {}
    for name, grid in grids.items():
        occupied = occupancy(points, grid)[0]
        place = folder / name
        place.mkdir()
        if name in writers:
            files = writers[name](place, occupied.permute(2, 1, 0).numpy())
        else:
            files = _rows(place / "rows.npy", name, occupied)
        written[name] = (files, grid, occupied)
    return written


def _rows(path: Path, name: str, occupied: BoolTensor) -> list[Path]:
    """A row for each occupied voxel, in LIDAR_TOP's axes: x right, y forward."""
    z, y, x = occupied.nonzero().numpy().T
    x, y = occupied.shape[1] - 1 - y, x
    label = 1 + z % 10
    columns = {
        "openoccupancy": (z, y, x, label),
        "surroundocc": (x, y, z, label),
        "occnet": (x + 200 * y + 40_000 * z, label),
    }
    np.save(path, np.column_stack(columns[name]))
    return [path]


def _occ3d(folder: Path, occupied: np.ndarray) -> list[Path]:
    """``occupied`` in x, y, z."""
    semantics = np.where(occupied, 1 + np.arange(occupied.shape[2]) % 10, 17).astype(np.uint8)
    mask = occupied.astype(np.uint8)
    np.savez_compressed(folder / "labels.npz", semantics=semantics, mask_lidar=mask, mask_camera=mask)
    return [folder / "labels.npz"]


def _semantickitti(folder: Path, occupied: np.ndarray) -> list[Path]:
    """``occupied`` in x, y, z. Classes road, building, vegetation by height."""
    label = np.where(occupied, np.array([40, 50, 70])[np.arange(occupied.shape[2]) % 3], 0).astype("<u2")
    bits = np.packbits(occupied).tobytes()
    contents = {"label": label.tobytes(), "bin": bits, "invalid": bytes(len(bits)), "occluded": bits}
    for suffix, content in contents.items():
        (folder / f"000000.{suffix}").write_bytes(content)
    return [folder / f"000000.{suffix}" for suffix in contents]

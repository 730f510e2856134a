"""How fast each reader of occlab.frames reads, beside ``np.fromfile`` of as many float32 values, as fast as a file gets in.

All files are written here, into a folder that is removed again; they are in the page cache, so the disk plays no part. What
is read is checked against what was written.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from clouds import sweep
from reader_files import write_clouds, write_las, write_nuscenes, write_volumes
from timing import Candidate, interleave, optional, table

from occlab.frames import Frame
from occlab.frames.cloud_files import read_cloud
from occlab.frames.nuscenes import nuscenes_sweeps
from occlab.frames.occupancy_files import (
    read_flat_index,
    read_occ3d,
    read_openoccupancy,
    read_semantickitti_volume,
    read_surroundocc,
)
from occlab.frames.point_files import read_bin
from occlab.frames.store import read_frame, write_frame
from occlab.frames.volume import OccupancyVolume


@dataclass
class Reading(Candidate):
    """A reader, and how much it reads."""

    items: int = 0
    """Points or voxels."""
    values: int = 0
    """float32 values of these: what ``np.fromfile`` reads beside it."""
    n_bytes: int = 0
    """Size of the file."""


def tables(device: str, quick: bool, left_out: list[str]) -> list[dict[str, Any]]:
    n, seconds, least = (12_000, 0.5, 2) if quick else (120_000, 15.0, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        points = cloud_readings(folder, n, left_out)
        points += optional(left_out, "nuscenes_sweeps", lambda: [nuscenes_reading(folder / "nuscenes", quick)])
        content = [rates("Points", "points", points, folder, seconds, least)]
        volumes = volume_readings(folder, n)
        return [*content, rates("Occupancy volumes", "voxels", volumes, folder, seconds, least)]


def rates(title: str, unit: str, readings: list[Reading], folder: Path, seconds: float, least: int) -> dict[str, Any]:
    """Time the readings, and ``np.fromfile`` of each number of values among them in the same rounds."""
    plain = {}
    for values in sorted({reading.values for reading in readings}):
        path = folder / f"{values}.f32"
        np.ones(values, np.float32).tofile(path)
        plain[values] = Candidate(f"np.fromfile, {values:,} values", lambda path=path: np.fromfile(path, np.float32))
    interleave([*plain.values(), *readings], seconds, least=least)
    rows = []
    for reading in readings:
        fromfile, row = table("", [plain[reading.values], reading])["rows"]
        rows.append(
            {
                "candidate": reading.name,
                unit: f"{reading.items:,}",
                "MB": reading.n_bytes / 1e6,
                "median_ms": row["median_ms"],
                "min_ms": row["min_ms"],
                f"million {unit}/s": reading.items / row["min_ms"] / 1e3,
                f"fromfile, million {unit}/s": reading.items / fromfile["min_ms"] / 1e3,
                "× fromfile": row["ratio"],
                "× fromfile (min)": row["min_ratio"],
                "rounds": row["rounds"],
                **reading.columns,
            }
        )
    return {"title": f"{title}: time over that of np.fromfile of as many float32 values", "rows": rows}


def cloud_readings(folder: Path, n: int, left_out: list[str]) -> list[Reading]:
    """Readers of one cloud of n points."""
    points = np.column_stack([sweep(n).numpy(), np.arange(n) % 256 / np.float32(255)]).astype(np.float32)
    files = write_clouds(folder, points)

    def one(name: str, path: Path, read: Callable[[Path], np.ndarray], expected: np.ndarray = points) -> Reading:
        def check(got: np.ndarray) -> dict[str, str]:
            return {"largest error": f"{np.abs(got - expected).max():.0e}" if got.shape == expected.shape else "shape"}

        return Reading(name, lambda: read(path), check, items=n, values=expected.size, n_bytes=path.stat().st_size)

    def las() -> list[Reading]:
        path = folder / "cloud.las"
        write_las(path, points)
        return [one("read_cloud, .las", path, read_cloud)]

    five = np.column_stack([points[:, :3], np.arange(n) % 256, np.arange(n) % 32]).astype(np.float32)
    return [
        one("read_bin, KITTI", files["kitti.bin"], lambda path: read_bin(path, 4)),
        one("read_bin, nuScenes", files["nuscenes.bin"], lambda path: read_bin(path, 5), five),
        one("read_cloud, .npy", files["cloud.npy"], read_cloud),
        one("read_cloud, .pcd binary", files["binary.pcd"], read_cloud),
        one("read_cloud, .pcd ascii", files["ascii.pcd"], read_cloud),
        one("read_cloud, .ply binary", files["cloud.ply"], read_cloud),
        *optional(left_out, "read_cloud, .las", las),
        store_reading(folder / "frame.npz", points),
    ]


def store_reading(path: Path, points: np.ndarray) -> Reading:
    """A frame of occlab's own: a third pseudo points, two thirds LiDAR. A store keeps neither the order nor the farthest."""
    clouds = {"pseudo": points[::3], "lidar": np.delete(points, np.s_[::3], axis=0)}
    write_frame(path, Frame(**{what: np.ascontiguousarray(cloud) for what, cloud in clouds.items()}, name="frame"))
    frame = read_frame(path)
    items = len(frame.pseudo) + len(frame.lidar)

    def check(got: Frame) -> dict[str, str]:
        worst = 0.0
        for what, cloud in clouds.items():
            kept = cloud[(np.abs(cloud[:, :3]) < 65.536).all(axis=1)]
            if getattr(got, what).shape != kept.shape:
                return {"largest error": "shape"}
            worst = max(worst, np.abs(np.sort(getattr(got, what), axis=0) - np.sort(kept, axis=0)).max())
        return {"largest error": f"{worst:.0e}"}

    name = "store.read_frame (compressed, with its hash)"
    return Reading(name, lambda: read_frame(path), check, items=items, values=4 * items, n_bytes=path.stat().st_size)


def nuscenes_reading(root: Path, quick: bool) -> Reading:
    """One key frame with the sweeps before it, from the tables to the car's own returns removed."""
    sweeps = 2 if quick else 4
    files = write_nuscenes(root, sweeps)
    key = np.fromfile(next(file for file in files if "samples" in file.parts), np.float32).reshape(-1, 5)
    n_bytes = sum(path.stat().st_size for path in files)
    items = n_bytes // 20

    def read(**options: Any) -> np.ndarray:
        return next(nuscenes_sweeps(root, sweeps=sweeps, **options)).points

    def check(_: np.ndarray) -> dict[str, str]:
        everything = read(remove_own_car=False)
        if len(everything) != items:
            return {"largest error": "shape"}
        turned = np.column_stack([key[:, 1], -key[:, 0], key[:, 2], key[:, 3] / 255])
        return {"largest error": f"{np.abs(everything[: len(key)] - turned).max():.0e}"}

    return Reading(f"nuscenes_sweeps, {sweeps} sweeps", read, check, items=items, values=5 * items, n_bytes=n_bytes)


def volume_readings(folder: Path, n: int) -> list[Reading]:
    """Readers of published occupancy; the volumes hold the voxels of a cloud of n points."""
    readers: dict[str, tuple[str, Callable[[Path], OccupancyVolume]]] = {
        "occ3d": ("read_occ3d (dense, compressed)", read_occ3d),
        "openoccupancy": ("read_openoccupancy (rows)", read_openoccupancy),
        "surroundocc": ("read_surroundocc (rows)", read_surroundocc),
        "occnet": ("read_flat_index (rows)", lambda path: read_flat_index(path, "OccNet")),
        "semantickitti": ("read_semantickitti_volume (dense, labels and 2 masks)", read_semantickitti_volume),
    }
    readings = []
    for key, (files, grid, occupied) in write_volumes(folder, sweep(n)).items():

        def check(got: OccupancyVolume, occupied: Any = occupied) -> dict[str, str]:
            return {"occupied": f"{int(occupied.sum()):,}", "voxels that differ": str(int((got.occupied != occupied).sum()))}

        name, reader = readers[key]
        n_bytes = sum(file.stat().st_size for file in files)
        run = lambda reader=reader, path=files[0]: reader(path)  # noqa: E731
        readings.append(Reading(name, run, check, items=grid.n_cells, values=grid.n_cells, n_bytes=n_bytes))
    return readings

"""What a file or folder of somebody's is, what is in it, and whether that is plausible: ``occlab frames PATH``."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import OcclabError
from ..files import write_atomically
from ..grid import VoxelGrid
from ..voxelize import occupancy
from . import occupancy_files
from .arrays import peek_npy, peek_npz, read_npy
from .cloud_files import SUFFIXES, cloud_paths, cloud_sweep
from .frame import Frame
from .kitti import find_root
from .nuscenes_tables import find_tables
from .store import read_frame
from .sweep import Sweep, read_sweep
from .volume import OccupancyVolume

UNDERSTOOD = (
    "a nuScenes root (v1.0-*/sample_data.json), SemanticKITTI or KITTI odometry (sequences/NN/velodyne) or its voxels, Occ3D "
    "(labels.npz), OpenOccupancy (scene_*/occupancy/*.npy), SurroundOcc (*.npy of 3 or 4 columns), OccNet (*_occ.npy) or "
    f"OpenScene (*_occ_final.npy), occlab frames (*.npz), or point clouds ({', '.join(SUFFIXES)})"
)
Item = Sweep | Frame | OccupancyVolume


@dataclass(frozen=True)
class Guess:
    """What a path holds."""

    kind: str
    """``nuscenes``, ``kitti``, ``semantickitti-voxels``, ``occ3d``, ``openoccupancy``, ``surroundocc``, ``occnet``,
    ``openscene``, ``frames`` or ``clouds``."""
    what: str
    """The same for people."""
    count: int | None
    """Sweeps, frames or volumes; None where counting would mean reading the data set's tables."""
    path: Path
    files: tuple[Path, ...] = field(default=(), repr=False)


def guess(path: str | Path) -> Guess:
    """Say of what format a file or folder is, by names and headers; no more than one array is read.

    Raises:
        OcclabError: nothing there, or nothing that is understood; the sentence lists what is.
    """
    path = Path(path)
    if not path.exists():
        raise OcclabError(f"{path}: no such file or folder; expected {UNDERSTOOD}")
    found = _of_file(path) if path.is_file() else _of_folder(path)
    if found is None:
        raise OcclabError(f"{path}: cannot tell what this is; expected {UNDERSTOOD}")
    return found


def _of_folder(path: Path) -> Guess | None:
    if any(_sorted(folder, "*.json") for folder in find_tables(path)):
        return Guess("nuscenes", "nuScenes v1.0", None, path)
    if (root := find_root(path)) is not None:
        return _of_sequences(root)
    if path.name == "voxels" and (files := _sorted(path, "*.bin")):
        return Guess("semantickitti-voxels", "SemanticKITTI voxels", len(files), path, files)
    for below in ("", "*/", "*/*/", "gts/*/*/"):
        if files := _sorted(path, f"{below}labels.npz"):
            return Guess("occ3d", "Occ3D occupancy with masks", len(files), path, files)
    inside = ("*.npy",) if path.name == "occupancy" else ()
    for pattern in ("scene_*/occupancy/*.npy", "occupancy/*.npy", *inside):
        if files := _sorted(path, pattern):
            return Guess("openoccupancy", "OpenOccupancy voxels", len(files), path, files)
    for kind, name, suffix in (("openscene", "OpenScene", "_occ_final.npy"), ("occnet", "OccNet", "_occ.npy")):
        for below in ("", "occ_gt/", "*/occ_gt/", "*/*/occ_gt/"):
            if files := _sorted(path, f"{below}*{suffix}"):
                return Guess(kind, f"{name} voxels by flat index", len(files), path, files)
    if files := _sorted(path, "*.npz"):
        return Guess("frames", "occlab frames", len(files), path, files) if "header" in peek_npz(files[0]) else None
    if not any(p.suffix.lower() in SUFFIXES for p in path.glob("*")):
        return None
    clouds = tuple(cloud_paths(path))
    one = _of_file(clouds[0])
    return None if one is None else Guess(one.kind, one.what, len(clouds), path, clouds)


def _of_sequences(root: Path) -> Guess:
    for folder, kind, what in (
        ("velodyne", "kitti", "SemanticKITTI or KITTI odometry"),
        ("voxels", "semantickitti-voxels", "SemanticKITTI voxels"),  # they can be downloaded without the sweeps
    ):
        if files := _sorted(root, f"sequences/*/{folder}/*.bin"):
            sequences = sorted({file.parents[1].name for file in files})
            return Guess(kind, f"{what}, sequences {', '.join(sequences)}", len(files), root, files)
    raise OcclabError(f"{root}: expected sweeps or voxels in sequences/NN/velodyne/*.bin or sequences/NN/voxels, found none")


def _of_file(path: Path) -> Guess | None:
    suffix, kind, what = path.suffix.lower(), "", ""
    if suffix == ".npz":
        names = peek_npz(path)
        if "semantics" in names:
            kind, what = "occ3d", "Occ3D occupancy with masks"
        elif "header" in names:
            kind, what = "frames", "occlab frame"
    elif suffix == ".npy":
        kind, what = _of_npy(path)
    elif path.parent.name == "voxels" and suffix in (".bin", ".label", ".invalid", ".occluded"):
        kind, what = "semantickitti-voxels", "SemanticKITTI voxels"
    elif suffix in SUFFIXES:
        kind, what = "clouds", f"point cloud ({suffix})"
    return Guess(kind, what, 1, path, (path,)) if kind else None


def _of_npy(path: Path) -> tuple[str, str]:
    header = peek_npy(path)
    columns = header.shape[1] if len(header.shape) == 2 else 0
    cells = columns in (2, 3, 4, 7) and (header.dtype.kind in "iu" or _cells(read_npy(path)))
    if cells and columns == 2:
        name = "OpenScene" if path.stem.endswith("_occ_final") else "OccNet"
        return name.lower(), f"{name} voxels by flat index"
    if cells and (columns == 7 or (columns == 4 and path.parent.name == "occupancy")):
        return "openoccupancy", "OpenOccupancy voxels"
    if cells:
        return "surroundocc", "SurroundOcc voxels" + (" (binary)" if columns == 3 else "")
    if header.dtype.kind == "f" and columns >= 3:
        return "clouds", "point cloud (.npy)"
    return "", ""


def _cells(rows: np.ndarray) -> bool:
    """Do rows of floats begin with cell numbers? Coordinates in metres have fractions or are negative."""
    head = rows[:, :3]
    return len(head) > 0 and bool(np.isfinite(head).all() and (head >= 0).all() and (head == np.floor(head)).all())


def _sorted(path: Path, pattern: str) -> tuple[Path, ...]:
    return tuple(sorted(path.glob(pattern)))


def read_items(found: Guess, limit: int | None = None) -> Iterator[Item]:
    """What was found, one after another: sweeps, frames or volumes.

    A nuScenes sweep comes with the car's own returns, as it is in its file.

    Raises:
        OcclabError: a file is broken; the sentence names it.
    """
    if found.kind == "nuscenes":
        from .nuscenes import nuscenes_sweeps

        yield from islice(nuscenes_sweeps(found.path, remove_own_car=False, limit=limit), limit)
        return
    for path in found.files[:limit]:
        yield _read_item(found.kind, path)


def _read_item(kind: str, path: Path) -> Item:
    if kind == "kitti":
        source = {"data_set": "SemanticKITTI", "sequence": path.parents[1].name, "frame": path.stem}
        return Sweep(read_sweep(path, 4), f"semantickitti-{source['sequence']}-{path.stem}", source)
    if kind == "semantickitti-voxels":
        stem, shifted = path.with_suffix(""), False
        if (path.parents[1] / "velodyne" / f"{path.stem}.bin").is_file():  # without the sweep nothing tells: as documented
            shifted = occupancy_files.semantickitti_release(path.parents[1], limit=1).shifted
        of = "scene" if stem.with_suffix(".label").is_file() else "scan"
        return occupancy_files.read_semantickitti_volume(stem, of, shifted=shifted)
    readers: dict[str, Callable[[Path], Item]] = {
        "occ3d": occupancy_files.read_occ3d,
        "openoccupancy": occupancy_files.read_openoccupancy,
        "surroundocc": occupancy_files.read_surroundocc,
        "occnet": lambda p: occupancy_files.read_flat_index(p, "OccNet"),
        "openscene": lambda p: occupancy_files.read_flat_index(p, "OpenScene"),
        "frames": read_frame,
        "clouds": cloud_sweep,
    }
    return readers[kind](path)


def facts(item: Item) -> dict[str, Any]:
    """What can be said of one sweep, frame or volume, JSON-able.

    For a cloud: points, range along x, y, z (metres), share of the points inside ``VoxelGrid()`` and within 2 m of the
    origin (often the car itself), and of the grid the occupied voxels, their share, and the densest height channel with its
    occupied cells. For a volume: its grid, the same of its voxels, and the share of voxels in each mask with the share that
    is occupied there.
    """
    if isinstance(item, OccupancyVolume):
        masks = {}
        for name, mask in item.masks.items():
            inside = int((item.occupied & mask).sum())
            masks[name] = {"share": float(mask.float().mean()), "rate": inside / max(int(mask.sum()), 1)}
        grid = {"range": item.grid.point_cloud_range, "voxel_size": item.grid.voxel_size, "reference": item.reference}
        return {"name": item.name, "grid": grid, **_counts(item.occupied, item.grid), "masks": masks}
    clouds = {"LiDAR": item.points} if isinstance(item, Sweep) else {"pseudo": item.pseudo, "LiDAR": item.lidar}
    return {"name": item.name, "clouds": {name: _cloud_facts(points) for name, points in clouds.items()}}


def _cloud_facts(points: np.ndarray) -> dict[str, Any]:
    grid, cloud = VoxelGrid(), torch.from_numpy(points)
    low, high = points[:, :3].min(axis=0), points[:, :3].max(axis=0)
    return {
        "points": len(points),
        "range": {axis: (float(a), float(b)) for axis, a, b in zip("xyz", low, high, strict=True)},
        "inside": float(grid.index_of(cloud)[1].float().mean()),
        "within_2_m": float((np.linalg.norm(points[:, :2], axis=1) < 2).mean()),
        **_counts(occupancy(cloud, grid)[0], grid),
    }


def _counts(occupied: torch.Tensor, grid: VoxelGrid) -> dict[str, Any]:
    channels = occupied.sum(dim=(1, 2))
    densest = int(channels.argmax())
    return {
        "occupied": int(occupied.sum()),
        "rate": float(occupied.float().mean()),
        "densest_channel": {"z": grid.heights()[densest], "cells": int(channels[densest])},
        "empty_channels": int((channels == 0).sum()),
    }


def describe(path: str | Path, limit: int = 3) -> str:
    """What a file or folder holds, in words: what it is, and :func:`facts` of its first ``limit`` items."""
    found = guess(path)
    return _words(found, [facts(item) for item in read_items(found, limit)])


def _words(found: Guess, rows: list[dict[str, Any]]) -> str:
    count = "" if found.count is None else f", {found.count:,} in all"
    lines = [f"{found.path}: {found.what}{count}"]
    for row in rows:
        lines.append("".join(c if c.isprintable() else "?" for c in row["name"]))  # a file may say what it likes to a terminal
        for name, cloud in row.get("clouds", {}).items():
            spans = ", ".join(f"{axis} {low:.1f} to {high:.1f}" for axis, (low, high) in cloud["range"].items())
            near = f", {cloud['within_2_m']:.1%} within 2 m of the origin" if cloud["within_2_m"] > 0.01 else ""
            lines.append(f"  {name:8} {cloud['points']:,} points, {spans} m; {cloud['inside']:.1%} inside the grid{near}")
            lines.append(f"  {'':8} {_voxels(cloud)}")
        if "grid" in row:
            grid = VoxelGrid(row["grid"]["range"], row["grid"]["voxel_size"])
            shape, size = " x ".join(map(str, grid.shape[::-1])), " x ".join(f"{edge:g}" for edge in grid.voxel_size)
            low, high = grid.point_cloud_range[:3], grid.point_cloud_range[3:]
            spans = ", ".join(f"{axis} {a:g} to {b:g}" for axis, a, b in zip("xyz", low, high, strict=True))
            lines.append(f"  {shape} voxels of {size} m, {spans} m, {row['grid']['reference']} frame")
            lines.append(f"  {_voxels(row)}")
        for name, mask in row.get("masks", {}).items():
            lines.append(f"  mask {name}: {mask['share']:.1%} of the voxels, {mask['rate']:.1%} of those occupied")
    return "\n".join(lines)


def _voxels(counts: dict[str, Any]) -> str:
    densest = counts["densest_channel"]
    return (
        f"{counts['occupied']:,} voxels occupied ({counts['rate']:.2%}), densest channel {densest['cells']:,} at "
        f"z = {densest['z']:.2f} m, {counts['empty_channels']} channels empty"
    )


def show_frames(
    path: str | Path,
    *,
    limit: int = 3,
    as_json: bool = False,
    picture: Path | None = None,
    draw: Callable[[Item], str] | None = None,
) -> str:
    """What ``occlab frames PATH`` prints.

    Args:
        limit: items to look into.
        as_json: one JSON object instead of words.
        picture: where to write a page with the first item drawn; needs ``draw``.
        draw: an item -> the text of an HTML page that needs no other file.

    Raises:
        OcclabError: nothing that is understood, a broken file, a limit below 1, or a picture that cannot be written.
    """
    if limit < 1:
        raise OcclabError(f"expected a limit of at least 1, got {limit}")
    found, rows, page = guess(path), [], ""
    for i, item in enumerate(read_items(found, limit)):
        rows.append(facts(item))
        page = draw(item) if i == 0 and picture is not None and draw is not None else page
    if picture is not None:
        write_atomically(Path(picture), lambda partial: partial.write_text(page, encoding="utf-8"))
    if as_json:
        return json.dumps({"kind": found.kind, "what": found.what, "count": found.count, "items": rows})
    return _words(found, rows) + (f"\npicture: {picture}" if picture is not None else "")

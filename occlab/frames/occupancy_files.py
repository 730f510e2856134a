"""Published occupancy labels, whatever the order of their axes, as volumes (Z, Y, X) with x forward, y left, z up.

================= ===================================== ============================== ===================================
reader            file                                  grid                           axes of the file
================= ===================================== ============================== ===================================
read_occ3d        ``labels.npz``, uint8 (200, 200, 16)  0.4 m, +-40 m, z -1 to 5.4     dense x, y, z; ego; x forward
read_openoccupancy ``.npy`` (N, 4) or (N, 7)            0.2 m, +-51.2 m, z -5 to 3     rows z, y, x, class; LiDAR; x right
read_surroundocc  ``.npy`` (N, 4) or (N, 3)             0.5 m, +-50 m, z -5 to 3       rows x, y, z, class; LiDAR; x right
read_flat_index   ``.npy`` (N, 2), OccNet               0.5 m, +-50 m, z -5 to 3       x + 200 y + 40000 z; LiDAR; x right
read_flat_index   ``.npy`` (N, 2), OpenScene            0.5 m, +-50 m, z -4 to 4       the same; LiDAR (nuPlan); x forward
read_semantickitti_volume ``voxels/*``, 256 x 256 x 32  0.2 m, x 0 to 51.2 m, y +-25.6 dense x, y, z; LiDAR; x forward
================= ===================================== ============================== ===================================

"x right" is the frame of nuScenes' LIDAR_TOP: x right, y forward, z up. Such a volume is turned by a quarter: the cell
(x, y) of the file becomes the cell (y, n - 1 - x). The grids are square and centred on the sensor, so that is exact.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import BoolTensor, Tensor

from ..errors import OcclabError
from ..grid import VoxelGrid
from ..voxelize import occupancy
from .arrays import ArrayHeader, read_npy, read_npz
from .kitti import SEMANTICKITTI_GRID, read_labels, read_voxels, semantickitti_voxels
from .point_files import read_bin
from .volume import OccupancyVolume

OCC3D_GRID = VoxelGrid((-40.0, -40.0, -1.0, 40.0, 40.0, 5.4), (0.4, 0.4, 0.4))
OPENOCCUPANCY_GRID = VoxelGrid((-51.2, -51.2, -5.0, 51.2, 51.2, 3.0), (0.2, 0.2, 0.2))
SURROUNDOCC_GRID = VoxelGrid((-50.0, -50.0, -5.0, 50.0, 50.0, 3.0), (0.5, 0.5, 0.5))
OPENSCENE_GRID = VoxelGrid((-50.0, -50.0, -4.0, 50.0, 50.0, 4.0), (0.5, 0.5, 0.5))
REGENERATED_GRID = VoxelGrid((0.0, -25.6, -2.0, 51.2, 25.6, 4.4), (0.2, 0.2, 0.2))
"""SemanticKITTI's voxels as regenerated in August 2020; those of before lie on ``kitti.SEMANTICKITTI_GRID``, one lower."""
IGNORED = 255
"""Class number of voxels that no score counts."""

_SEMANTICKITTI_CLASSES = {
    **{0: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10, 48: 11, 49: 12, 50: 13},
    **{51: 14, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 252: 1, 253: 7, 254: 6, 255: 8, 256: 5, 257: 5, 258: 4, 259: 5},
    **dict.fromkeys((1, 52, 99), IGNORED),
}
"""The data set's own map to 19 classes (``learning_map``), with 0 for empty and what has none of the 19 ignored."""


def read_occ3d(path: str | Path) -> OccupancyVolume:
    """Occ3D-nuScenes, ``gts/SCENE/TOKEN/labels.npz`` (Tian et al., NeurIPS 2023).

    Layout: ``semantics``, ``mask_lidar``, ``mask_camera``, each uint8 (200, 200, 16) in x, y, z; 0.4 m, x and y from -40 to
    40 m, z from -1 to 5.4 m, in the **ego** frame (origin on the ground below the rear axle, x forward, y left). Classes 0
    (others) to 16; 17 is free. A mask is 1 where the voxel was observed, by the LiDAR or by a camera.

    Look at the road before you add a cloud of yours: in the published sample all 8,433 voxels of it lie in the lowest layer,
    -1.0 to -0.6 m, where an ego frame on the ground has it at 0.

    Raises:
        OcclabError: another dtype or shape, a class above 17, a mask that is not 0 and 1, a damaged file, a zip bomb.
    """
    path = Path(path)
    header = ArrayHeader(np.dtype(np.uint8), (200, 200, 16))
    arrays = read_npz(path, "an Occ3D labels.npz", dict.fromkeys(("semantics", "mask_lidar", "mask_camera"), header))
    _check_classes(path, arrays["semantics"], 17)
    masks = {}
    for name in ("lidar", "camera"):
        mask = arrays[f"mask_{name}"]
        if mask.max() > 1:
            raise OcclabError(f"{path}: mask_{name}: expected 0 and 1, got {mask.max()}")
        masks[name] = _zyx(torch.from_numpy(mask.astype(bool)))
    classes = _zyx(torch.from_numpy(arrays["semantics"]))
    return OccupancyVolume(classes != 17, OCC3D_GRID, f"occ3d-{_place(path)}", "ego", classes, masks, _source("Occ3D", path))


def read_openoccupancy(path: str | Path) -> OccupancyVolume:
    """OpenOccupancy (nuScenes-Occupancy), ``scene_TOKEN/occupancy/LIDAR_TOKEN.npy`` (Wang et al., ICCV 2023).

    Layout: (N, 4) ``[z, y, x, class]``, z first; or (N, 7) ``[z, y, x, vx, vy, vz, class]``, of which the velocity is not
    kept. 0.2 m, x and y from -51.2 to 51.2 m, z from -5 to 3 m: 512 x 512 x 40 cells, in LIDAR_TOP's own axes (x right, y
    forward), turned here. Classes 1 to 16. Rows of class 0 are noise to its authors' loader (they become 255): they are not
    occupied, and ``masks["labelled"]`` leaves them out. A voxel with no row is free.
    """
    path = Path(path)
    rows = _rows(path, "OpenOccupancy rows [z, y, x, class] or [z, y, x, vx, vy, vz, class]", (4, 7))
    classes = _whole(path, rows[:, -1], "class")
    _check_classes(path, classes, 16)
    return _from_rows(path, "OpenOccupancy", _whole(path, rows[:, [2, 1, 0]], "index"), classes, OPENOCCUPANCY_GRID)


def read_surroundocc(path: str | Path) -> OccupancyVolume:
    """SurroundOcc, ``samples/*.npy`` (Wei et al., ICCV 2023).

    Layout: (N, 4) ``[x, y, z, class]``; or (N, 3) ``[x, y, z]`` in the binary variant, where ``classes`` is None. 0.5 m, x
    and y from -50 to 50 m, z from -5 to 3 m: 200 x 200 x 16 cells, in LIDAR_TOP's own axes (x right, y forward), turned
    here. Classes 1 to 16. Rows of class 0 are ignored by its authors' loader (they become 255): they are not occupied,
    and ``masks["labelled"]`` leaves them out. A voxel with no row is free (class 0 in the volume), an occluded one too.
    """
    path = Path(path)
    rows = _rows(path, "SurroundOcc rows [x, y, z, class] or [x, y, z]", (4, 3))
    classes = None
    if rows.shape[1] == 4:
        classes = _whole(path, rows[:, 3], "class")
        _check_classes(path, classes, 16)
    return _from_rows(path, "SurroundOcc", _whole(path, rows[:, :3], "index"), classes, SURROUNDOCC_GRID)


def read_flat_index(path: str | Path, data_set: Literal["OccNet", "OpenScene"]) -> OccupancyVolume:
    """OccNet (``occ_gt/NNN_occ.npy``; Tong et al., ICCV 2023) and OpenScene (``occ_gt/NNN_occ_final.npy``).

    Layout: int (N, 2), ``[index, class]`` with **index = x + 200 y + 40000 z**; 0.5 m, x and y from -50 to 50 m.

    * OccNet: z from -5 to 3 m, LIDAR_TOP's own axes (x right, y forward), turned here; classes 0 to 15, 16 is free.
    * OpenScene: z from -4 to 4 m, nuPlan's LiDAR axes (x forward, y left) as they are; classes 0 to 10, 11 is free.

    The file itself does not say which of the two it is. A voxel with no row is free.
    """
    path = Path(path)
    if data_set not in ("OccNet", "OpenScene"):
        raise OcclabError(f"read_flat_index reads files of 'OccNet' or 'OpenScene', not {data_set!r}")
    grid, free = (SURROUNDOCC_GRID, 16) if data_set == "OccNet" else (OPENSCENE_GRID, 11)
    rows = _whole(path, _rows(path, f"{data_set} rows [x + 200 y + 40000 z, class]", (2,)), "index and class")
    _check_classes(path, rows[:, 1], free)
    bad = (rows[:, 0] < 0) | (rows[:, 0] >= grid.n_cells)
    if bad.any():
        raise OcclabError(f"{path}: expected indices from 0 to {grid.n_cells - 1}, got {rows[bad][0, 0]} in {bad.sum()} rows")
    xyz = np.stack(np.unravel_index(rows[:, 0], grid.shape)[::-1], axis=1)
    return _from_rows(path, data_set, xyz, rows[:, 1], grid, free=free, turned=data_set == "OccNet")


def read_semantickitti_volume(
    stem: str | Path, of: Literal["scene", "scan"] = "scene", *, shifted: bool = False
) -> OccupancyVolume:
    """SemanticKITTI's scene completion task, ``sequences/NN/voxels/FRAME.*`` (Behley et al., ICCV 2019).

    Layout: 256 x 256 x 32 voxels in x, y, z, z fastest; 0.2 m, x from 0 to 51.2 m, y from -25.6 to 25.6 m, in the LiDAR's
    frame (x forward, y left). ``.label`` uint16; ``.bin``, ``.invalid`` and ``.occluded`` packed bits, the most significant of
    a byte first. ``masks["valid"]`` is where ``.invalid`` is 0 (seen in some sweep of the drive), ``masks["visible"]`` where
    ``.occluded`` is 0 or ``.bin`` is 1 (seen in this one: the published files count the voxel that was hit as occluded, with
    all that lies behind it); a mask is left out where its file is missing.

    Args:
        stem: ``voxels/000000``, with or without a suffix.
        of: ``scene``: ``.label``, the accumulated sweeps, with classes; ``scan``: ``.bin``, this sweep alone, without.
        shifted: z from -2.2 to 4.2 m, where the files of before August 2020 lie; otherwise from -2.0 to 4.4 m, as
            documented and as regenerated. :func:`semantickitti_release` finds out which.

    ``classes`` are the 19 of the data set's ``learning_map``, for numbers of the file go to 259; 0 is empty, 255 is ignored
    (occupied by something of none of the 19) and not ``valid``.
    """
    stem = Path(stem)
    stem = stem.with_suffix("") if stem.suffix in (".bin", ".label", ".invalid", ".occluded") else stem
    grid = SEMANTICKITTI_GRID if shifted else REGENERATED_GRID
    if of not in ("scene", "scan"):
        raise OcclabError(f"read_semantickitti_volume reads the 'scene' or the 'scan', not {of!r}")
    scan, invalid, occluded = (stem.with_suffix(suffix) for suffix in (".bin", ".invalid", ".occluded"))
    masks = {}
    if invalid.is_file():
        masks["valid"] = ~_zyx(read_voxels(invalid))
    if occluded.is_file():
        masks["visible"] = ~_zyx(read_voxels(occluded)) | _zyx(read_voxels(scan))
    classes = None
    if of == "scan":
        occupied = _zyx(read_voxels(scan))
    else:
        classes = _semantickitti_classes(stem.with_suffix(".label"))
        occupied = classes != 0
        masks["valid"] = masks.get("valid", torch.ones_like(occupied)) & (classes != IGNORED)
    sequence = stem.absolute().parent.parent.name
    source = {"data_set": "SemanticKITTI", "sequence": sequence, "frame": stem.name, "of": of, "shifted": shifted}
    return OccupancyVolume(occupied, grid, f"semantickitti-{sequence}-{stem.name}-{of}", "lidar", classes, masks, source)


@dataclass(frozen=True)
class Release:
    """Which of SemanticKITTI's two releases of voxels a folder holds, and how sure that is."""

    shifted: bool
    iou_shifted: float
    """IoU of ``.bin`` with the voxels rebuilt from sweep and labels on the grid from -2.2 m."""
    iou_regenerated: float
    """The same on the grid from -2.0 m."""
    frames: int

    def __str__(self) -> str:
        name = "the old release, one voxel low (z from -2.2 m)" if self.shifted else "the regenerated release (z from -2.0 m)"
        ious = f"{self.iou_shifted:.2f} from -2.2 m, {self.iou_regenerated:.2f} from -2.0 m"
        return f"{name}: IoU with the sweeps of {self.frames} frames {ious}"


def semantickitti_release(folder: str | Path, limit: int = 3) -> Release:
    """Find out whether the voxels of a sequence are the old release's, by rebuilding ``.bin`` from sweeps and labels.

    Args:
        folder: ``sequences/NN``, with ``voxels``, ``velodyne`` and ``labels`` (test sequences have none of the last).
        limit: frames to compare at most.

    Raises:
        OcclabError: no frame with both, or neither release fits (an IoU of 1/2): then the files do not belong together.
    """
    folder = Path(folder)
    paths = [p for p in sorted((folder / "voxels").glob("*.bin")) if (folder / "velodyne" / p.name).is_file()][:limit]
    if not paths:
        raise OcclabError(f"{folder}: expected voxels/*.bin with sweeps of the same names in velodyne, found no such pair")
    hits, unions = np.zeros(2), np.zeros(2)
    for path in paths:
        published = read_voxels(path)
        points = read_bin(folder / "velodyne" / path.name, 4)
        labels = np.ones(len(points), np.uint32)
        if (folder / "labels").is_dir():
            labels = read_labels(folder / "labels" / f"{path.stem}.label", len(points))
        kept = torch.from_numpy(points[labels != 0])
        for i, built in enumerate(
            (semantickitti_voxels(points, labels), occupancy(kept, REGENERATED_GRID)[0].permute(2, 1, 0))
        ):
            hits[i] += int((built & published).sum())
            unions[i] += int((built | published).sum())
    shifted, regenerated = hits / np.maximum(unions, 1)
    if max(shifted, regenerated) < 0.5:
        raise OcclabError(
            f"{folder}: expected voxels of the sweeps beside them, but their IoU with those rebuilt is {shifted:.2f} with z "
            f"from -2.2 m and {regenerated:.2f} from -2.0 m"
        )
    return Release(bool(shifted > regenerated), float(shifted), float(regenerated), len(paths))


def _semantickitti_classes(path: Path) -> Tensor:
    """(Z, Y, X) uint8."""
    shape = SEMANTICKITTI_GRID.shape[::-1]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OcclabError(
            f"{path}: expected SemanticKITTI voxel labels, but it cannot be read ({error.strerror}); "
            f"the sweep's own voxels (.bin) are read with of='scan'"
        ) from error
    if len(content) != 2 * SEMANTICKITTI_GRID.n_cells:
        raise OcclabError(f"{path}: expected {2 * SEMANTICKITTI_GRID.n_cells} bytes for {shape} labels, got {len(content)}")
    raw = np.frombuffer(content, "<u2")
    unknown = sorted(set(np.unique(raw).tolist()) - set(_SEMANTICKITTI_CLASSES))
    if unknown:
        raise OcclabError(f"{path}: expected SemanticKITTI's class numbers, got {unknown[0]}, which is none of them")
    table = np.zeros(max(_SEMANTICKITTI_CLASSES) + 1, np.uint8)
    table[list(_SEMANTICKITTI_CLASSES)] = list(_SEMANTICKITTI_CLASSES.values())
    return _zyx(torch.from_numpy(table[raw]).view(shape))


def _zyx(volume_xyz: Tensor) -> Tensor:
    return volume_xyz.permute(2, 1, 0).contiguous()


def _place(path: Path) -> str:
    """``SCENE-TOKEN`` of ``.../SCENE/TOKEN/labels.npz``: every file of the data set has one name."""
    return "-".join(path.absolute().parts[-3:-1])


def _source(data_set: str, path: Path) -> dict[str, Any]:
    return {"data_set": data_set, "file": "/".join(path.absolute().parts[-3:])}


def _rows(path: Path, what: str, columns: tuple[int, ...]) -> np.ndarray:
    rows = read_npy(path, what)
    if rows.ndim != 2 or rows.shape[1] not in columns or not len(rows):
        raise OcclabError(f"{path}: expected {what}, one occupied voxel a row, got {rows.dtype} of shape {rows.shape}")
    return rows


def _whole(path: Path, values: np.ndarray, what: str) -> np.ndarray:
    """Numbers that must be whole, as int64: some tools save indices as float."""
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise OcclabError(f"{path}: expected whole numbers as {what}, got fractions, NaN or infinity; a point cloud perhaps?")
    if np.abs(values.astype(np.float64)).max(initial=0) > 2**31:
        raise OcclabError(f"{path}: expected cell numbers as {what}, got numbers of more than 31 bits")
    return values.astype(np.int64)


def _check_classes(path: Path, classes: np.ndarray, most: int) -> None:
    bad = ((classes < 0) | (classes > most)) & (classes != IGNORED)
    if most == 17:  # Occ3D marks what is not observed in its masks, not in its classes
        bad |= classes == IGNORED
    if bad.any():
        raise OcclabError(f"{path}: expected classes from 0 to {most}, got {classes[bad].flat[0]} in {bad.sum()} voxels")


def _from_rows(
    path: Path,
    data_set: str,
    xyz: np.ndarray,
    classes: np.ndarray | None,
    grid: VoxelGrid,
    *,
    free: int | None = None,
    turned: bool = True,
) -> OccupancyVolume:
    """A volume from cell numbers (N, 3) x, y, z of the file and (N,) classes.

    Without ``free`` empty voxels get class 0, which rows cannot have: a row of class 0 is one to ignore.
    """
    nz, ny, nx = grid.shape
    outside = ((xyz < 0) | (xyz >= (nx, ny, nz))).any(axis=1)
    if outside.any():
        got = tuple(xyz[outside][0].tolist())
        raise OcclabError(f"{path}: expected cells x, y, z below {nx, ny, nz}, got {got}; {outside.sum()} rows lie outside")
    x, y, z = xyz.T
    if turned:
        x, y = y, nx - 1 - x
    flat = (z * ny + y) * nx + x
    values = np.ones(len(flat), np.int64) if classes is None else classes
    if free is None and classes is not None:
        values = np.where(values == 0, IGNORED, values)
    background = 0 if free is None else free
    volume = np.full(grid.n_cells, background, np.uint8)
    volume[flat] = values
    twice = volume[flat] != values
    if twice.any():
        cell = tuple(xyz[twice][0].tolist())
        raise OcclabError(f"{path}: expected one class a voxel, but cell x, y, z = {cell} is listed with two classes")
    labels = torch.from_numpy(volume).view(grid.shape)
    ignored: BoolTensor = labels == IGNORED
    occupied = (labels != background) & ~ignored
    name, masks = f"{data_set.lower()}-{path.stem}", {"labelled": ~ignored} if ignored.any() else {}
    return OccupancyVolume(occupied, grid, name, "lidar", None if classes is None else labels, masks, _source(data_set, path))

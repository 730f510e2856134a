"""SemanticKITTI and the KITTI odometry data: sweeps, stereo pairs, calibration, poses, point labels, voxels.

Layout: ``ROOT/sequences/NN/`` with ``velodyne/*.bin``, ``image_2/*.png`` and ``image_3/*.png`` (left and right colour
camera), ``calib.txt``, ``poses.txt``, ``labels/*.label``, ``voxels/*.bin``.
Formats: Geiger et al., "Are we ready for autonomous driving?", CVPR 2012, odometry development kit; Behley et al.,
"SemanticKITTI", ICCV 2019, and its scene completion task. The data is licensed for non-commercial use only.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import BoolTensor
from tqdm.auto import tqdm

from .. import settings
from ..errors import OcclabError, require
from ..grid import VoxelGrid
from ..voxelize import occupancy
from .camera import Camera
from .frame import Frame
from .point_files import read_bin
from .stereo import StereoConfig, stereo_points
from .store import VERSION, stored_frame

SEMANTICKITTI_GRID = VoxelGrid((0.0, -25.6, -2.2, 51.2, 25.6, 4.2), (0.2, 0.2, 0.2))
"""The grid that the published voxels lie on. The development kit says z starts at -2.0; the files fit only -2.2, one voxel
lower (IoU with the published voxels 0.99 and more, against 0.04 to 0.25)."""


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OcclabError(f"{path}: expected {what}, but it cannot be read ({error.strerror})") from error


def _numbers(words: list[str], where: str) -> np.ndarray:
    """The 12 numbers of a 3 x 4 matrix, row by row."""
    try:
        values = np.array([float(word) for word in words])
    except ValueError as error:
        raise OcclabError(f"{where}: expected 12 numbers, got {' '.join(words)[:60]!r}") from error
    if len(values) != 12 or not np.isfinite(values).all():
        raise OcclabError(f"{where}: expected 12 finite numbers (3 x 4, row by row), got {len(values)} values")
    return values.reshape(3, 4)


def find_root(path: str | Path) -> Path | None:
    """The folder that holds ``sequences``: ``path`` itself or its ``semantickitti`` or ``dataset``; None if there is none."""
    candidates = (Path(path), Path(path) / "semantickitti", Path(path) / "dataset")
    return next((folder for folder in candidates if (folder / "sequences").is_dir()), None)


def list_sequences(root: str | Path) -> list[str]:
    """Sequences with sweeps, e.g. ``["00", "01"]``."""
    found = sorted(folder.parent.name for folder in (Path(root) / "sequences").glob("*/velodyne"))
    if not found:
        raise OcclabError(f"{root}: expected a SemanticKITTI root with sequences/NN/velodyne, found no such folder")
    return found


def list_frames(root: str | Path, sequence: str) -> list[str]:
    """Frames of a sequence that have a sweep and both colour images, e.g. ``["000000", "000005"]``."""
    folder = Path(root) / "sequences" / sequence
    stems = [{path.stem for path in folder.glob(pattern)} for pattern in ("velodyne/*.bin", "image_2/*.png", "image_3/*.png")]
    found = sorted(set.intersection(*stems))
    if not found:
        raise OcclabError(
            f"{folder}: expected frames with a sweep and both colour images, found {len(stems[0])} in velodyne, "
            f"{len(stems[1])} in image_2 and {len(stems[2])} in image_3, none in all three"
        )
    return found


def read_calib(path: str | Path) -> dict[str, np.ndarray]:
    """``calib.txt`` of a sequence.

    Returns:
        P0, P1, P2, P3 (3, 4): rectified camera-0 coordinates to pixels of each camera. P2 and P3 are the colour pair.
        Tr (4, 4): LiDAR coordinates to rectified camera 0, metres.

    Raises:
        OcclabError: no such file; P2, P3 or Tr is missing; a matrix that is not 12 numbers.
    """
    path = Path(path)
    matrices = {}
    for line in _read(path, "a KITTI calib.txt").decode("utf-8", errors="replace").splitlines():
        key, _, rest = line.partition(":")
        if key in ("P0", "P1", "P2", "P3", "Tr"):
            matrices[key] = _numbers(rest.split(), f"{path}: {key}")
    for key in ("P2", "P3", "Tr"):
        if key not in matrices:
            raise OcclabError(f"{path}: expected a KITTI odometry calib.txt with P2, P3 and Tr, but it has no {key}")
        if key != "Tr" and not abs(np.linalg.det(matrices[key][:, :3])) > 0:
            raise OcclabError(f"{path}: {key}: expected a projection with a focal length, got a singular matrix")
    matrices["Tr"] = np.vstack([matrices["Tr"], [0.0, 0.0, 0.0, 1.0]])
    return matrices


def read_poses(path: str | Path) -> np.ndarray:
    """``poses.txt``: (frames, 4, 4) float64, camera 0 of each frame to camera 0 of the first, metres.

    A LiDAR pose is ``inv(Tr) @ pose @ Tr``.
    """
    path = Path(path)
    lines = _read(path, "a KITTI poses.txt").decode("utf-8", errors="replace").splitlines()
    matrices = [_numbers(line.split(), f"{path} line {i}") for i, line in enumerate(lines, start=1) if line.strip()]
    if not matrices:
        raise OcclabError(f"{path}: expected a pose of 12 numbers a line, but the file is empty")
    poses = np.tile(np.eye(4), (len(matrices), 1, 1))
    poses[:, :3] = matrices
    return poses


def read_labels(path: str | Path, count: int | None = None) -> np.ndarray:
    """``labels/*.label``: (N,) uint32, one a point: class in the lower 16 bits, instance in the upper.

    Args:
        count: points in the sweep, to check against.
    """
    path = Path(path)
    content = _read(path, "SemanticKITTI point labels")
    labels = len(content) // 4
    if not content or len(content) % 4 or (count is not None and labels != count):
        wanted = "4 bytes a point" if count is None else f"{4 * count} bytes for the {count} points of its sweep"
        raise OcclabError(f"{path}: expected {wanted}, got {len(content)} bytes")
    return np.frombuffer(content, "<u4").astype(np.uint32)


def read_voxels(path: str | Path) -> BoolTensor:
    """``voxels/*.bin`` (also ``.invalid``, ``.occluded``): bits, the most significant of a byte first.

    Shape:
        returns: (256, 256, 32) bool in the file's order x, y, z, on :data:`SEMANTICKITTI_GRID`.
    """
    path, shape = Path(path), SEMANTICKITTI_GRID.shape[::-1]
    content = _read(path, "SemanticKITTI voxels")
    if len(content) * 8 != SEMANTICKITTI_GRID.n_cells:
        raise OcclabError(f"{path}: expected {SEMANTICKITTI_GRID.n_cells // 8} bytes for {shape} voxels, got {len(content)}")
    return torch.from_numpy(np.unpackbits(np.frombuffer(content, np.uint8)).astype(bool)).view(shape)


def semantickitti_voxels(points: np.ndarray, labels: np.ndarray) -> BoolTensor:
    """Rebuild the published ``voxels/*.bin`` of a sweep: labelled points from z = -2.0 up, on :data:`SEMANTICKITTI_GRID`.

    Measured on 7 published files: at most 1 voxel missing and 19 too many, of 10,000 to 16,000.

    Shape:
        points: (N, 4) float32. labels: (N,) uint32.
        returns: (256, 256, 32) bool, x, y, z.
    """
    if len(points) != len(labels):
        raise OcclabError(f"expected one label a point, got {len(points)} points and {len(labels)} labels")
    kept = torch.from_numpy(points[(labels != 0) & (points[:, 2] >= -2.0)])
    return occupancy(kept, SEMANTICKITTI_GRID)[0].permute(2, 1, 0)


def colour_camera(calib: dict[str, np.ndarray], key: str, width: int, height: int) -> Camera:
    """Camera ``P2`` or ``P3``, placed relative to the LiDAR.

    A projection matrix P is K [I | t]: its last column is the offset of this camera from camera 0, in pixels.
    """
    intrinsics, last = calib[key][:, :3], calib[key][:, 3]
    offset = np.eye(4)
    offset[:3, 3] = np.linalg.solve(intrinsics, last)
    return Camera(f"image_{key[1]}", width, height, intrinsics, offset @ calib["Tr"])


def _grey(content: bytes, path: Path) -> np.ndarray:
    cv2 = require("cv2", package="opencv-python-headless")
    whole = content.endswith(b"IEND\xaeB\x60\x82")  # some releases of OpenCV fill what is cut off with grey
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) if whole else None
    if image is None:
        raise OcclabError(f"{path}: expected a PNG image, but it is cut off or not an image")
    return image


def _build(folder: Path, frame: str, content: dict[str, bytes], config: StereoConfig) -> Frame:
    calib = read_calib(folder / "calib.txt")
    sweep = folder / "velodyne" / f"{frame}.bin"
    lidar = read_bin(sweep, 4, content["velodyne"])
    if not (lidar[:, 3].min() >= 0 and lidar[:, 3].max() <= 1):
        raise OcclabError(f"{sweep}: expected reflectance in [0, 1], got {lidar[:, 3].min():g} to {lidar[:, 3].max():g}")
    left, right = (_grey(content[side], folder / side / f"{frame}.png") for side in ("image_2", "image_3"))
    if left.shape != right.shape:
        raise OcclabError(f"{folder}: images {frame}.png of image_2 {left.shape} and image_3 {right.shape} must have one size")
    cameras = [colour_camera(calib, key, left.shape[1], left.shape[0]) for key in ("P2", "P3")]
    baseline = cameras[0].lidar_to_camera[0][3] - cameras[1].lidar_to_camera[0][3]
    pseudo = stereo_points(left, right, cameras[0], baseline, config)
    name = f"semantickitti-{folder.name}-{frame}"
    source = {"data_set": "SemanticKITTI", "sequence": folder.name, "frame": frame, "depth": "semi-global matching"}
    return Frame(pseudo, lidar, name, source, (cameras[0],))


def kitti_frame(root: str | Path, sequence: str, frame: str, config: StereoConfig = StereoConfig()) -> Frame:  # noqa: B008, frozen
    """One frame: the stereo pair's cloud as ``pseudo``, the sweep as ``lidar``, the left colour camera as ``view``.

    Matching takes a tenth of a second; the result is kept under ``settings.home()``, found again by the content of the four
    files and the stereo settings. Sweep points beyond 65.5 m are dropped.
    """
    folder = Path(root) / "sequences" / sequence
    paths = {
        side: folder / side / f"{frame}.{suffix}"
        for side, suffix in (("velodyne", "bin"), ("image_2", "png"), ("image_3", "png"))
    }
    content = {side: _read(path, "a file of a KITTI frame") for side, path in paths.items()}
    digest = hashlib.sha256(f"{VERSION} {config}".encode())
    for name in ("camera", "kitti", "point_files", "sampling", "stereo"):  # what the cloud depends on is part of its name
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    for part in (_read(folder / "calib.txt", "a KITTI calib.txt"), *content.values()):
        digest.update(hashlib.sha256(part).digest())
    path = settings.home() / "frames" / "semantickitti" / f"{sequence}-{frame}-{digest.hexdigest()[:16]}.npz"
    return stored_frame(path, lambda: _build(folder, frame, content, config))


def kitti_frames(
    root: str | Path,
    sequences: Sequence[str] | None = None,
    limit: int | None = None,
    config: StereoConfig = StereoConfig(),  # noqa: B008, frozen
) -> Iterator[Frame]:
    """Frames of a SemanticKITTI or KITTI odometry folder, in order.

    Args:
        root: the folder that holds ``sequences``.
        sequences: which, e.g. ``["00", "08"]``; all by default.
        limit: at most so many frames in all.

    Raises:
        OcclabError: a file is missing or broken; the sentence names it.
    """
    found = find_root(root)
    if found is None:
        raise OcclabError(
            f"{root}: expected a SemanticKITTI or KITTI odometry folder with sequences/NN, found no sequences folder"
        )
    wanted = list_sequences(found) if sequences is None else list(sequences)
    frames = [(sequence, frame) for sequence in wanted for frame in list_frames(found, sequence)][:limit]
    for sequence, frame in tqdm(frames, desc="stereo frames", mininterval=1.0, delay=1.0, unit="frame"):
        yield kitti_frame(found, sequence, frame, config)

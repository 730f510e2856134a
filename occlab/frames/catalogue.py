"""Where to get frames: simulated streets, the samples that ship with the repository, a folder of yours."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from .. import settings
from ..errors import OcclabError
from .frame import Frame
from .guess import guess, read_items
from .kitti import find_root, kitti_frames
from .nuscenes import nuscenes_sweeps
from .simulate import StreetConfig, simulate_frame
from .store import VERSION, fill_store, read_frame, read_store
from .sweep import Sweep, check_spread, read_sweep
from .volume import OccupancyVolume

SIMULATOR = ("camera", "depth_errors", "meshes", "props", "sampling", "scene", "sensors", "simulate")
"""Modules of this package on which a simulated frame depends."""
SAMPLES = Path(__file__).resolve().parents[2] / "data_samples"
_STREETS_PER_SEED = 10_000


def streets(count: int, seed: int = 0, config: StreetConfig | None = None) -> list[Frame]:
    """Simulated street frames, made once and read back ever after from ``settings.home()``.

    The same seed always gives the same streets, a longer list begins with the shorter one, and two seeds share none:
    train on one seed and measure on another.

    Raises:
        OcclabError: ``count`` outside 1 to 10,000, a negative seed, or Open3D is needed and not installed.
    """
    if not (1 <= count <= _STREETS_PER_SEED and seed >= 0):
        raise OcclabError(f"streets expects count from 1 to {_STREETS_PER_SEED} and seed >= 0, got {count} and {seed}")
    config = StreetConfig() if config is None else config
    # The simulator's own text is part of the key: frames of an older simulator must not be taken for this one's.
    text = b"".join((Path(__file__).parent / f"{name}.py").read_bytes() for name in SIMULATOR)
    key = json.dumps([asdict(config), seed, VERSION, hashlib.sha256(text).hexdigest()], sort_keys=True)
    folder = settings.home() / "frames" / f"streets-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    first = seed * _STREETS_PER_SEED
    names = [f"{i:06d}" for i in range(count)]
    make = lambda i: simulate_frame(first + i, config)  # noqa: E731
    return fill_store(folder, names, make, f"simulated streets, seed {seed}", repair=True)


def sample_frames() -> list[Frame]:
    """The frames in the repository's ``data_samples``: simulated, small, ready without Open3D."""
    if not any(SAMPLES.glob("*.npz")):
        raise OcclabError(f"{SAMPLES}: expected the sample frames (*.npz) that ship with the repository, found none")
    return read_store(SAMPLES)


def read_frames(
    path: str | Path, limit: int | None = None, *, pseudo: Callable[[Sweep], np.ndarray] | None = None
) -> list[Frame]:
    """Frames from a folder or file of any kind that is understood, at most ``limit`` of them.

    Frames that occlab stored are read back; SemanticKITTI and KITTI odometry with both colour images become stereo frames,
    and without images take their pseudo points from ``pseudo/*.bin`` beside ``velodyne`` (float32 x, y, z, confidence),
    where there are any: then sweeps without such a file are passed over. All other sweeps need ``pseudo``.

    Args:
        pseudo: makes the pseudo cloud of a sweep, (N, 4) float32 in the LiDAR's frame, from its cameras and images: a depth
            model's, by way of :func:`~occlab.frames.pseudo_points`. Given, it is used for every kind of data set.

    Raises:
        OcclabError: the folder is of no known kind, one of its files is broken, or nothing makes a pseudo cloud.
    """
    path = Path(path)
    root = find_root(path) if path.is_dir() else None
    if pseudo is None and root is not None and any(root.glob("sequences/*/image_2/*.png")):
        stereo = list(kitti_frames(path, limit=limit))
        for frame in stereo:
            where = root / "sequences" / frame.source["sequence"] / "velodyne" / f"{frame.source['frame']}.bin"
            check_spread(where, frame.lidar)
        return stereo
    found = guess(path)
    if found.kind == "frames":
        return read_store(path, limit) if path.is_dir() else [read_frame(path)]
    depth = getattr(pseudo, "__name__", type(pseudo).__name__)  # what made the clouds, for the frames' source
    if pseudo is None and root is not None and any(root.glob("sequences/*/pseudo/*.bin")):
        pseudo, depth = partial(_beside, root), "pseudo/*.bin"
        paired = tuple(sweep for sweep in found.files if (sweep.parents[1] / "pseudo" / sweep.name).is_file())
        if not paired:
            raise OcclabError(f"{path}: expected pseudo/*.bin of the same names as velodyne/*.bin, found none that match")
        found = replace(found, files=paired)
    frames = []
    for item in nuscenes_sweeps(found.path, limit=limit) if found.kind == "nuscenes" else read_items(found, limit):
        if isinstance(item, OccupancyVolume):
            raise OcclabError(f"{path}: expected point clouds to make frames of, got {found.what}, which are voxels")
        if pseudo is None:
            raise OcclabError(
                f"{path}: expected pseudo clouds beside the sweeps of {found.what}, found none; give read_frames a function of "
                "a sweep that makes one, such as a depth model's: read_frames(path, pseudo=...)"
            )
        frames.append(item.with_pseudo(pseudo(item), depth))
    return frames


def _beside(root: Path, sweep: Sweep) -> np.ndarray:
    return read_sweep(root / "sequences" / sweep.source["sequence"] / "pseudo" / f"{sweep.source['frame']}.bin", 4)

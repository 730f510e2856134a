"""Where to get frames: simulated streets, the samples that ship with the repository, a folder of yours."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from .. import settings
from ..errors import OcclabError
from .frame import Frame
from .kitti import find_root, kitti_frames
from .simulate import StreetConfig, simulate_frame
from .store import VERSION, fill_store, read_store

SIMULATOR = ("camera", "depth_errors", "meshes", "props", "sampling", "scene", "sensors", "simulate")
"""Modules of this package on which a simulated frame depends."""
SAMPLES = Path(__file__).resolve().parents[2] / "data_samples"
_STREETS_PER_SEED = 10_000
_UNDERSTOOD = "a SemanticKITTI or KITTI odometry folder (it holds sequences/NN) or a folder of occlab frames (*.npz)"


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


def read_frames(path: str | Path, limit: int | None = None) -> list[Frame]:
    """Frames from a folder of any kind that is understood, at most ``limit`` of them.

    Raises:
        OcclabError: the folder is of no known kind, or one of its files is broken.
    """
    path = Path(path)
    if not path.is_dir():
        raise OcclabError(f"{path}: no such folder; expected {_UNDERSTOOD}")
    if find_root(path):
        return list(kitti_frames(path, limit=limit))
    if any(path.glob("*.npz")):
        return read_store(path, limit)
    raise OcclabError(f"{path}: cannot tell what is in this folder; expected {_UNDERSTOOD}")

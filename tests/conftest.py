"""What all tests share."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from occlab.ablation import Design, full_factorial
from occlab.frames import Frame, write_frame

# Tests run many small tensor operations: one thread is faster for them than two that wait for each other.
torch.set_num_threads(1)

collect_ignore = ["conftest.py"]  # it holds no examples, and another folder's of that name may be in its place by then


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real sensor data, which is not in this repository: the folder named by OCCLAB_REAL_DATA, or one beside it."""
    path = Path(os.environ.get("OCCLAB_REAL_DATA") or Path(__file__).parents[2] / "shared" / "real_samples")
    if not (path / "semantickitti" / "sequences").is_dir():
        pytest.skip(f"needs real data: {path} holds no semantickitti/sequences; name a folder with OCCLAB_REAL_DATA")
    return path


def cloud(rng, n):
    return np.c_[rng.uniform(-10, 10, (n, 2)), rng.uniform(-3, 0, n), rng.random(n)].astype(np.float32)


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Three small frames on disk."""
    folder = tmp_path_factory.mktemp("frames")
    for i in range(3):
        rng = np.random.default_rng(i)
        write_frame(folder / f"frame-{i}.npz", Frame(cloud(rng, 3000), cloud(rng, 3000), f"frame-{i}", {"seed": i}))
    return folder


@pytest.fixture(scope="session")
def design():
    """Four arms, two seeds, twelve steps a run."""
    factors = {"higher rate": {"learning_rate": 1e-3}, "logits": {"head": "logits"}}
    return Design(tuple(full_factorial(factors)), seeds=(0, 1), base={"steps": 12}, profile="tiny")


def _faces(rng, low, high, per_m2, sides="xyz"):
    """Points on the surface of a box, evenly."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    clouds = []
    for axis in ("xyz".index(side) for side in sides):
        for end in (low[axis], high[axis]):
            area = np.prod(np.delete(high - low, axis))
            points = rng.uniform(low, high, (int(area * per_m2), 3))
            points[:, axis] = end
            clouds.append(points)
    return np.concatenate(clouds)


def _hall(seed: int, per_m2: float, noise: float) -> np.ndarray:
    """A walled yard of 44 x 30 m, the LiDAR 1.8 m above its ground and off its middle, with three crates and a pillar in it."""
    rng = np.random.default_rng(seed)
    yard = _faces(rng, [-18, -12, -1.8], [26, 18, 4], per_m2)
    yard = yard[yard[:, 2] < 3.9]  # no roof
    crates = [
        _faces(rng, [8, 3, -1.8], [12, 5, 0.2], per_m2),
        _faces(rng, [-9, -6, -1.8], [-5, -4, 0.5], per_m2),
        _faces(rng, [15, -8, -1.8], [17, -3, 1], per_m2),
        _faces(rng, [5, -9, -1.8], [6, -8, 3], per_m2),
    ]
    cloud = np.concatenate([yard, *crates])
    return cloud + rng.normal(0, noise, cloud.shape)


@pytest.fixture(scope="session")
def faces():
    """(generator, low, high, points a square metre, sides) -> points on the surface of a box."""
    return _faces


@pytest.fixture(scope="session")
def hall():
    """(seed, points a square metre, noise) -> a walled yard with crates: a cloud whose every wall is known."""
    return _hall

"""Small frames and a small configuration, so that a training step takes milliseconds."""

import numpy as np
import pytest

from occlab.frames import Camera, Frame
from occlab.settings import PROFILES
from occlab.training import preset


def blocks(seed, name, view=()):
    """A ground plane and a few boxes, seen by a noisy cloud and by a denser clean one."""
    rng = np.random.default_rng(seed)
    ground = np.c_[rng.uniform(-10.8, 10.8, (3000, 2)), np.full(3000, -1.8)]
    boxes = [rng.uniform(-8, 8, 2) for _ in range(4)]
    walls = np.concatenate([np.c_[b + rng.uniform(-1, 1, (300, 2)), rng.uniform(-1.8, 0, 300)] for b in boxes])
    clean = np.concatenate([ground, walls])
    noisy = (clean + rng.normal(0, 0.2, clean.shape))[rng.random(len(clean)) < 0.7]
    cloud = lambda xyz: np.c_[xyz, np.full(len(xyz), 0.5)].astype(np.float32)  # noqa: E731
    return Frame(cloud(noisy), cloud(clean), name, {"seed": seed}, view)


@pytest.fixture(scope="session")
def frames():
    return [blocks(seed, f"blocks-{seed}") for seed in range(4)]


@pytest.fixture(scope="session")
def forward_view():
    """A camera at the LiDAR that looks along +x with a right angle of view."""
    return Camera(
        "front",
        200,
        200,
        ((100, 0, 99.5), (0, 100, 99.5), (0, 0, 1)),
        ((0, -1, 0, 0), (0, 0, -1, 0), (1, 0, 0, 0), (0, 0, 0, 1)),
    )


@pytest.fixture
def config():
    return preset("as-it-stood", PROFILES["tiny"], steps=12)

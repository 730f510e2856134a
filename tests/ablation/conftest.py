"""A store of small frames, and a small design on them."""

import numpy as np
import pytest

from occlab.ablation import Design, full_factorial
from occlab.frames import Frame, write_frame


def cloud(rng, n):
    return np.c_[rng.uniform(-10, 10, (n, 2)), rng.uniform(-3, 0, n), rng.random(n)].astype(np.float32)


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Three frames on disk."""
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

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

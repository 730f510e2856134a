"""What all tests share."""

import os
from pathlib import Path

import pytest
import torch

# Tests run many small tensor operations: one thread is faster for them than two that wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real sensor data, which is not in this repository: the folder named by OCCLAB_REAL_DATA, or one beside it."""
    path = Path(os.environ.get("OCCLAB_REAL_DATA") or Path(__file__).parents[2] / "shared" / "real_samples")
    if not (path / "semantickitti" / "sequences").is_dir():
        pytest.skip(f"needs real data: {path} holds no semantickitti/sequences; name a folder with OCCLAB_REAL_DATA")
    return path

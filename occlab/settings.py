"""Where files go, and how large a run this machine is given.

OCCLAB_HOME      folder for frames and runs that can be made again (default: ~/.cache/occlab)
OCCLAB_PROFILE   full, small or tiny; without it: full where there is CUDA, small elsewhere
OCCLAB_REAL_DATA folder with real sensor data, for the parts that compare with it (default: none)
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .errors import OcclabError
from .grid import VoxelGrid


@dataclass(frozen=True)
class Profile:
    """How large a run is. What a notebook claims holds in each of them."""

    name: str
    grid: VoxelGrid
    width: float
    """Share of the network's full channel counts."""
    batch_size: int
    steps: int
    """Optimiser steps of one run."""
    train_frames: int
    held_out_frames: int

    def for_sweeps(self) -> "Profile":
        """What fits a comparison of many runs: on the grid's whole range cells of 1.2 m, so that a run of ``small`` takes some
        seconds; ``full`` takes one frame a step, ``tiny`` fewer steps."""
        changes = {
            "full": {"batch_size": 1, "steps": 300},
            "small": {"grid": VoxelGrid(voxel_size=(1.2, 1.2, 0.25))},
            "tiny": {"steps": 200},
        }
        return replace(self, **changes[self.name])

    def for_recipe(self) -> "Profile":
        """What the recommended recipe takes: more streets, and time to learn from them."""
        changes = {
            "full": {"train_frames": 256, "held_out_frames": 16, "steps": 4000},
            "small": {"train_frames": 96, "held_out_frames": 8, "steps": 1200},
            "tiny": {"train_frames": 12, "held_out_frames": 3, "steps": 400},
        }
        return replace(self, **changes[self.name])


PROFILES = {
    "full": Profile("full", VoxelGrid(), width=1.0, batch_size=4, steps=600, train_frames=32, held_out_frames=4),
    "small": Profile("small", VoxelGrid(), width=0.25, batch_size=1, steps=150, train_frames=8, held_out_frames=2),
    "tiny": Profile(
        "tiny",
        VoxelGrid((-10.8, -10.8, -5.0, 10.8, 10.8, 3.0)),
        width=1 / 16,
        batch_size=1,
        steps=500,
        train_frames=4,
        held_out_frames=1,
    ),
}


def profile(name: str | None = None) -> Profile:
    """The profile of that name, else of OCCLAB_PROFILE, else what suits this machine."""
    name = name or os.environ.get("OCCLAB_PROFILE") or ("full" if torch.cuda.is_available() else "small")
    if name not in PROFILES:
        raise OcclabError(f"unknown profile {name!r}; expected one of {', '.join(PROFILES)}")
    return PROFILES[name]


def home() -> Path:
    """Folder for what can be made again: simulated frames, training runs."""
    return Path(os.environ.get("OCCLAB_HOME") or Path.home() / ".cache" / "occlab")


def real_data() -> Path | None:
    """The folder with real sensor data that OCCLAB_REAL_DATA names; None where it is not set.

    Raises:
        OcclabError: it names a folder that is not there.
    """
    path = os.environ.get("OCCLAB_REAL_DATA")
    if path and not Path(path).is_dir():
        raise OcclabError(f"OCCLAB_REAL_DATA names {path}, expected a folder with real sensor data, found none")
    return Path(path) if path else None

"""occlab: why a bird's-eye-view occupancy network stops learning, measured."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import OcclabError
from .features import bev_features
from .grid import VoxelGrid
from .losses import OccupancyLoss
from .metrics import OccupancyScore, trivial_scores
from .models import OccupancyUNet, UNetConfig
from .ray_metrics import RayScore, masked_scores
from .settings import home, profile
from .visibility import first_hit, observed_mask, ray_states
from .voxelize import VoxelStatistics, hard_occupancy, occupancy, soft_occupancy, voxelize

if TYPE_CHECKING:
    from .alignment import Alignment, check_alignment
    from .diagnosis.doctor import diagnose
    from .diagnosis.finding import Report
    from .diagnosis.watch import watch

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "OcclabError",
    "OccupancyLoss",
    "OccupancyScore",
    "OccupancyUNet",
    "RayScore",
    "Report",
    "UNetConfig",
    "VoxelGrid",
    "VoxelStatistics",
    "bev_features",
    "check_alignment",
    "diagnose",
    "first_hit",
    "hard_occupancy",
    "home",
    "masked_scores",
    "observed_mask",
    "occupancy",
    "profile",
    "ray_states",
    "soft_occupancy",
    "trivial_scores",
    "voxelize",
    "watch",
]


_LATER = {
    "Alignment": "alignment",
    "check_alignment": "alignment",
    "Report": "diagnosis.finding",
    "diagnose": "diagnosis.doctor",
    "watch": "diagnosis.watch",
}
"""Name: module that it is imported from when it is first asked for (PEP 562). With the alignment gate come ``frames`` and
SciPy, 0.3 s."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(f".{_LATER[name]}", __name__), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""occlab: why a bird's-eye-view occupancy network stops learning, measured."""

from .errors import OcclabError
from .features import bev_features
from .grid import VoxelGrid
from .losses import OccupancyLoss
from .metrics import OccupancyScore, trivial_scores
from .models import OccupancyUNet, UNetConfig
from .settings import home, profile
from .voxelize import VoxelStatistics, hard_occupancy, occupancy, soft_occupancy, voxelize

__version__ = "0.1.0"

__all__ = [
    "OcclabError",
    "OccupancyLoss",
    "OccupancyScore",
    "OccupancyUNet",
    "UNetConfig",
    "VoxelGrid",
    "VoxelStatistics",
    "bev_features",
    "hard_occupancy",
    "home",
    "occupancy",
    "profile",
    "soft_occupancy",
    "trivial_scores",
    "voxelize",
]

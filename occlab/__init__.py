"""occlab: why a bird's-eye-view occupancy network stops learning, measured."""

from .alignment import Alignment, check_alignment
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

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "OcclabError",
    "OccupancyLoss",
    "OccupancyScore",
    "OccupancyUNet",
    "RayScore",
    "UNetConfig",
    "VoxelGrid",
    "VoxelStatistics",
    "bev_features",
    "check_alignment",
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
]

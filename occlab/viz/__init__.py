"""Figures from arrays: voxels, points, slices, curves. Plotly is imported when a figure is made, not before.

Orientation, everywhere: x is forward, y is left, z is up, metres, the car at the origin. Flat views have x up the page
and y to the left; 3-D views open from behind and above the car, looking forward.
"""

from .bars import bars_figure, named_figure
from .curves import flow_figure, flows_figure, gradient_figure, loss_figure, probability_figure, range_test_figure
from .heads import heads_figure
from .intervals import interval_figure, tradeoff_figure
from .mesh import Mesh, exposed_mesh
from .pairs import snapshots_pair_figure
from .points import clouds_figure, points_figure
from .slices import bev_comparison_figure, bev_figure, height_profile_figure, height_slices_figure, heights_figure
from .theme import CONFIG, show
from .voxels import comparison_figure, snapshot_figure, voxel_figure

__all__ = [
    "CONFIG",
    "Mesh",
    "bars_figure",
    "bev_comparison_figure",
    "bev_figure",
    "clouds_figure",
    "comparison_figure",
    "exposed_mesh",
    "flow_figure",
    "flows_figure",
    "gradient_figure",
    "heads_figure",
    "height_profile_figure",
    "height_slices_figure",
    "heights_figure",
    "interval_figure",
    "loss_figure",
    "named_figure",
    "points_figure",
    "probability_figure",
    "range_test_figure",
    "show",
    "snapshot_figure",
    "snapshots_pair_figure",
    "tradeoff_figure",
    "voxel_figure",
]

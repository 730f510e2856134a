"""Voxel statistics to the network's input: a bird's-eye-view map with 8 statistics for each height."""

import torch
from torch import Tensor

from .voxelize import VoxelStatistics

STATISTICS = ("occupied", "log_count", "mean_x", "mean_y", "mean_z", "std_x", "std_y", "std_z")


def bev_features(stats: VoxelStatistics) -> Tensor:
    """The BEV feature map: heights become channels, as in LMSCNet and FlashOCC.

    Per voxel: 1 where it is occupied; log(1 + n), so that the 4,416 returns from a car's own roof count 8.4 and not
    4,416; the mean's offset from the voxel centre and the standard deviation along each axis, both in voxels and so at
    most 1/2 in size. 0 in an empty voxel.

    Shape:
        returns: (B, 8 Z, Y, X) float32; channel ``s * Z + z`` holds statistic ``STATISTICS[s]`` at height z.
    """
    batch, nz, ny, nx = stats.shape
    edge = stats.mean.new_tensor(stats.grid.voxel_size)
    centre = stats.grid.centre_of(stats.coordinates[:, 1:])
    values_MS = torch.cat(
        [
            torch.ones_like(stats.mean[:, :1]),
            torch.log1p(stats.count.float()).unsqueeze(1),
            (stats.mean - centre) / edge,
            stats.variance.sqrt() / edge,
        ],
        dim=1,
    )
    frame, cell = stats.index // stats.grid.n_cells, stats.index % stats.grid.n_cells
    features = stats.mean.new_zeros(batch, len(STATISTICS), stats.grid.n_cells)
    features[frame, :, cell] = values_MS
    return features.view(batch, len(STATISTICS) * nz, ny, nx)

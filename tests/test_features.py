"""The BEV map: layout, scale, and that one dense voxel does not drown the rest."""

import math

import torch

from occlab import VoxelGrid, bev_features, occupancy, voxelize
from occlab.features import STATISTICS

GRID = VoxelGrid()


def test_layout():
    points = torch.tensor([[0.1, 0.2, 0.1], [0.3, 0.4, 0.1], [-30.0, 5.0, -1.9]])
    stats = voxelize([points, points[2:]], GRID)
    features = bev_features(stats)
    assert features.shape == (2, 256, 180, 180)
    _, z, y, x = stats.coordinates[stats.count == 2][0].tolist()
    values = dict(zip(STATISTICS, features.view(2, 8, 32, 180, 180)[0, :, z, y, x].tolist(), strict=True))
    assert values["occupied"] == 1
    assert math.isclose(values["log_count"], math.log(3), rel_tol=1e-6)
    assert math.isclose(values["mean_x"], (0.2 - 0.3) / 0.6, abs_tol=1e-4)
    assert math.isclose(values["mean_y"], (0.3 - 0.3) / 0.6, abs_tol=1e-4)
    assert math.isclose(values["std_x"], 0.1 / 0.6, abs_tol=1e-4)
    assert math.isclose(values["std_z"], 0.0, abs_tol=1e-4)


def test_the_first_statistic_is_occupancy_and_empty_voxels_are_zero():
    points = torch.randn(5000, 4) * torch.tensor([20.0, 20.0, 1.0, 1.0])
    features = bev_features(voxelize(points, GRID)).view(1, 8, 32, 180, 180)
    occupied = occupancy(points, GRID)
    assert torch.equal(features[:, 0] > 0, occupied)
    assert (features * ~occupied[:, None] == 0).all()


def test_a_crowded_voxel_is_compressed():
    crowd = torch.rand(4416, 3) * 0.2
    features = bev_features(voxelize(crowd, GRID))
    assert features.max() < 8.5
    assert features.abs().max() == features.view(1, 8, 32, 180, 180)[:, 1].max()

"""A second look is of the same street, and not the same sample."""

import numpy as np
import pytest
import torch

from occlab import VoxelGrid, occupancy
from occlab.frames import rescan, simulate_frame
from occlab.metrics import iou

pytest.importorskip("open3d")


def test_two_scans_of_a_street_agree_nearly_and_not_wholly():
    first, second = simulate_frame(3).lidar, rescan(3)
    assert second.dtype == np.float32
    assert second.shape[1] == 4
    assert abs(len(second) / len(first) - 1) < 0.02
    volumes = [occupancy(torch.from_numpy(points), VoxelGrid()) for points in (first, second)]
    assert 0.8 < iou(*volumes) < 0.99


def test_another_street_is_another_street():
    volumes = [occupancy(torch.from_numpy(rescan(seed)), VoxelGrid()) for seed in (3, 4)]
    assert iou(*volumes) < 0.5


def test_the_same_look_twice_is_the_same():
    np.testing.assert_array_equal(rescan(5), rescan(5))

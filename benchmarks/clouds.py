"""Synthetic LiDAR sweeps: the points of the voxelization benchmark."""

import numpy as np
import torch
from torch import Tensor


def sweep(n: int, seed: int = 0) -> Tensor:
    """(n, 3) float32 points of a 32-beam LiDAR, 1.84 m above a flat street between walls, in the order it turns.

    About 80 % of them lie in the default grid. The scene is the same for every n; more points are more columns a turn,
    as if sweeps were piled up.
    """
    rng = np.random.default_rng(seed)
    columns = -(-n // 32)
    azimuth = np.repeat(np.linspace(-np.pi, np.pi, columns, endpoint=False), 32)[:n]
    elevation = np.tile(np.deg2rad(np.linspace(-30.67, 10.67, 32)), columns)[:n]
    to_ground = np.where(elevation < 0, 1.84 / np.maximum(-np.sin(elevation), 1e-3), np.inf)
    to_wall = (18 + 22 * np.abs(np.sin(3 * azimuth)) + 25 * np.abs(np.cos(7 * azimuth + 1))) / np.cos(elevation)
    distance = np.minimum(np.minimum(to_ground, to_wall), 90.0) + rng.normal(0, 0.03, n)
    direction = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    return torch.from_numpy((distance[:, None] * np.stack(direction, axis=1)).astype(np.float32))

"""A second look of the LiDAR at the same street: how well could any prediction agree with a target that is itself a sample?"""

import numpy as np

from .sensors import scan
from .simulate import StreetConfig, _stream, simulate_scene


def rescan(seed: int, config: StreetConfig | None = None) -> np.ndarray:
    """The LiDAR points of ``simulate_frame(seed, config)``, drawn again: same street, same car, other phases, noise and
    missed returns.

    Shape:
        returns: (M, 4) float32: x, y, z in metres, intensity.

    Raises:
        OcclabError: Open3D is not installed.
    """
    config = StreetConfig() if config is None else config
    return scan(simulate_scene(seed, config), config.lidar, _stream(seed, 4))

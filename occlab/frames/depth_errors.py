"""How depth networks are wrong, each way on its own, to be switched and sized one by one.

Maps are (rows, columns) float32, metres along the view, infinity where there is sky. Every function returns a new map.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter, zoom

from ..errors import OcclabError


@dataclass(frozen=True)
class DepthErrors:
    """Sizes of the errors; 0 (False for the sky) switches one off. ``DepthErrors.none()`` is perfect depth."""

    scale: float = 0.03
    """Standard deviation of the log of one factor per image. The scale of an image is what monocular networks know least: Depth
    Anything 3 (DA3), github.com/ByteDance-Seed/Depth-Anything-3, issues 19, 94, 244."""
    smooth: float = 0.03
    """Standard deviation, at a few places in the image, of the log of a factor that is smooth between them: surfaces bend and
    tilt. Monocular networks trade a consistent scene structure against fine detail (Miangoleh et al., arXiv 2105.14021)."""
    proportional: float = 0.01
    """Standard deviation of the fine-grained error, as a share of the depth: the growth with range of monocular networks."""
    quadratic: float = 0.0005
    """The same, times depth squared, 1/metres: the growth with range of stereo (arXiv 2112.08070; Pseudo-LiDAR++, arXiv
    1906.06310). 0.0005 is 0.2 m at 20 m and 0.8 m at 40 m."""
    edges: float = 0.6
    """Share of the pixels at depth edges that get a mix of the near and the far depth and so float between the two ("flying
    pixels": Metric3D issue 6, ml-depth-pro issue 40, pixel-perfect-depth issue 17)."""
    sky: bool = True
    """Sky gets the 99th percentile of the image's other depths, at most 200 m, as DA3's code does: a false shell of points."""

    def __post_init__(self) -> None:
        sizes = (self.scale, self.smooth, self.proportional, self.quadratic)
        if min(sizes) < 0 or not 0 <= self.edges <= 1:
            raise OcclabError(f"DepthErrors expects sizes of at least 0 and edges in [0, 1], got {self}")

    @classmethod
    def none(cls) -> "DepthErrors":
        """Every error off. Sky stays infinite."""
        return cls(scale=0, smooth=0, proportional=0, quadratic=0, edges=0, sky=False)


def scale_error(depth: np.ndarray, size: float, rng: Generator) -> np.ndarray:
    """Multiply the whole map by one factor exp(size * n), n standard normal."""
    return depth * np.float32(np.exp(size * rng.standard_normal()))


def smooth_error(depth: np.ndarray, size: float, rng: Generator, bumps: tuple[int, int] = (3, 5)) -> np.ndarray:
    """Multiply by exp(size * n), n smooth: standard normal values at ``bumps`` places down and across, a cubic between them."""
    rows, columns = depth.shape
    coarse = rng.standard_normal(bumps)
    field = zoom(coarse, (rows / bumps[0], columns / bumps[1]), order=3, mode="nearest", grid_mode=True)
    return depth * np.exp(size * field).astype(np.float32)


def range_error(depth: np.ndarray, proportional: float, quadratic: float, rng: Generator, blur: float = 1.0) -> np.ndarray:
    """Add (proportional * d + quadratic * d^2) * n, n standard normal, like its neighbours within about ``blur`` pixels.

    Depths stay above a tenth of what they were.
    """
    field = gaussian_filter(rng.standard_normal(depth.shape), blur)
    field = (field / field.std()).astype(np.float32)
    known = np.isfinite(depth)
    d = np.where(known, depth, 0)
    return np.where(known, np.maximum(d + (proportional * d + quadratic * d * d) * field, 0.1 * d), depth).astype(np.float32)


def at_edges(depth: np.ndarray, jump: float = 0.1) -> np.ndarray:
    """(rows, columns) bool: pixels in whose 3 x 3 neighbourhood depth jumps by more than about ``jump``, as a share.

    A plane seen at a flat angle changes a lot from pixel to pixel too, but evenly: what counts is how far the middle of
    nearest and farthest depth is from 1/depth, which is linear in the image on any plane. Sky is no neighbour.
    """
    inverse = 1 / depth  # 0 in the sky
    near, far = maximum_filter(inverse, 3), minimum_filter(np.where(np.isfinite(depth), inverse, np.inf), 3)
    bend = np.abs(near + far - 2 * inverse)
    return np.isfinite(depth) & (bend > jump * far)


def edge_error(depth: np.ndarray, share: float, rng: Generator) -> np.ndarray:
    """Give a ``share`` of the pixels at depth edges a depth drawn evenly between the nearest and farthest of their 3 x 3."""
    near = minimum_filter(depth, 3)
    far = maximum_filter(np.where(np.isfinite(depth), depth, 0), 3)
    weight = rng.random(depth.shape, np.float32)
    bleeds = at_edges(depth) & (rng.random(depth.shape) < share)
    mixed = depth.copy()
    mixed[bleeds] = near[bleeds] + weight[bleeds] * (far[bleeds] - near[bleeds])
    return mixed


def sky_error(depth: np.ndarray, highest: float = 200.0) -> np.ndarray:
    """Put the sky at the 99th percentile of the other depths, at most ``highest`` metres. A map of nothing but sky stays so."""
    known = np.isfinite(depth)
    if not known.any():
        return depth
    return np.where(known, depth, np.float32(min(np.percentile(depth[known], 99), highest)))


def apply_errors(depth: np.ndarray, errors: DepthErrors, rng: Generator) -> np.ndarray:
    """All errors, in the order in which they arise. Each has its own random stream: one off, the others stay."""
    scale, smooth, grain, edge = rng.spawn(4)
    if errors.scale:
        depth = scale_error(depth, errors.scale, scale)
    if errors.smooth:
        depth = smooth_error(depth, errors.smooth, smooth)
    if errors.proportional or errors.quadratic:
        depth = range_error(depth, errors.proportional, errors.quadratic, grain)
    if errors.edges:
        depth = edge_error(depth, errors.edges, edge)
    if errors.sky:
        depth = sky_error(depth)
    return depth


def confidence(clean: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """A confidence like that of depth networks: less far away, half at depth edges, least (0) in the sky.

    DA3 reports exp(.) + 1 and gives sky 1.0, its lowest value (not its highest); 1 - 1/value brings that to [0, 1).

    Args:
        clean: the true map, whose infinities are the sky.
        depth: the map with errors.
    """
    value = np.exp(-depth / 60) * np.where(at_edges(clean), 0.5, 1.0)
    return np.where(np.isfinite(clean), value, 0.0).astype(np.float32)

"""A pseudo cloud from what a depth network returns, whichever network it is.

A prediction is any object or mapping with ``depth`` and, as far as the model has them, ``conf``, ``sky``, ``intrinsics``,
``extrinsics`` and ``is_metric``; NumPy arrays or tensors. Depth Anything 3 (arXiv 2511.10647, fields as in its package
``depth-anything-3`` 0.1.1, ``specs.Prediction``) and VGGT (arXiv 2503.11651) fit as they are. Cameras are occlab's own: they
place the cloud in the LiDAR's frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import binary_closing

from ..errors import OcclabError
from .camera import Camera
from .depth_errors import at_edges

_NAMES = {
    "conf": ("conf", "depth_conf", "confidence"),
    "intrinsics": ("intrinsics", "intrinsic"),
    "extrinsics": ("extrinsics", "extrinsic"),
}
_SKY = 0.3
"""A sky value from which DA3 fills the depth (``compute_sky_mask``); its ``Prediction.sky`` is cut at 0.5 and misses a rim."""
_FILL = 10
"""DA3 fills the sky only where it finds more pixels of it than this."""
_FOCAL = 1.25
"""A focal length further off the camera's than this factor is another resolution's or a bad guess."""
_CROP = 1.06
"""Width and height may be scaled this differently: models round to multiples of 14 pixels. More is a crop."""
_TURN = 15.0
"""Degrees by which a model's pose may differ from the cameras': guessed poses are off by a few."""


def _field(prediction: Any, name: str) -> Any:
    get = prediction.get if isinstance(prediction, Mapping) else lambda key: getattr(prediction, key, None)
    return next((value for key in _NAMES.get(name, (name,)) if (value := get(key)) is not None), None)


def _array(value: Any, name: str) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value  # NumPy has no bfloat16
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unequal length
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        raise OcclabError(f"depth prediction: expected {name} as an array of numbers, got {type(value).__name__}")
    return array


def _maps(value: Any, name: str, like: tuple[int, ...] | None = None) -> np.ndarray:
    """(H, W), (N, H, W), and both with axes of length 1 around them -> (N, H, W)."""
    array = _array(value, name)
    if array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim < 2 or array.size == 0 or (like and array.size != np.prod(like)) or (like and array.shape[-2:] != like[1:]):
        expected = f"{like}, as its depth" if like else "(views, rows, columns)"
        raise OcclabError(f"depth prediction: expected {name} of shape {expected}, got {np.shape(value)}")
    return array.reshape(-1, *array.shape[-2:])


def _matrices(value: Any, name: str, views: int, rows: tuple[int, ...], columns: int) -> np.ndarray:
    array = _array(value, name).astype(float)
    if array.ndim < 2 or array.shape[-2] not in rows or array.shape[-1] != columns or not np.isfinite(array).all():
        wanted = " or ".join(f"{row} x {columns}" for row in rows)
        raise OcclabError(f"depth prediction: expected {name} as finite {wanted} matrices, got shape {array.shape}")
    array = array.reshape(-1, *array.shape[-2:])
    if len(array) != views:
        raise OcclabError(f"depth prediction: expected {name} of {views} views, as its depth, got {len(array)}")
    return array


def unit_confidence(conf: np.ndarray) -> np.ndarray:
    """A model's confidence -> [0, 1].

    Values from 1 up are exp(.) + 1, as DA3, VGGT and DUSt3R report them: 1 - 1/c, so that 1, the least they say, becomes 0.
    Values in [0, 1] stay.

    Raises:
        OcclabError: values below 0, or on both sides of 1: map them yourself and pass them as ``conf``.
    """
    conf = np.asarray(conf, dtype=np.float32)
    known = conf[~np.isnan(conf)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    if low >= 1 and high > 1:
        return 1 - 1 / conf
    if low >= 0 and high <= 1:
        return conf
    raise OcclabError(
        f"depth prediction: expected confidence in [0, 1] or, as exp + 1, from 1 up, got {low:g} to {high:g}; "
        "map it to [0, 1] first"
    )


def metric_scale(camera: Camera, processed: tuple[int, int]) -> float:
    """Metres per unit of DA3METRIC-LARGE: focal length / 300, the focal length in pixels of the *processed* image.

    Args:
        processed: rows and columns of the depth map.

    Source: ``apply_metric_scaling`` in depth-anything-3 0.1.1, which takes the mean of fx and fy.
    """
    k = scaled_intrinsics(camera, processed)
    return float(k[0, 0] + k[1, 1]) / 2 / 300


def scaled_intrinsics(camera: Camera, processed: tuple[int, int]) -> np.ndarray:
    """The 3 x 3 intrinsics of ``camera`` when its image is resized to ``processed`` (rows, columns).

    Pixel 0 has its centre at coordinate 0, so an image begins at -0.5, and that edge is what stays in place:
    c' + 0.5 = (c + 0.5) * scale. Scaling c alone would turn every ray by up to half a pixel.

    Raises:
        OcclabError: the sizes have another shape: the image was cropped.
    """
    rows, columns = processed
    x, y = columns / camera.width, rows / camera.height
    if not 1 / _CROP < x / y < _CROP:
        raise OcclabError(
            f"camera {camera.name}: its image of {camera.width} x {camera.height} pixels does not become a depth map of "
            f"{columns} x {rows} by resizing; was it cropped? Then give the prediction the intrinsics of the crop"
        )
    resize = np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]])
    return resize @ np.asarray(camera.intrinsics)


def _rays(prediction: Any, cameras: Sequence[Camera], shape: tuple[int, int, int], first_pixel: float) -> np.ndarray:
    """(N, H, W, 3): the view ray of each pixel in camera axes, of length 1 along the view."""
    views, rows, columns = shape
    given = _field(prediction, "intrinsics")
    if given is None:
        k, first_pixel = np.stack([scaled_intrinsics(camera, (rows, columns)) for camera in cameras]), 0.0
    else:
        k = _matrices(given, "intrinsics", views, (3,), 3)
        if not np.allclose(k[:, 2], (0, 0, 1)) or not (k[:, (0, 1), (0, 1)] > 0).all():
            raise OcclabError("depth prediction: expected intrinsics with focal lengths above 0 and a last row of 0, 0, 1")
        for view, camera in enumerate(cameras):
            x, y = k[view, 0, 0] * camera.width / columns, k[view, 1, 1] * camera.height / rows
            true_x, true_y = camera.intrinsics[0][0], camera.intrinsics[1][1]
            if not (1 / _FOCAL < x / true_x < _FOCAL and 1 / _FOCAL < y / true_y < _FOCAL):
                raise OcclabError(
                    f"depth prediction: intrinsics of view {view}: expected them at the depth map's {columns} x {rows} pixels, "
                    f"but at the image's size their focal lengths come to {x:.0f} and {y:.0f} px where camera {camera.name} "
                    f"has {true_x:.0f} and {true_y:.0f}; set them to None to use the camera's"
                )
    u, v = np.meshgrid(np.arange(columns) + first_pixel, np.arange(rows) + first_pixel)
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
    return np.einsum("vij,rcj->vrci", np.linalg.inv(k), pixels)


def _agree(poses: np.ndarray, cameras: np.ndarray) -> bool:
    """Do two sets of world-to-camera matrices (N, 4, 4) describe one rig, whatever their worlds and scales?"""
    ours, theirs = cameras @ np.linalg.inv(cameras[0]), poses @ np.linalg.inv(poses[0])
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        cosine = (np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2
        if not cosine > np.cos(np.radians(_TURN)):
            return False
        # Side by side, a rig and its inverse differ only in the way they move.
        side_by_side = (np.trace(a[:3, :3]) - 1) / 2 > np.cos(np.radians(_TURN))
        if side_by_side and np.linalg.norm(a[:3, 3]) > 0.1 and a[:3, 3] @ b[:3, 3] < 0:
            return False
    return True


def _poses(prediction: Any, cameras: Sequence[Camera], scale: np.ndarray) -> np.ndarray:
    """(N, 4, 4): LiDAR to each view."""
    views = len(scale)
    placed = np.stack([np.asarray(camera.lidar_to_camera) for camera in cameras])
    given = _field(prediction, "extrinsics")
    if given is None:
        if len(cameras) != views:
            raise OcclabError(
                f"depth prediction of {views} views without extrinsics: expected a camera a view, got {len(cameras)}"
            )
        return placed
    poses = np.tile(np.eye(4), (views, 1, 1))
    poses[:, :3] = _matrices(given, "extrinsics", views, (3, 4), 4)[:, :3]
    rotation = poses[:, :3, :3]
    if not np.allclose(rotation @ rotation.transpose(0, 2, 1), np.eye(3), atol=0.01) or (np.linalg.det(rotation) < 0).any():
        raise OcclabError("depth prediction: expected extrinsics as world-to-camera, but their left 3 x 3 is no rotation")
    if len(cameras) == 1:
        poses[:, :3, 3] *= scale[:, None]
        return poses @ np.linalg.inv(poses[0]) @ placed[0]
    if not _agree(poses, placed):
        inverted = _agree(np.linalg.inv(poses), placed)
        mistake = "they fit when inverted, so they are camera-to-world; invert them"
        if not inverted:
            mistake = "either the views are not in the cameras' order, or the model misjudged them: then set extrinsics to None"
        raise OcclabError(
            "depth prediction: expected extrinsics as OpenCV world-to-camera, but the views are not placed to one another as "
            f"the cameras are: {mistake}"
        )
    return placed


def _scale(prediction: Any, metres_per_unit: float | Sequence[float] | None, views: int) -> np.ndarray:
    """(N,) metres per unit of depth."""
    if metres_per_unit is None:
        metric = _field(prediction, "is_metric")
        metric = _array(metric, "is_metric").all() if hasattr(metric, "shape") else metric is None or bool(metric)
        if not metric:  # or an empty mapping, as DA3 leaves it
            raise OcclabError(
                "depth prediction: is_metric says its depth is relative; give metres_per_unit: metric_scale(camera, shape) "
                "for DA3METRIC-LARGE, 1 for a DA3 model that was given extrinsics in metres"
            )
        return np.ones(views)
    scale = np.asarray(metres_per_unit, dtype=float)
    if scale.shape not in ((), (views,)) or not (np.isfinite(scale) & (scale > 0)).all():
        raise OcclabError(
            f"metres_per_unit: expected one positive number, or one for each of {views} views, got {metres_per_unit}"
        )
    return np.broadcast_to(scale, (views,))


def _sky(depth: np.ndarray, conf: np.ndarray | None, sky: np.ndarray | None) -> np.ndarray:
    """(N, H, W) bool: sky, by the mask and by the one depth that DA3 gives all of it.

    That depth is the 99th percentile of the rest, to the last bit the same in all views. With a mask, every pixel of the
    depth that most of the masked ones share is sky. The nested model has no mask, but sets the confidence there to exactly
    1.0, the least of exp + 1.
    """
    if sky is not None:
        known = sky >= _SKY if sky.dtype.kind == "f" else sky.astype(bool)
        candidates = known
    elif conf is not None and (conf > 1).any() and not (conf < 1).any():
        known, candidates = np.zeros(depth.shape, bool), conf == 1
    else:
        return np.zeros(depth.shape, bool)
    values, counts = np.unique(depth[candidates], return_counts=True)
    if counts.size and counts.max() > max(_FILL, counts.sum() / 2):
        shell = depth == values[counts.argmax()]
        known = known | (shell if sky is not None else shell & candidates)
    return known


def flying(depth: np.ndarray, jump: float) -> np.ndarray:
    """(rows, columns) bool: pixels at a depth edge, where networks leave points between near and far.

    Both sides of every edge go, a pixel wide, and what lies between: a mean of near and far looks, alone, like a steep plane.

    Args:
        jump: smallest relative jump to the neighbours, as in ``depth_errors.at_edges``; a plane has none, however steep, until
            the sky.
    """
    known = np.where(np.isfinite(depth) & (depth > 0), depth, np.inf)
    with np.errstate(invalid="ignore"):
        return binary_closing(np.pad(at_edges(known, jump), 1), np.ones((3, 3)))[1:-1, 1:-1]


def pseudo_points(
    prediction: Any,
    cameras: Camera | Sequence[Camera],
    *,
    confidence: float = 0.0,
    sky: Any = None,
    near: float = 0.5,
    far: float = 80.0,
    edges: float | None = None,
    metres_per_unit: float | Sequence[float] | None = None,
    first_pixel: float = 0.0,
) -> np.ndarray:
    """The cloud of a depth prediction, in the LiDAR's frame.

    Fields of ``prediction`` (object or mapping; arrays or tensors, all but the first optional):
        depth: (N, H, W) or (H, W), along the view, metres; NaN, infinite, zero and negative values are dropped.
        conf: as depth. See :func:`unit_confidence`.
        sky: as depth, bool, or a number that means sky from 0.3 up.
        intrinsics: (N, 3, 3) at the depth map's size. Without: the cameras', scaled to it.
        extrinsics: (N, 3, 4) or (N, 4, 4), OpenCV world-to-camera, in a world of their own. They are held against the
            cameras, which place every view. Given one camera for several views, it places the first and these the others.
        is_metric: false refuses depth that is relative. No such field: metres.
        scale_factor of DA3 is not looked at: its depth has been multiplied by it.

    Args:
        cameras: one a view, in the views' order.
        confidence: least confidence kept, in [0, 1].
        sky: a mask from elsewhere, in place of the prediction's.
        near, far: metres along the view, both kept.
        edges: drop pixels at relative depth jumps from this up, e.g. 0.1 (see :func:`flying`).
        metres_per_unit: for relative depth; one number, or one a view.
        first_pixel: coordinate of the first pixel's centre in the prediction's intrinsics: 0 as in OpenCV, 0.5 where the
            principal point of a centred camera is W/2, as in DA3 and VGGT. The cameras' own intrinsics are not affected.

    Shape:
        returns: (M, 4) float32: x, y, z in metres, confidence in [0, 1] (1 without one); view by view, row by row.

    Raises:
        OcclabError: fields that do not fit one another or the cameras, relative depth without a scale, or nothing left.
    """
    if not 0 <= near < far or not 0 <= confidence <= 1:
        raise OcclabError(f"expected 0 <= near < far and confidence in [0, 1], got {near}, {far} and {confidence}")
    if edges is not None and not edges > 0:
        raise OcclabError(f"edges: expected a relative jump above 0, e.g. 0.1, got {edges}")
    cameras = [cameras] if isinstance(cameras, Camera) else list(cameras)
    raw = _field(prediction, "depth")
    if raw is None:
        raise OcclabError(f"expected a depth prediction with a field depth, got {type(prediction).__name__} without one")
    depth = _maps(raw, "depth").astype(np.float32)
    views = len(depth)
    if len(cameras) not in (1, views):
        raise OcclabError(f"depth prediction of {views} views: expected a camera a view, got {len(cameras)}")
    conf, mask = _field(prediction, "conf"), sky if sky is not None else _field(prediction, "sky")
    conf = None if conf is None else _maps(conf, "conf", depth.shape)
    hidden = _sky(depth, conf, None if mask is None else _maps(mask, "sky", depth.shape))
    sure = np.ones(depth.shape, np.float32) if conf is None else unit_confidence(conf)
    scale = _scale(prediction, metres_per_unit, views)
    poses = _poses(prediction, cameras, scale)
    rays = _rays(prediction, cameras * (views if len(cameras) == 1 else 1), depth.shape, first_pixel)

    metres = depth * scale[:, None, None].astype(np.float32)
    known = np.isfinite(metres) & (metres > 0)
    solid = known & ~hidden
    keep = solid & (metres >= near) & (metres <= far) & (sure >= confidence)
    if edges is not None:
        keep &= ~np.stack([flying(view, edges) for view in depth])
    if not keep.any():
        raise OcclabError(
            f"depth prediction: no pixel is left of {keep.size}: {keep.size - known.sum()} without depth, "
            f"{(known & hidden).sum()} sky, {(solid & ((metres < near) | (metres > far))).sum()} outside {near:g} to "
            f"{far:g} m, {(solid & ~(sure >= confidence)).sum()} below confidence {confidence:g}"
        )
    clouds = []
    for view in range(views):
        chosen = keep[view]
        to_lidar = np.linalg.inv(poses[view])
        in_camera = metres[view][chosen][:, None] * rays[view][chosen]
        clouds.append(np.column_stack([in_camera @ to_lidar[:3, :3].T + to_lidar[:3, 3], sure[view][chosen]]))
    return np.concatenate(clouds).astype(np.float32)


def from_depth_anything_3(prediction: Any, cameras: Camera | Sequence[Camera], **options: Any) -> np.ndarray:
    """The cloud of ``DepthAnything3.inference(images)``, in the LiDAR's frame; ``options`` as for :func:`pseudo_points`.

    What the models return (depth-anything-3 0.1.1):
        nested: metres, extrinsics, intrinsics, confidence, no sky mask; nothing more is needed.
        DA3METRIC-LARGE: no cameras, no confidence, a sky mask; needs ``metres_per_unit=metric_scale(camera, shape)``.
        small to giant: relative, no sky. Given extrinsics in metres, their depth is aligned to them while ``is_metric`` stays
            empty: say ``metres_per_unit=1``.

    Its principal points are W/2 and H/2, so the first pixel's centre lies at 0.5. (Its own exporters take it at 0.) Where the
    model guessed the intrinsics although the cameras are calibrated, set ``prediction.intrinsics = None``.
    """
    return pseudo_points(prediction, cameras, **{"first_pixel": 0.5} | options)

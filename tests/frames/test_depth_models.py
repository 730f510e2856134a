from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab.errors import OcclabError
from occlab.frames.depth_errors import edge_error, sky_error
from occlab.frames.depth_models import (
    flying,
    from_depth_anything_3,
    metric_scale,
    pseudo_points,
    scaled_intrinsics,
    unit_confidence,
)
from occlab.frames.frame import Frame
from occlab.frames.sensors import camera_rig

RIG = camera_rig()
FRONT = RIG[0]
HEIGHT = 1.8  # metres of the LiDAR above the road z = -HEIGHT
SHAPE = (72, 128)  # rows and columns of a depth map: 900 x 1600 over 12.5


def road(camera, shape=SHAPE, k=None, first_pixel=0.0):
    """Depth of the plane z = -HEIGHT in closed form, infinite above the horizon; pixel centres by plain arithmetic."""
    rows, columns = shape
    v, u = np.mgrid[:rows, :columns].astype(float)
    if k is None:  # in the image of full size, pixel (u, v) of the map is centred between the ones it covers
        u, v = (u + 0.5) * camera.width / columns - 0.5, (v + 0.5) * camera.height / rows - 0.5
        k = np.asarray(camera.intrinsics)
    x, y = (u + first_pixel - k[0, 2]) / k[0, 0], (v + first_pixel - k[1, 2]) / k[1, 1]
    pose = np.asarray(camera.lidar_to_camera)
    centre_z = -(pose[:3, 2] @ pose[:3, 3])
    with np.errstate(divide="ignore"):
        depth = (-HEIGHT - centre_z) / (pose[0, 2] * x + pose[1, 2] * y + pose[2, 2])
    return np.where(depth > 0, depth, np.inf).astype(np.float32)


def world_to_camera(cameras, scale=1.0, seed=0):
    """(N, 4, 4): the rig in a world of its own, turned, shifted and scaled."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = turn * np.sign(np.linalg.det(turn)), rng.normal(size=3) * 5
    poses = np.stack([np.asarray(camera.lidar_to_camera) @ world for camera in cameras])
    poses[:, :3, 3] *= scale
    return poses


def rigid(cameras, shape=SHAPE):
    return np.stack([road(camera, shape) for camera in cameras])


@pytest.mark.parametrize("shape", [(72, 128), (90, 160), (35, 63), (900, 1600)])
def test_a_plane_seen_by_six_cameras_is_that_plane_in_the_lidars_frame_at_any_resolution(shape):
    cameras = RIG if shape[0] < 900 else RIG[:1]
    points = pseudo_points({"depth": rigid(cameras, shape)}, cameras)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points[:, 2], -HEIGHT, atol=1e-4)
    np.testing.assert_array_equal(points[:, 3], 1)
    if len(cameras) == 6:
        angle = np.degrees(np.arctan2(points[:, 1], points[:, 0])) % 360
        assert (np.histogram(angle, bins=12, range=(0, 360))[0] > 0).all()
    Frame(points, points, "it makes a frame")


def test_known_points_come_back_to_where_they_were():
    cv2 = pytest.importorskip("cv2", reason="projects with OpenCV")
    camera, (rows, columns) = RIG[2], SHAPE
    k = scaled_intrinsics(camera, SHAPE)
    pose = np.asarray(camera.lidar_to_camera)
    rng = np.random.default_rng(0)
    rotation = cv2.Rodrigues(pose[:3, :3])[0]
    for row, column in zip(rng.integers(0, rows, 30), rng.integers(0, columns, 30), strict=True):
        depth = np.full(SHAPE, np.nan, np.float32)
        depth[row, column] = rng.uniform(1, 60)
        (point,) = pseudo_points({"depth": depth}, [camera])
        pixel = cv2.projectPoints(point[None, :3].astype(float), rotation, pose[:3, 3].copy(), k, None)[0].ravel()
        np.testing.assert_allclose(pixel, [column, row], atol=1e-3)
        (full,), (along,) = camera.project(
            point[None]
        )  # and in the image of full size, the middle of the 12.5 pixels it covers
        np.testing.assert_allclose(full, [(column + 0.5) * 12.5 - 0.5, (row + 0.5) * 12.5 - 0.5], atol=1e-2)
        assert along == pytest.approx(depth[row, column], rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.floats(0.98, 1.02))
def test_scaled_intrinsics_keep_the_edges_of_the_image(step, stretch):
    rows, columns = round(900 / step), round(1600 / step * stretch)
    k, whole = scaled_intrinsics(FRONT, (rows, columns)), np.asarray(FRONT.intrinsics)
    for side in (-0.5, FRONT.width - 0.5):
        small = (side + 0.5) * columns / FRONT.width - 0.5
        assert (small - k[0, 2]) / k[0, 0] == pytest.approx((side - whole[0, 2]) / whole[0, 0])
    assert k[1, 2] == pytest.approx((rows - 1) / 2)


def test_intrinsics_of_the_prediction_count_with_their_own_first_pixel():
    k = scaled_intrinsics(FRONT, SHAPE)
    k[0, 0], k[1, 2] = k[0, 0] * 1.1, k[1, 2] + 3
    depth = road(FRONT, k=k)
    at_centre = pseudo_points({"depth": depth, "intrinsics": k}, FRONT)
    np.testing.assert_allclose(at_centre[:, 2], -HEIGHT, atol=1e-4)
    corner = k.copy()
    corner[:2, 2] += 0.5
    shifted = pseudo_points({"depth": depth, "intrinsics": corner[None]}, FRONT, first_pixel=0.5)
    np.testing.assert_allclose(shifted, at_centre, atol=1e-5)
    assert np.abs(pseudo_points({"depth": depth, "intrinsics": corner}, FRONT)[:, 2] + HEIGHT).max() > 0.1


def test_predictions_may_be_objects_mappings_tensors_and_lists_with_idle_axes():
    depth = rigid(RIG[:2])
    expected = pseudo_points({"depth": depth}, RIG[:2])
    conf = np.full(depth.shape, 3.0, np.float32)
    for prediction in (
        SimpleNamespace(depth=depth, conf=conf),
        {"depth": torch.from_numpy(depth)[None, ..., None], "depth_conf": torch.from_numpy(conf).bfloat16()[None]},
        {"depth": depth.astype(np.float64).tolist(), "confidence": conf[:, None]},
    ):
        points = pseudo_points(prediction, RIG[:2])
        np.testing.assert_allclose(points[:, :3], expected[:, :3], atol=1e-5)
        np.testing.assert_allclose(points[:, 3], 1 - 1 / 3, rtol=1e-6)


def test_extrinsics_of_another_world_agree_and_change_nothing():
    depth = rigid(RIG)
    alone = pseudo_points({"depth": depth}, RIG)
    for poses in (world_to_camera(RIG), world_to_camera(RIG, scale=0.01)[:, :3]):
        np.testing.assert_array_equal(pseudo_points({"depth": depth, "extrinsics": poses}, RIG), alone)


def test_one_camera_places_the_first_view_and_extrinsics_the_others_scale_included():
    cameras = [replace(FRONT, lidar_to_camera=np.asarray(camera.lidar_to_camera)) for camera in RIG[:3]]
    depth = rigid(cameras)
    prediction = {"depth": depth / 7, "extrinsics": world_to_camera(cameras, scale=1 / 7), "is_metric": 0}
    points = pseudo_points(prediction, cameras[0], metres_per_unit=7.0)
    np.testing.assert_allclose(points, pseudo_points({"depth": depth}, cameras), atol=2e-4)
    with pytest.raises(OcclabError, match="without extrinsics: expected a camera a view, got 1"):
        pseudo_points({"depth": depth}, cameras[0])


@pytest.mark.parametrize("seed", range(5))
def test_camera_to_world_is_recognised_and_so_is_another_order(seed):
    depth = rigid(RIG)
    inverted = np.linalg.inv(world_to_camera(RIG, seed=seed))
    with pytest.raises(OcclabError, match="they fit when inverted, so they are camera-to-world"):
        pseudo_points({"depth": depth, "extrinsics": inverted}, RIG)
    with pytest.raises(OcclabError, match="not in the cameras' order"):
        pseudo_points({"depth": depth, "extrinsics": world_to_camera(RIG[::-1], seed=seed)}, RIG)


def test_camera_to_world_is_recognised_on_a_stereo_pair_too():
    moved = np.asarray(FRONT.lidar_to_camera) + np.array([[0, 0, 0, -0.54], *np.zeros((3, 4))])
    pair = (FRONT, replace(FRONT, lidar_to_camera=moved))
    depth, poses = rigid(pair), world_to_camera(pair)
    pseudo_points({"depth": depth, "extrinsics": poses}, pair)
    with pytest.raises(OcclabError, match="camera-to-world"):
        pseudo_points({"depth": depth, "extrinsics": np.linalg.inv(poses)}, pair)


def test_confidence_that_starts_at_one_is_mapped_and_that_in_0_to_1_is_not():
    logits = np.linspace(-8, 12, 50, dtype=np.float32)
    mapped = unit_confidence(np.exp(logits) + 1)
    np.testing.assert_allclose(mapped, 1 / (1 + np.exp(-logits)), atol=1e-6)  # 1 - 1/(e^x + 1) is the logistic function
    np.testing.assert_array_equal(unit_confidence(np.array([0, 0.3, 1])), np.float32([0, 0.3, 1]))
    np.testing.assert_array_equal(unit_confidence(np.ones(3)), 1)
    for wrong in ([0.5, 1.5], [-0.1, 0.5]):
        with pytest.raises(OcclabError, match=r"expected confidence in \[0, 1\] or, as exp \+ 1, from 1 up"):
            unit_confidence(np.array(wrong))


def test_confidence_ends_in_the_fourth_column_and_can_cut():
    depth = np.full(SHAPE, 10.0, np.float32)
    conf = 1 + np.random.default_rng(0).random(SHAPE).astype(np.float32)
    conf[0, 0] = np.nan
    points = pseudo_points({"depth": depth, "conf": conf}, FRONT)
    np.testing.assert_allclose(points[:, 3], (1 - 1 / conf).ravel()[1:], rtol=1e-6)
    cut = pseudo_points({"depth": depth, "conf": conf}, FRONT, confidence=0.3)
    np.testing.assert_array_equal(cut, points[points[:, 3] >= 0.3])
    assert 0 < len(cut) < len(points)


def test_near_far_nan_zero_and_negative_depth_are_dropped():
    depth = np.full(SHAPE, 10.0, np.float32)
    depth[0, :8] = np.nan, np.inf, -np.inf, 0, -3, 0.49, 80.1, 80.0
    points = pseudo_points({"depth": depth}, FRONT)
    assert len(points) == depth.size - 7
    assert np.isfinite(points).all()
    assert len(pseudo_points({"depth": depth}, FRONT, near=0.1, far=200.0)) == depth.size - 5


def test_a_sky_mask_drops_its_pixels_and_the_rim_that_da3_fills_beyond_it():
    depth = sky_error(road(FRONT))  # everything above the horizon at one depth
    horizon = np.isinf(road(FRONT))
    mask = horizon.copy()
    mask[np.flatnonzero(horizon.any(axis=1))[-3:]] = False  # the mask, cut higher, misses three rows of it
    for sky in (mask, mask.astype(np.float32) * 0.35, torch.from_numpy(mask)):
        points = pseudo_points({"depth": depth, "sky": sky}, FRONT, far=500)
        np.testing.assert_allclose(points[:, 2], -HEIGHT, atol=1e-3)
        assert len(points) >= (~horizon).sum() - 1  # the pixel that is the percentile itself may go with it
    noisy = {"depth": depth * np.random.default_rng(0).uniform(0.9, 1.1, SHAPE), "sky": mask}
    assert len(pseudo_points(noisy, FRONT, far=500)) == (~mask).sum()  # no shared depth: the mask is all there is
    other = pseudo_points({"depth": depth, "sky": ~mask}, FRONT, sky=horizon, far=500)
    np.testing.assert_allclose(other[:, 2], -HEIGHT, atol=1e-3)


def test_without_a_mask_the_sky_is_the_shell_of_lowest_confidence():
    rng = np.random.default_rng(0)
    clean = rigid(RIG)
    depth, horizon = sky_error(clean), np.isinf(clean)
    conf = np.where(horizon, 1.0, 1 + np.exp(rng.normal(size=depth.shape))).astype(np.float32)
    far_but_solid = tuple(np.argwhere(~horizon)[0])
    conf[far_but_solid] = 1.0  # as unsure as can be, at a depth of its own: no sky
    points = pseudo_points({"depth": depth, "conf": conf}, RIG, far=500)
    assert len(points) == (~horizon).sum()
    np.testing.assert_allclose(points[:, 2], -HEIGHT, atol=1e-3)
    sure = {"depth": np.full(SHAPE, 10.0), "conf": np.ones(SHAPE)}
    assert len(pseudo_points(sure, FRONT)) == SHAPE[0] * SHAPE[1]  # confidence 1 on a scale from 0 to 1 is no sky


def test_flying_pixels_go_and_a_road_stays_however_steep():
    depth = road(FRONT, (180, 320))
    assert not flying(depth, 0.1)[depth < 200].any()
    depth[60:130, 150:170] = 8.0  # a post, 20 pixels wide, before road and sky
    wrong = edge_error(np.where(np.isfinite(depth), depth, 60).astype(np.float32), 1.0, np.random.default_rng(0))
    floats = np.abs(wrong / np.where(np.isfinite(depth), depth, 60) - 1) > 0.2
    assert floats.sum() > 100
    caught = flying(wrong, 0.1)
    assert caught[floats].mean() > 0.97
    assert not caught[75:120, 155:165].any()
    assert caught.mean() < 0.05
    middle = np.full((9, 9), 5.0)
    middle[:, 4], middle[:, 5:] = 2 / (1 / 5 + 1 / 20), 20.0  # halfway in 1/depth: steep, but even
    assert flying(middle, 0.1)[:, 3:6].all()
    assert not flying(middle, 0.1)[:, :3].any()


def test_relative_depth_needs_a_scale_and_a_metric_model_does_not():
    depth = rigid(RIG[:2])
    expected = pseudo_points({"depth": depth}, RIG[:2])
    for relative in (0, False, {}, np.array(0), torch.tensor(False)):
        with pytest.raises(OcclabError, match="its depth is relative; give metres_per_unit"):
            pseudo_points({"depth": depth / 2, "is_metric": relative}, RIG[:2])
        doubled = pseudo_points({"depth": depth / 2, "is_metric": relative}, RIG[:2], metres_per_unit=2)
        np.testing.assert_allclose(doubled, expected, atol=1e-5)
    # scale_factor is what the nested model has already multiplied by
    same = pseudo_points({"depth": depth, "is_metric": 1, "scale_factor": 3.0}, RIG[:2])
    np.testing.assert_array_equal(same, expected)
    each = pseudo_points({"depth": depth / np.array([2, 5])[:, None, None]}, RIG[:2], metres_per_unit=[2, 5])
    np.testing.assert_allclose(each, expected, atol=1e-4)
    for bad in (0, -1, np.nan, [1, 2, 3]):
        with pytest.raises(OcclabError, match="metres_per_unit: expected one positive number"):
            pseudo_points({"depth": depth}, RIG[:2], metres_per_unit=bad)


def test_da3_metric_large_is_scaled_by_the_processed_focal_length_over_300():
    shape = (280, 504)  # 1600 x 900 at process_res 504: 504 x 284, then to multiples of 14
    fx = fy = FRONT.intrinsics[0][0]
    expected = (fx * 504 / 1600 + fy * 280 / 900) / 2 / 300
    assert metric_scale(FRONT, shape) == pytest.approx(expected)
    scales = [metric_scale(camera, shape) for camera in RIG]
    depth = rigid(RIG, shape) / np.array(scales, np.float32)[:, None, None]
    prediction = {"depth": sky_error(depth), "sky": np.isinf(depth), "is_metric": {}}
    points = from_depth_anything_3(prediction, RIG, metres_per_unit=scales)
    np.testing.assert_allclose(points[:, 2], -HEIGHT, atol=1e-4)


def bad(**fields: Any) -> dict[str, Any]:
    return {"depth": np.full((1, *SHAPE), 10.0)} | fields


K = scaled_intrinsics(FRONT, SHAPE)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        ({"disparity": 1}, "a field depth, got dict without one"),
        (bad(depth="deep"), "expected depth as an array of numbers, got str"),
        (bad(depth=[[1.0], [1.0, 2.0]]), "expected depth as an array of numbers"),
        (bad(depth=np.ones(5)), r"expected depth of shape \(views, rows, columns\), got \(5,\)"),
        (bad(depth=np.ones((2, *SHAPE))), "2 views without extrinsics: expected a camera a view, got 1"),
        (bad(depth=np.ones((1, 72, 72))), "was it cropped"),
        (bad(conf=np.ones((1, 3, 4))), r"expected conf of shape \(1, 72, 128\), as its depth, got \(1, 3, 4\)"),
        (bad(sky=np.ones((2, *SHAPE))), "expected sky of shape"),
        (bad(intrinsics=np.array(FRONT.intrinsics)), "at the depth map's 128 x 72 pixels"),
        (bad(intrinsics=np.full((3, 3), np.nan)), "finite 3 x 3 matrices"),
        (bad(intrinsics=np.stack([K, K])), "intrinsics of 1 views, as its depth, got 2"),
        (bad(intrinsics=np.diag([100.0, 100.0, 0.0])), "a last row of 0, 0, 1"),
        (bad(extrinsics=np.ones((3, 4))), "is no rotation"),
        (bad(extrinsics=np.eye(4)[:2]), "finite 3 x 4 or 4 x 4 matrices"),
        (bad(depth=np.full(SHAPE, np.nan)), "no pixel is left of 9216: 9216 without depth"),
        (bad(depth=np.full(SHAPE, 500.0)), "9216 outside 0.5 to 80 m"),
        (bad(sky=np.ones(SHAPE, bool)), "9216 sky"),
    ],
)
def test_a_prediction_that_does_not_fit_is_named(prediction, message):
    with pytest.raises(OcclabError, match=message):
        pseudo_points(prediction, [FRONT])


@pytest.mark.parametrize("options", [{"near": 5, "far": 5}, {"near": -1}, {"confidence": 1.5}, {"edges": 0}])
def test_settings_that_mean_nothing_and_too_many_cameras_are_refused(options):
    with pytest.raises(OcclabError, match="expected"):
        pseudo_points(bad(), [FRONT], **options)
    with pytest.raises(OcclabError, match="1 views: expected a camera a view, got 6"):
        pseudo_points(bad(), RIG)


def test_a_simulated_street_lands_on_itself():
    o3d = pytest.importorskip("open3d")
    from occlab.frames.meshes import merge
    from occlab.frames.scene import SceneConfig, build_scene
    from occlab.frames.sensors import RayTarget, depth_maps

    scene = build_scene(np.random.default_rng(3), SceneConfig())
    depth = np.stack(depth_maps(scene, RIG, stride=20))
    # every 20th pixel from the 10th on is no resized image: its own intrinsics say where those pixels lie
    k = np.stack([np.diag([1 / 20, 1 / 20, 1]) @ np.array(camera.intrinsics) for camera in RIG])
    k[:, :2, 2] -= 0.5
    points = pseudo_points({"depth": depth, "intrinsics": k, "extrinsics": world_to_camera(RIG)}, RIG)
    assert len(points) > 5000
    target = RayTarget(merge([scene.static, *(mover.mesh for mover in scene.movers)]))
    distance = target._scene.compute_distance(o3d.core.Tensor(np.ascontiguousarray(points[:, :3]))).numpy()
    assert distance.max() < 2e-3


def da3_like(kind, prediction_type):
    """A road as DA3 0.1.1 returns one. Recorded from its own networks (da3-small as it is; DA3METRIC and nested with a
    smaller backbone), random weights, two images of 98 x 56 pixels, through its ``OutputProcessor``:

    small:  depth float32 (2, 56, 98), conf the same and above 1, sky None, extrinsics float32 (2, 3, 4), intrinsics float32
            (2, 3, 3) with principal point (49.0, 28.0), is_metric an empty mapping, scale_factor None
    metric: depth, sky bool (2, 56, 98); conf, extrinsics, intrinsics None; is_metric an empty mapping
    nested: as small, but is_metric 1 and scale_factor a float; sky None, its pixels at one depth with conf exactly 1.0
    """
    cameras, shape = RIG[:2], (56, 98)
    k = np.stack([scaled_intrinsics(camera, shape) for camera in cameras])
    k[:, 0, 2], k[:, 1, 2] = 49.0, 28.0  # W/2, H/2: the same camera, its first pixel centred at 0.5
    depth = np.stack([road(camera, shape, kk, 0.5) for camera, kk in zip(cameras, k, strict=True)])
    sky = np.isinf(depth)
    conf = np.where(sky, 1, 1.9).astype(np.float32)
    poses = world_to_camera(cameras).astype(np.float32)[:, :3]
    depth = sky_error(depth)
    if kind == "metric":
        scale = np.array([metric_scale(camera, shape) for camera in cameras], np.float32)
        return prediction_type(depth=depth / scale[:, None, None], is_metric={}, sky=sky), cameras, {"metres_per_unit": scale}
    prediction = prediction_type(depth=depth, is_metric={}, conf=conf, extrinsics=poses, intrinsics=k.astype(np.float32))
    if kind == "nested":
        prediction.is_metric, prediction.scale_factor = 1, 7.5
        return prediction, cameras, {}
    prediction.conf = conf + np.float32(0.1)  # DA3's relative models do not look for sky
    return prediction, cameras, {"metres_per_unit": 1, "sky": sky}


@pytest.mark.parametrize("real", [False, True], ids=["recorded", "the real class"])
@pytest.mark.parametrize("kind", ["small", "metric", "nested"])
def test_a_prediction_of_depth_anything_3_becomes_the_road(kind, real):
    if real:
        specs = pytest.importorskip("depth_anything_3.specs", reason="needs pip install --no-deps depth-anything-3==0.1.1")
    prediction, cameras, options = da3_like(kind, specs.Prediction if real else SimpleNamespace)
    points = from_depth_anything_3(prediction, cameras, far=500, **options)
    np.testing.assert_allclose(points[:, 2], -HEIGHT, atol=1e-3)
    if options:
        with pytest.raises(OcclabError, match="is relative"):
            from_depth_anything_3(prediction, cameras)


def test_the_real_networks_of_depth_anything_3_return_what_was_recorded():
    reason = "needs pip install --no-deps depth-anything-3==0.1.1 addict omegaconf antlr4-python3-runtime==4.9.3 einops"
    for module in ("addict", "omegaconf", "einops", "depth_anything_3.specs"):
        pytest.importorskip(module, reason=reason)
    from depth_anything_3.cfg import create_object, load_config
    from depth_anything_3.registry import MODEL_REGISTRY
    from depth_anything_3.utils.io.output_processor import OutputProcessor

    torch.manual_seed(0)
    network = create_object(load_config(MODEL_REGISTRY["da3-small"])).eval()
    with torch.inference_mode():
        prediction = OutputProcessor()(network(torch.rand(1, 2, 3, 56, 98)))
    recorded, cameras, _ = da3_like("small", SimpleNamespace)
    for name in ("depth", "conf", "extrinsics", "intrinsics"):
        real, ours = getattr(prediction, name), getattr(recorded, name)
        assert (real.shape, real.dtype) == (ours.shape, ours.dtype), name
    np.testing.assert_array_equal(prediction.intrinsics[:, :2, 2], recorded.intrinsics[:, :2, 2])
    assert prediction.sky is None
    assert not prediction.is_metric
    assert prediction.conf.min() > 1
    prediction.intrinsics = prediction.extrinsics = None  # random weights guess no camera
    points = from_depth_anything_3(prediction, cameras, metres_per_unit=10)
    assert points.shape == (2 * 56 * 98, 4)
    depth = np.concatenate([c.project(part)[1] for c, part in zip(cameras, np.split(points[:, :3], 2), strict=True)])
    np.testing.assert_allclose(depth, 10 * prediction.depth.ravel(), rtol=1e-4)
    np.testing.assert_allclose(points[:, 3], 1 - 1 / prediction.conf.ravel(), rtol=1e-5)

"""Stereo on pairs whose depth is known, then on real ones."""

import numpy as np
import pytest
import torch

from occlab.errors import OcclabError
from occlab.frames.camera import Camera
from occlab.frames.stereo import StereoConfig, disparity_map, stereo_points
from occlab.frames.view import view_mask
from occlab.grid import VoxelGrid
from occlab.voxelize import occupancy

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

FORWARD = [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
WIDTH, HEIGHT, FOCAL, BASELINE = 480, 160, 300.0, 0.5
CAMERA = Camera("left", WIDTH, HEIGHT, [[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]], FORWARD)
CONFIG = StereoConfig(num_disparities=64)


def texture(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH + 200)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.0), None, 0, 255, cv2.NORM_MINMAX)


def pair(disparity: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """A textured scene as two cameras see it: the left pixel (u, v) shows what the right one shows at (u - disparity, v)."""
    right = texture()
    columns, rows = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    left = cv2.remap(right, columns - np.float32(disparity) + 100, rows, cv2.INTER_CUBIC)
    return left.clip(0, 255).astype(np.uint8), right[:, 100 : 100 + WIDTH].astype(np.uint8)


@pytest.mark.parametrize("disparity", [6.0, 15.5, 40.25])
def test_a_wall_stands_at_focal_length_times_baseline_over_disparity(disparity):
    points = stereo_points(*pair(disparity), CAMERA, BASELINE, CONFIG)
    assert points.dtype == np.float32
    assert len(points) > 1000
    expected = FOCAL * BASELINE / disparity
    per_pixel = expected / disparity
    assert np.median(points[:, 0]) == pytest.approx(expected, abs=0.15 * per_pixel)
    assert (abs(points[:, 0] - expected) < 0.5 * per_pixel).mean() > 0.95


def test_a_road_lies_flat_below_the_camera():
    """A plane 1.5 m below: disparity grows linearly down the image, z is -1.5 all along it."""
    height = 1.5
    rows = np.arange(HEIGHT)[:, None] - HEIGHT / 2
    disparity = np.where(rows > 8, rows * BASELINE / height, 0.0) + np.zeros((1, WIDTH))
    points = stereo_points(*pair(disparity), CAMERA, BASELINE, CONFIG)
    road = points[(points[:, 0] > 8) & (points[:, 0] < 25)]
    assert len(road) > 1000
    assert np.median(road[:, 2]) == pytest.approx(-height, abs=0.05)
    assert np.quantile(abs(road[:, 2] + height), 0.9) < 0.25


def test_the_fourth_column_is_the_brightness_of_the_pixel():
    left, right = pair(20.0)
    points = stereo_points(left, right, CAMERA, BASELINE, CONFIG)
    pixels, _ = CAMERA.project(points[:, :3].astype(float))
    columns, rows = np.rint(pixels).astype(int).T
    np.testing.assert_allclose(points[:, 3] * 255, left[rows, columns], atol=1e-3)


def test_the_left_margin_is_matched_too():
    """OpenCV alone leaves the first num_disparities columns empty."""
    found = disparity_map(*pair(8.0), CONFIG)[:, 12 : CONFIG.num_disparities] > 0
    assert found.mean() > 0.9


def test_no_more_points_than_asked_for_and_the_same_ones_each_time():
    few = StereoConfig(num_disparities=64, points=500)
    points = stereo_points(*pair(20.0), CAMERA, BASELINE, few)
    assert points.shape == (500, 4)
    np.testing.assert_array_equal(points, stereo_points(*pair(20.0), CAMERA, BASELINE, few))


def test_what_does_not_fit_is_one_sentence():
    left, right = pair(20.0)
    with pytest.raises(OcclabError, match=r"one size, got uint8 \(160, 480\) and uint8 \(160, 470\)"):
        disparity_map(left, right[:, :470])
    with pytest.raises(OcclabError, match="two grey uint8 images"):
        disparity_map(left.astype(np.float32), right.astype(np.float32))
    with pytest.raises(OcclabError, match=r"camera left is 480 x 160 pixels, but its image has shape \(150, 480\)"):
        stereo_points(left[:150], right[:150], CAMERA, BASELINE)
    with pytest.raises(OcclabError, match=r"positive stereo baseline in metres, got -0\.5"):
        stereo_points(left, right, CAMERA, -0.5)
    blank = np.zeros_like(left)
    with pytest.raises(OcclabError, match="nothing matches nearer than 60 m"):
        stereo_points(blank, blank, CAMERA, BASELINE, CONFIG)
    with pytest.raises(OcclabError, match="multiple of 16 and an odd block_size"):
        StereoConfig(num_disparities=100)
    with pytest.raises(OcclabError, match="multiple of 16 and an odd block_size"):
        StereoConfig(block_size=4)


def test_real_pairs_agree_with_the_sweep_as_a_pseudo_cloud_does(tmp_path, monkeypatch, real_data):
    """Inside the camera's view, at 180 x 180 x 32. Plain matching without filter or margin: 0.20, 0.23, 0.61."""
    from occlab.frames.kitti import kitti_frame, list_sequences

    monkeypatch.setenv("OCCLAB_HOME", str(tmp_path))
    root, grid, rows = real_data / "semantickitti", VoxelGrid(), []
    for sequence in list_sequences(root):
        frame = kitti_frame(root, sequence, "000000")
        seen = view_mask(frame, grid)
        pseudo, lidar = (occupancy(torch.from_numpy(points), grid)[0] & seen for points in (frame.pseudo, frame.lidar))
        both = (pseudo & lidar).sum().item()
        rows.append([both / (pseudo | lidar).sum().item(), both / pseudo.sum().item(), both / lidar.sum().item()])
        assert len(frame.pseudo) == 40_000
    iou, precision, recall = np.mean(rows, axis=0)
    print(f"\n{len(rows)} pairs: IoU {iou:.3f}, precision {precision:.3f}, recall {recall:.3f}")
    assert iou > 0.20
    assert precision > 0.24
    assert recall > 0.55
    assert min(row[0] for row in rows) > 0.15

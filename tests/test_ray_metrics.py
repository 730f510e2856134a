"""Masked IoU and RayIoU: against rays walked one voxel at a time, closed forms, and on real and simulated frames."""

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab import ray_metrics
from occlab.errors import OcclabError
from occlab.frames import read_frames, simulate_frame, view_mask
from occlab.frames.point_files import read_bin
from occlab.frames.sensors import LidarConfig
from occlab.frames.simulate import StreetConfig
from occlab.grid import VoxelGrid
from occlab.metrics import iou
from occlab.ray_metrics import THRESHOLDS, RayScore, masked_scores, query_directions
from occlab.visibility import FREE, OCCUPIED, UNKNOWN, ray_states
from occlab.voxelize import occupancy

GRID = VoxelGrid((-8.0, -8.0, -2.0, 8.0, 8.0, 2.0), (0.8, 0.8, 0.4))  # 20 x 20 x 10 cells


def blobs(seed, n=60):
    rng = np.random.default_rng(seed)
    points = rng.uniform([-8, -8, -2], [8, 8, 2], (n, 3)).astype(np.float32)
    return occupancy(torch.from_numpy(points), GRID)[0]


def walk(volume, origin, direction):
    """Distance at which a ray leaves the first occupied voxel, one voxel at a time (Amanatides & Woo); infinity: it left."""
    low, size = np.array(GRID.point_cloud_range[:3]), np.array(GRID.voxel_size)
    place, way = (np.asarray(origin) - low) / size, np.asarray(direction) / np.linalg.norm(direction) / size
    cell, step = np.floor(place).astype(int), np.where(way < 0, -1, 1)
    with np.errstate(divide="ignore"):
        far, delta = (cell + (step > 0) - place) / way, np.abs(1 / way)
    far[way == 0] = np.inf
    while ((cell >= 0) & (cell < GRID.shape[::-1])).all():
        axis = int(np.argmin(far))
        if volume[tuple(cell[::-1])]:
            return far[axis]
        cell[axis] += step[axis]
        far[axis] += delta[axis]
    return np.inf


def score_of(predicted, target, *where):
    score = RayScore()
    score.update(predicted, target, GRID, *where)
    return score.compute()


def test_scores_are_those_of_rays_walked_voxel_by_voxel():
    predicted, target = blobs(1), blobs(2)
    predicted[:5] |= target[:5]
    origins = torch.tensor([[0.1, 0.2, 0.3], [-3.0, 4.0, 1.0]])
    directions = query_directions()[::31]
    depths = np.array(
        [[walk(v.numpy(), o.double(), d) for v in (predicted, target)] for o in origins for d in directions.numpy()]
    )
    guess, true = depths[np.isfinite(depths[:, 1])].T
    hit = np.isfinite(guess)
    error = np.abs(guess[hit] - true[hit])
    ious = {t: (error < t).sum() / (len(true) + hit.sum() - (error < t).sum()) for t in THRESHOLDS}
    scores = score_of(predicted, target, origins, directions)
    assert 0.1 < ious[1.0] < ious[4.0] < 0.9
    assert scores.at == pytest.approx(ious)
    assert scores.ray_iou == pytest.approx(np.mean(list(ious.values())))
    assert scores.depth_l1 == pytest.approx(error.mean())
    assert scores.abs_rel == pytest.approx((error / true[hit]).mean())
    assert (scores.found, scores.rays) == (pytest.approx(hit.mean()), len(true))


@pytest.mark.parametrize(
    ("cells", "at"), [(0, (1, 1, 1)), (1, (1, 1, 1)), (2, (0, 1, 1)), (3, (0, 0, 1)), (4, (0, 0, 1)), (6, (0, 0, 0))]
)
def test_a_wall_moved_by_cells_of_80_cm_is_right_within_1_2_or_4_m(cells, at):
    wall, moved = torch.zeros(2, *GRID.shape, dtype=torch.bool)
    wall[..., 18] = True
    moved[..., 18 - cells] = True
    scores = score_of(moved, wall, (0.1, 0.1, 0.1), torch.tensor([[2.0, 0.0, 0.0]]))
    assert tuple(scores.at.values()) == at
    assert scores.depth_l1 == pytest.approx(0.8 * cells)
    assert scores.abs_rel == pytest.approx(0.8 * cells / (19 * 0.8 - 8 - 0.1))


def test_a_hit_at_the_wrong_depth_counts_twice_and_a_ray_that_is_free_in_the_target_not_at_all():
    target, predicted = torch.zeros(2, *GRID.shape, dtype=torch.bool)
    target[..., 19] = True
    target[:, 10:, 19] = False  # half of what lies ahead is open
    predicted[..., 14] = True  # 4 m too near, and more along a slanted ray
    ways = torch.tensor([[1.0, y, 0.0] for y in (-0.4, -0.3, -0.2, 0.2, 0.3, 0.4)])
    wrong = score_of(predicted, target, (0.1, 0.0, 0.1), ways)
    assert (wrong.rays, wrong.found, wrong.ray_iou) == (3, 1.0, 0.0)
    predicted[:, 9, 14] = False  # a gap that one of the three rays passes, to find what is there
    predicted[..., 19] = target[..., 19]
    assert score_of(predicted, target, (0.1, 0.0, 0.1), ways).ray_iou == pytest.approx(1 / (3 + 3 - 1))


def test_the_perfect_and_the_empty_prediction():
    target = blobs(3)
    perfect = score_of(target, target)
    assert (perfect.ray_iou, perfect.depth_l1, perfect.abs_rel, perfect.found) == (1, 0, 0, 1)
    empty = score_of(torch.zeros_like(target), target)
    assert (empty.ray_iou, empty.found, empty.rays) == (0, 0, perfect.rays)
    assert math.isnan(empty.depth_l1)
    assert math.isnan(empty.abs_rel)
    assert RayScore().compute().ray_iou == 0


def test_frames_accumulate():
    pairs = [(blobs(i), blobs(i + 10, 200)) for i in range(2)]
    score = RayScore()
    for predicted, target in pairs:
        score.update(predicted, target, GRID)
    both, parts = score.compute(), [score_of(*pair) for pair in pairs]
    assert both.rays == sum(part.rays for part in parts)
    hits = [part.rays * part.found for part in parts]
    assert both.depth_l1 == pytest.approx(np.average([part.depth_l1 for part in parts], weights=hits))
    true = [part.at[2.0] * (part.rays + n) / (1 + part.at[2.0]) for part, n in zip(parts, hits, strict=True)]
    assert both.at[2.0] == pytest.approx(sum(true) / (both.rays + sum(hits) - sum(true)))


def test_query_rays_meet_flat_ground_at_multiples_of_the_height():
    directions = query_directions()
    assert directions.shape == (39 * 360, 3)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(len(directions), dtype=torch.float64))
    down = directions.view(39, 360, 3)[:10]
    ground = down[..., :2].norm(dim=-1) / -down[..., 2]
    torch.testing.assert_close(ground, torch.arange(1.0, 11.0).double()[:, None].expand(10, 360))
    elevation = directions.view(39, 360, 3)[:, 0, 2].asin()
    assert elevation[-2] < 0.21 <= elevation[-1]
    torch.testing.assert_close(elevation[9:].diff(), elevation[9:10].sub(elevation[8]).expand(29))


def test_a_hidden_wall_is_a_false_alarm_only_without_the_mask():
    target, guess = torch.zeros(2, 1, 1, 1, 8)
    target[..., 3] = 1
    guess[..., 3] = guess[..., 6] = 1  # the wall behind the wall
    states = torch.tensor([UNKNOWN, FREE, FREE, OCCUPIED, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN], dtype=torch.uint8)
    scores = masked_scores(guess, target, states, {"the input": target})
    assert scores["every voxel"]["prediction"].iou == 0.5
    assert scores["observed voxels"]["prediction"].iou == 1
    assert scores["every voxel"]["all occupied"].iou == 1 / 8
    assert scores["observed voxels"]["all occupied"].iou == pytest.approx(1 / 3)
    assert scores["every voxel"]["the input"].iou == 1
    assert set(scores["observed voxels"]) == {"prediction", "all empty", "all occupied", "the input"}
    assert masked_scores(guess, target, states != UNKNOWN)["observed voxels"]["prediction"].iou == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_mask_of_the_targets_own_rays_forgives_false_alarms_and_keeps_every_hit(seed):
    points = torch.from_numpy(np.random.default_rng(seed).uniform(-2, 2, (80, 3)).astype(np.float32))
    target, guess = occupancy(points, GRID)[0], blobs(seed, 500)
    guess[2:6] |= target[2:6]
    scores = masked_scores(guess[None].float(), target[None].float(), ray_states(points, GRID))
    every, seen = scores["every voxel"]["prediction"], scores["observed voxels"]["prediction"]
    assert seen.recall == every.recall
    assert seen.precision >= every.precision
    assert every.iou == pytest.approx(iou(guess, target))
    assert seen.iou == pytest.approx(iou(guess, target, ray_states(points, GRID) != UNKNOWN))


def test_wrong_input_is_one_sentence():
    p, volume = torch.zeros(1, 2, 3, 4), blobs(1)
    calls = {
        "must be bool, or uint8 states of voxels, got torch.float32": lambda: masked_scores(p, p, p),
        r"a mask of shape \(9, 9\) does not fit": lambda: masked_scores(p, p, torch.zeros(9, 9, dtype=torch.bool)),
        "one shape": lambda: masked_scores(p, p[:, :1], torch.ones(1, 1, 3, 4, dtype=torch.bool)),
        "the predicted occupancy must be bool": lambda: score_of(volume.float(), volume),
        "the target occupancy must be bool": lambda: score_of(volume, volume[0]),
        "origins of rays must be": lambda: score_of(volume, volume, torch.zeros(2, 4)),
    }
    for says, call in calls.items():
        with pytest.raises(OcclabError, match=says) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_examples_in_the_docstrings_hold():
    failed, tried = doctest.testmod(ray_metrics, extraglobs={"torch": torch})
    assert (failed, tried) == (0, 6)


def report(frame, lidar, states, grid):
    """Print what a frame's rays say; the shares of states, and the IoU of the pseudo cloud without and with the mask."""
    shares = {what: float((states == state).float().mean()) for what, state in (("unknown", 0), ("free", 1), ("occupied", 2))}
    target, guess = occupancy(lidar, grid), occupancy(torch.from_numpy(frame.pseudo), grid)
    view = view_mask(frame, grid)
    plain, masked = (iou(guess[0], target[0], mask) for mask in (view, view & (states != UNKNOWN)))
    directions = query_directions()
    for camera in frame.view:
        directions = directions[torch.from_numpy(camera.sees(10 * directions.numpy()))]
    rays = RayScore()
    rays.update(guess[0], target[0], grid, directions=directions)
    print(f"\n{frame.name}: " + ", ".join(f"{what} {share:.2%}" for what, share in shares.items()))
    print(f"pseudo cloud against LiDAR: IoU {plain:.3f}, over observed voxels {masked:.3f}; {rays.compute()}")
    return shares, plain, masked


def test_a_real_sweep_leaves_most_voxels_unknown(real_data, monkeypatch, tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    monkeypatch.setenv("OCCLAB_HOME", str(tmp_path))
    frame, grid = read_frames(real_data / "semantickitti", limit=1)[0], VoxelGrid()
    sweep = torch.from_numpy(read_bin(real_data / "semantickitti/sequences/00/velodyne/000000.bin", 4))
    states = ray_states(sweep, grid)
    shares, plain, masked = report(frame, sweep, states, grid)
    assert torch.equal(states == OCCUPIED, occupancy(sweep, grid)[0])
    assert 0.8 < shares["unknown"] < 0.95
    assert shares["free"] > 3 * shares["occupied"]
    assert masked > plain + 0.02


def test_a_simulated_sweep_leaves_most_voxels_unknown():
    pytest.importorskip("open3d", reason="Open3D is not installed")
    grid = VoxelGrid()
    frame = simulate_frame(7, StreetConfig(lidar=LidarConfig(sweeps=1)))
    lidar = torch.from_numpy(frame.lidar)
    states = ray_states(lidar, grid)
    shares, plain, masked = report(frame, lidar, states, grid)
    assert 0.8 < shares["unknown"] < 0.97
    assert shares["free"] > 3 * shares["occupied"]
    assert masked > plain + 0.02

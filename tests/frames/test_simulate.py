import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from occlab.errors import OcclabError
from occlab.frames.depth_errors import DepthErrors
from occlab.frames.sensors import scan
from occlab.frames.simulate import StreetConfig, in_range, simulate_frame, simulate_parts, unproject
from occlab.grid import VoxelGrid
from occlab.voxelize import occupancy

pytest.importorskip("open3d")

GRID = VoxelGrid()
SEEDS = (0, 1, 2)
SMALL = StreetConfig(stride=20, points=2000)


def cells(points):
    return occupancy(torch.from_numpy(points), GRID)[0]


def iou(a, b):
    return ((a & b).sum() / (a | b).sum()).item()


@pytest.fixture(scope="module")
def frames():
    return [simulate_frame(seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def parts():
    return simulate_parts(0)


def test_the_same_seed_and_config_is_the_same_frame(frames):
    assert simulate_frame(1).fingerprint == frames[1].fingerprint
    assert len({frame.fingerprint for frame in frames}) == 3
    assert simulate_frame(1, SMALL).fingerprint != frames[1].fingerprint


def test_name_and_source(frames):
    assert [frame.name for frame in frames] == ["street-000000", "street-000001", "street-000002"]
    source = json.loads(json.dumps(frames[2].source))
    assert source["seed"] == 2
    assert source["errors"]["edges"] == StreetConfig().errors.edges
    assert source["grid"]["voxel_size"] == [0.6, 0.6, 0.25]
    assert frames[0].view == ()
    json.dumps(simulate_frame(np.int64(1), SMALL).source)


def test_pseudo_points_are_as_many_as_asked_for_in_range_with_confidences(frames):
    for frame in frames:
        assert len(frame.pseudo) == 40_000
        assert in_range(frame.pseudo, GRID).all()
        assert 0 <= frame.pseudo[:, 3].min() < frame.pseudo[:, 3].max() <= 1


def test_the_lidar_target_is_as_sparse_as_the_data(frames):
    shares, densest, empty = [], [], []
    for frame in frames:
        target = cells(frame.lidar)
        per_channel = target.sum(dim=(1, 2))
        shares.append(target.float().mean().item())
        densest.append(per_channel.max().item())
        empty.append((per_channel < 50).sum().item())
    assert all(0.006 < share < 0.016 for share in shares)
    assert 1200 < np.mean(densest) < 2800
    assert min(empty) >= 6


def test_pseudo_points_agree_with_the_lidar_somewhat_and_perfect_depth_much_better(frames):
    default, perfect = [], []
    for seed, frame in zip(SEEDS, frames, strict=True):
        exact = simulate_frame(seed, StreetConfig(errors=DepthErrors.none()))
        np.testing.assert_array_equal(exact.lidar, frame.lidar)  # other errors, the same street
        default.append(iou(cells(frame.pseudo), cells(frame.lidar)))
        perfect.append(iou(cells(exact.pseudo), cells(frame.lidar)))
    assert 0.15 < np.mean(default) < 0.25
    assert np.mean(perfect) > 1.5 * np.mean(default)


def test_two_scans_of_one_street_agree(parts):
    again = scan(parts.scene, StreetConfig().lidar, np.random.default_rng(12345))
    assert not np.array_equal(again, parts.lidar)
    assert iou(cells(again), cells(parts.lidar)) > 0.88


def test_the_ground_fills_several_height_channels(frames):
    for frame in frames:
        per_channel = cells(frame.lidar).sum(dim=(1, 2))
        assert (per_channel > 0.25 * per_channel.max()).sum() >= 2


def test_unprojecting_and_projecting_again_gives_pixels_and_depth_back(parts):
    stride = StreetConfig().stride
    for camera, depth in zip(parts.cameras, parts.clean, strict=True):
        known = np.isfinite(depth)
        points = unproject(camera, depth, np.zeros_like(depth), stride)
        pixels, found = camera.project(points.astype(float))
        rows, columns = np.nonzero(known)
        np.testing.assert_allclose(found, depth[known], rtol=1e-4)
        np.testing.assert_allclose(pixels, np.column_stack([columns, rows]) * stride + stride // 2, atol=0.05)


def test_perfect_depth_lies_on_what_the_lidar_hits(parts):
    exact = simulate_parts(0, StreetConfig(errors=DepthErrors.none()))
    road = exact.pseudo[(np.abs(exact.pseudo[:, :2]) < 8).all(axis=1) & (exact.pseudo[:, 2] < -1.5)]
    assert np.median(road[:, 2]) == pytest.approx(-1.84, abs=0.15)


def test_parts_are_the_stages_of_the_frame(frames, parts):
    np.testing.assert_array_equal(parts.pseudo, frames[0].pseudo)
    np.testing.assert_array_equal(parts.lidar, frames[0].lidar)
    assert len(parts.cameras) == len(parts.clean) == len(parts.depth) == len(parts.confidence) == 6
    for clean, depth in zip(parts.clean, parts.depth, strict=True):
        assert clean.shape == depth.shape == (150, 267)
        assert np.isfinite(depth).all()  # the sky has become a shell
        assert np.isinf(clean).any()
    kept = {row.tobytes() for row in parts.pseudo[:500]}
    assert kept <= {row.tobytes() for row in parts.unprojected}


def test_a_smaller_grid_gets_points_of_its_own_range():
    grid = VoxelGrid((-10.8, -10.8, -5.0, 10.8, 10.8, 3.0))
    frame = simulate_frame(0, replace(SMALL, grid=grid))
    assert len(frame.pseudo) == 2000
    assert np.abs(frame.pseudo[:, :2]).max() < 10.8


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(OcclabError, match="seed must be a whole number"):
        simulate_frame(seed)


@pytest.mark.parametrize("bad", [{"stride": 0}, {"points": 0}])
def test_settings_that_mean_nothing_are_refused(bad):
    with pytest.raises(OcclabError, match="StreetConfig expects"):
        StreetConfig(**bad)


def test_without_open3d_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(OcclabError, match=r"open3d could not be imported .* pip install 'occlab\[course\]'") as caught:
        simulate_frame(0, SMALL)
    assert "\n" not in str(caught.value)

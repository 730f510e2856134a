import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from occlab.errors import OcclabError
from occlab.frames.reduce import ball_query, farthest_point_reduce, range_filter, reduce_cloud
from occlab.frames.sampling import farthest_point
from occlab.grid import VoxelGrid

GRID = VoxelGrid()


def cloud(n, seed=0, half=60.0):
    """A road that thins out with distance, walls, and an intensity."""
    rng = np.random.default_rng(seed)
    r, a = np.minimum(1.5 / np.maximum(rng.random(n), 0.02), half), rng.uniform(0, 2 * np.pi, n)
    z = np.where(rng.random(n) < 0.6, -1.7 + 0.02 * rng.standard_normal(n), rng.uniform(-1.7, 3.5, n))
    return np.c_[r * np.cos(a), r * np.sin(a), z, rng.random(n)].astype(np.float32)


def reference_ball_query(points, centres, radius, k):
    """PointNet++'s kernel, line by line, but for the empty ball."""
    out = np.full((len(centres), k), -1)
    for m, centre in enumerate(centres.astype(np.float64)):
        count = 0
        for n, point in enumerate(points.astype(np.float64)):
            if ((point[:3] - centre[:3]) ** 2).sum() < radius**2:
                if count == 0:
                    out[m] = n
                out[m, count] = n
                count += 1
                if count == k:
                    break
    return out


def test_a_grids_range_is_that_of_its_cells_and_a_box_is_half_open():
    points = cloud(5000)
    points[:3, 0] = np.nan, np.inf, 1e30
    inside = range_filter(points, GRID)
    np.testing.assert_array_equal(inside, GRID.index_of(torch.from_numpy(points))[1].numpy())
    assert not inside[:3].any()
    assert 0 < inside.sum() < len(points)
    box = (-1.0, -2.0, -3.0, 1.0, 2.0, 3.0)
    corners = np.array([[-1, -2, -3], [1, 0, 0], [0, 2, 0], [0.999, 1.999, 2.999], [np.nan, 0, 0]])
    assert range_filter(corners, box).tolist() == [True, False, False, True, False]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0.05, 0.8))
def test_ball_query_is_that_of_pointnet(seed, k, radius):
    rng = np.random.default_rng(seed)
    points, centres = rng.random((rng.integers(1, 60), 4)), rng.random((rng.integers(0, 12), 3))
    np.testing.assert_array_equal(
        ball_query(points, centres, radius, k), reference_ball_query(points, centres, radius, k).reshape(-1, k)
    )


def test_ball_query_finds_what_a_tree_finds_across_its_chunks():
    points = cloud(3000, half=10.0)
    found = ball_query(points, points, 0.5, 2000)
    xyz = points[:, :3].astype(np.float64)
    for row, expected in zip(found, cKDTree(xyz).query_ball_point(xyz, 0.5), strict=True):
        assert sorted(set(row.tolist())) == sorted(expected)


def test_the_surface_of_a_ball_is_outside_and_an_empty_ball_holds_minus_one():
    points = np.array([[1.0, 0, 0], [0.5, 0, 0], [0.25, 0, 0]])
    assert ball_query(points, np.zeros((1, 3)), 1.0, 3).tolist() == [[1, 2, 1]]
    assert ball_query(points, np.full((1, 3), 9.0), 1.0, 2).tolist() == [[-1, -1]]
    assert ball_query(points[:0], np.zeros((1, 3)), 1.0, 2).tolist() == [[-1, -1]]


def covering_radius(points, chosen):
    return cKDTree(points[chosen, :3]).query(points[:, :3])[0].max()


@pytest.fixture
def fpsample():
    return pytest.importorskip("fpsample", reason="needs fpsample: pip install 'fpsample>=0.3.3'")


@pytest.mark.usefixtures("fpsample")
@pytest.mark.parametrize("n", [2, 9, 300, 2000])
def test_the_library_takes_exactly_the_set_of_farthest_point_sampling(n):
    points = cloud(n, seed=n)
    count = max(1, n // 7)
    (first,) = farthest_point_reduce(points, 1)
    chosen = farthest_point_reduce(points, count)
    np.testing.assert_array_equal(chosen, np.sort(farthest_point(points, count, first)))


@pytest.mark.usefixtures("fpsample")
def test_a_reduced_cloud_covers_far_better_than_a_random_one():
    points = cloud(30_000)
    chosen = farthest_point_reduce(points, 3000)
    assert len(np.unique(chosen)) == 3000
    gap = cKDTree(points[chosen, :3]).query(points[:, :3])[0].max()
    spacing = cKDTree(points[chosen, :3]).query(points[chosen, :3], k=2)[0][:, 1].min()
    assert gap <= spacing * (1 + 1e-5)  # the greedy invariant: no point left lies further off than those taken from one another
    drawn = np.random.default_rng(0).choice(len(points), 3000, replace=False)
    assert 2 * gap < cKDTree(points[drawn, :3]).query(points[:, :3])[0].max()


@pytest.mark.usefixtures("fpsample")
def test_points_that_coincide_are_taken_once():
    points = np.repeat(cloud(10), 20, axis=0)
    chosen = farthest_point_reduce(points, 50)
    assert len(np.unique(points[chosen], axis=0)) == len(chosen) == 10


def test_a_cloud_small_enough_stays_whole_without_any_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "fpsample", None)
    points = cloud(500)
    np.testing.assert_array_equal(farthest_point_reduce(points, 500), np.arange(500))
    with pytest.raises(OcclabError, match=r"fpsample could not be imported .* pip install"):
        farthest_point_reduce(points, 499)


@pytest.mark.usefixtures("fpsample")
def test_reducing_drops_what_is_outside_then_what_is_alone_then_what_is_crowded():
    points = cloud(20_000, half=70.0)
    lone = np.array([[30.0, 30.0, 2.9, 0.5], [-40.0, 10.0, 2.9, 0.5]], np.float32)
    points = np.concatenate([points, lone])
    out = reduce_cloud(points, grid=GRID, count=2000)
    assert out.shape == (2000, 4)
    assert out.dtype == np.float32
    assert range_filter(out, GRID).all()
    rows = {row.tobytes(): i for i, row in enumerate(points)}
    order = [rows[row.tobytes()] for row in out]  # every row is one of the cloud's, in its order, intensity and all
    assert order == sorted(set(order))
    assert not set(order) & {20_000, 20_001}
    inside = points[range_filter(points, GRID)]
    balls = ball_query(inside, out, 0.6, 4)
    assert all(len(set(ball.tolist())) == 4 for ball in balls)
    kept_lone = reduce_cloud(points, grid=GRID, count=2000, neighbours=0)
    assert {row.tobytes() for row in lone} <= {row.tobytes() for row in kept_lone}  # the farthest are taken first


def test_what_cannot_be_reduced_is_named():
    points = cloud(100)
    with pytest.raises(OcclabError, match="none of 100 points lies inside"):
        reduce_cloud(points + np.float32(1000), grid=GRID)
    with pytest.raises(OcclabError, match=r"none of 3 points has 3 others within 0\.6 m"):
        reduce_cloud(points[:3] * np.float32(0.5), grid=GRID)
    with pytest.raises(OcclabError, match="radius above 0"):
        reduce_cloud(points, grid=GRID, radius=0)
    with pytest.raises(OcclabError, match="6 numbers"):
        range_filter(points, (0, 0, 0, -1, 1, 1))
    with pytest.raises(OcclabError, match=r"floats \(N, 3 or more\).* int64"):
        range_filter(np.zeros((4, 4), np.int64), GRID)
    with pytest.raises(OcclabError, match="k of at least 1"):
        ball_query(points, points, 1.0, 0)
    points[7, 1] = np.nan
    for call in (lambda: ball_query(points, points[:5], 1.0, 2), lambda: farthest_point_reduce(points, 10)):
        with pytest.raises(OcclabError, match="1 of 100 hold NaN"):
            call()

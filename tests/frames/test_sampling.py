import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from occlab.errors import OcclabError
from occlab.frames.sampling import density_aware, farthest_point


def brute_force_farthest(xyz, count):
    """From the definition: each next point has the largest distance to the set so far, all distances computed anew."""
    between = cdist(xyz, xyz, "sqeuclidean")
    chosen = [0]
    while len(chosen) < count:
        chosen.append(int(between[:, chosen].min(axis=1).argmax()))
    return chosen


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_farthest_point_against_the_definition(n, count, seed):
    points = np.random.default_rng(seed).integers(-50, 50, (n, 4)).astype(np.float32)  # whole numbers: distances are exact
    got = farthest_point(points, count)
    count = min(n, count)
    between = cdist(points[:, :3], points[:, :3], "sqeuclidean")
    assert got.tolist() == brute_force_farthest(points[:, :3], count)
    if count > 1:  # Gonzalez: each point taken is at least as far from those before as any left out is from all
        left = between[:, got].min(axis=1).max()
        assert left <= between[got[-1], got[:-1]].min()


def test_farthest_point_on_a_line_halves_the_gaps():
    line = np.column_stack([np.arange(9.0), np.zeros(9), np.zeros(9)])
    assert farthest_point(line, 5).tolist() == [0, 8, 4, 2, 6]


def crowd(rng, n_near=20_000, n_far=400):
    """A dense square metre and a sparse hundred square metres."""
    near = np.column_stack([rng.random((n_near, 2)), np.zeros(n_near)])
    far = np.column_stack([10 + 10 * rng.random((n_far, 2)), np.zeros(n_far)])
    return np.concatenate([near, far])


def test_density_aware_thins_the_crowd_and_keeps_the_few():
    points = crowd(np.random.default_rng(0))
    chosen = density_aware(points, 500, np.random.default_rng(1))
    assert len(np.unique(chosen)) == 500
    assert (np.diff(chosen) > 0).all()
    kept = (points[chosen, 0] > 5).sum() / 400
    assert kept > 0.9  # an even draw would keep 500 / 20,400 = 2.5 %


def test_density_aware_covers_more_cells_than_an_even_draw_and_fewer_than_farthest_point():
    rng = np.random.default_rng(2)
    points = crowd(rng, 3000, 600)
    hole = {}
    for name, chosen in (
        ("even", rng.choice(len(points), 200, replace=False)),
        ("density", density_aware(points, 200, rng)),
        ("farthest", farthest_point(points, 200)),
    ):
        hole[name] = np.mean(cdist(points[3000:], points[chosen]).min(axis=1))
    assert hole["farthest"] < hole["density"] < 0.6 * hole["even"]


def test_density_aware_in_an_even_cloud_is_an_even_draw():
    points = np.stack(np.meshgrid(*[np.arange(8) * 0.5 + 0.1] * 3), axis=-1).reshape(-1, 3)  # one point a cube
    times = np.zeros(len(points))
    for seed in range(400):
        times[density_aware(points, 128, np.random.default_rng(seed))] += 1
    expected = 400 * 128 / 512  # binomial: standard deviation 8.7
    assert abs(times - expected).max() < 5 * 8.7
    assert times.std() == pytest.approx(8.7, rel=0.15)


def test_few_points_are_all_kept_and_the_same_seed_draws_the_same():
    points = crowd(np.random.default_rng(0), 50, 50)
    assert density_aware(points, 100, np.random.default_rng(0)).tolist() == list(range(100))
    assert density_aware(points[:0], 5, np.random.default_rng(0)).tolist() == []
    a, b = (density_aware(points, 30, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("sample", [lambda p, n: density_aware(p, n, np.random.default_rng(0)), farthest_point])
def test_wrong_shapes_and_counts_are_refused(sample):
    for points, count in ((np.zeros((5, 2)), 3), (np.zeros(5), 3), (np.zeros((5, 3)), 0)):
        with pytest.raises(OcclabError, match="sampling expects points"):
            sample(points, count)

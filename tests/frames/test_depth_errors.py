from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from occlab.errors import OcclabError
from occlab.frames.depth_errors import (
    DepthErrors,
    apply_errors,
    at_edges,
    confidence,
    edge_error,
    range_error,
    scale_error,
    sky_error,
    smooth_error,
)

NONE = DepthErrors.none()
SHAPE = (60, 100)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def street():
    """Road below, a wall on the left, a post before it, sky above."""
    rows = np.arange(60)[:, None]
    depth = np.where(rows > 30, 60.0 / np.maximum(rows - 29.5, 0.1), np.inf) * np.ones((1, 100))
    depth[10:40, :50] = np.minimum(depth[10:40, :50], 12.0)
    depth[5:50, 30:34] = 3.0
    return depth.astype(np.float32)


def test_all_off_changes_nothing(street):
    np.testing.assert_array_equal(apply_errors(street, NONE, rng()), street)


def test_scale_is_one_factor_an_image_with_the_spread_asked_for(street):
    known = np.isfinite(street)
    logs = []
    for seed in range(2000):
        ratio = scale_error(street, 0.05, rng(seed))[known] / street[known]
        if seed < 20:
            assert np.ptp(ratio) < 1e-5
        logs.append(np.log(ratio[0]))
    assert np.std(logs) == pytest.approx(0.05, rel=0.06)
    assert abs(np.mean(logs)) < 0.005


def test_smooth_error_has_the_spread_asked_for_and_varies_slowly():
    depth = np.full(SHAPE, 20.0, np.float32)
    logs = np.stack([np.log(smooth_error(depth, 0.05, rng(seed)) / 20) for seed in range(300)])
    assert 0.6 * 0.05 < logs.std() < 1.2 * 0.05  # between its places a cubic is a mean of several, so a little calmer
    for field in logs[:20]:
        assert np.abs(np.diff(field, axis=0)).max() < 0.25 * np.ptp(field)
        assert np.abs(field - gaussian_filter(field, 2)).std() < 0.12 * field.std()


@pytest.mark.parametrize(("proportional", "quadratic"), [(0.02, 0.0), (0.0, 0.0005), (0.02, 0.0005)])
def test_range_error_grows_as_said(proportional, quadratic):
    for d in (5.0, 20.0, 50.0):
        depth = np.full((200, 200), d, np.float32)
        error = range_error(depth, proportional, quadratic, rng()) - depth
        assert error.std() == pytest.approx(proportional * d + quadratic * d * d, rel=0.02)
        assert abs(error.mean()) < 0.05 * error.std()


def test_range_error_is_like_its_neighbours_and_never_negative():
    depth = np.full((200, 200), 30.0, np.float32)
    error = range_error(depth, 0.05, 0.0, rng()) - depth

    def correlation(shift):
        return np.corrcoef(error[:, shift:].ravel(), error[:, :-shift].ravel())[0, 1]

    assert correlation(1) == pytest.approx(np.exp(-1 / 4), abs=0.03)  # Gaussian blur of 1 pixel: exp(-shift^2 / 4)
    assert abs(correlation(8)) < 0.05
    assert range_error(depth, 2.0, 0.0, rng()).min() >= 3.0 - 1e-4


def test_edges_are_where_depth_jumps_and_not_on_a_road(street):
    edges = at_edges(street)
    assert edges[20:40, 29:31].all()  # post against wall, both sides
    assert edges[20:40, 33:35].all()
    assert edges[20:30, 49].sum() == 0  # wall against sky: there is no depth to mix with
    rows = np.arange(45, 59)
    assert not edges[rows][:, 60:].any()  # road: steep in depth, even in 1/depth
    assert not edges[~np.isfinite(street)].any()


def test_flying_pixels_lie_between_near_and_far_in_the_share_asked_for(street):
    edges = at_edges(street)
    changed_share = []
    for seed in range(20):
        out = edge_error(street, 0.5, rng(seed))
        changed = out != street
        assert not (changed & ~edges).any()
        changed_share.append(changed[edges].mean())
        at_post = out[20:30, 29:31]
        assert ((at_post >= 3.0) & (at_post <= 12.0)).all()
    assert np.mean(changed_share) == pytest.approx(0.5, abs=0.02)
    every = np.stack([edge_error(street, 1.0, rng(seed))[25, 30] for seed in range(400)])
    assert every.mean() == pytest.approx(7.5, abs=0.4)  # evenly between 3 and 12
    assert np.isinf(out[0]).all()


def test_sky_becomes_the_99th_percentile_at_most_200(street):
    known = np.isfinite(street)
    shell = sky_error(street)
    np.testing.assert_array_equal(shell[known], street[known])
    np.testing.assert_allclose(shell[~known], np.percentile(street[known], 99), rtol=1e-6)
    assert sky_error(street * 100)[0, 0] == 200
    only_sky = np.full((3, 3), np.inf, np.float32)
    assert np.isinf(sky_error(only_sky)).all()


@pytest.mark.parametrize("name", ["scale", "smooth", "proportional", "quadratic", "edges", "sky"])
def test_each_switch_changes_the_map_alone_and_leaves_the_other_errors_as_they_were(street, name):
    on = replace(NONE, **{name: getattr(DepthErrors(), name)})
    assert not np.array_equal(apply_errors(street, on, rng()), street)
    if name in ("smooth", "sky"):
        # without this error, the rest must be drawn as before: scale is a plain factor, so it divides out
        rest = replace(NONE, scale=0.1)
        with_both = apply_errors(street, replace(rest, **{name: getattr(on, name)}), rng(5))
        alone = apply_errors(street, on, rng(5))
        known = np.isfinite(street)
        ratio = with_both[known] / alone[known]
        np.testing.assert_allclose(ratio, apply_errors(street, rest, rng(5))[known] / street[known], rtol=1e-5)


def test_inputs_are_left_alone(street):
    before = street.copy()
    apply_errors(street, DepthErrors(), rng())
    confidence(street, street)
    np.testing.assert_array_equal(street, before)


def test_default_errors_give_finite_positive_depth(street):
    out = apply_errors(street, DepthErrors(), rng())
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert out.min() > 0


def test_confidence_falls_with_depth_is_halved_at_edges_and_zero_in_the_sky(street):
    sure = confidence(street, sky_error(street))
    assert ((sure >= 0) & (sure <= 1)).all()
    assert (sure[~np.isfinite(street)] == 0).all()
    road = sure[35:59, 80]
    assert (np.diff(road) > 0).all()  # downwards is nearer
    assert sure[25, 31] == pytest.approx(np.exp(-3 / 60))
    assert sure[25, 30] == pytest.approx(np.exp(-3 / 60) / 2)


@pytest.mark.parametrize("bad", [{"scale": -0.1}, {"edges": 1.5}, {"quadratic": -1}])
def test_sizes_that_mean_nothing_are_refused(bad):
    with pytest.raises(OcclabError, match="DepthErrors expects"):
        DepthErrors(**bad)

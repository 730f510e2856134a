"""The pose model against SciPy's rotations, and the search for it on rooms whose every wall is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from occlab.errors import OcclabError
from occlab.frames.registration import AXES, Pose, Surface, ground_level, refine, register, thinned, within

pytest.importorskip("open3d", reason="Open3D is not installed")


@pytest.fixture(scope="module")
def surface(hall):
    return Surface(hall(0, 12, 0.02), "hall")


@pytest.fixture(scope="module")
def cloud(hall):
    """The same hall, other points, with 1 % noise along the ray."""
    rng = np.random.default_rng(1)
    points = hall(1, 5, 0.02)
    return points * (1 + rng.normal(0, 0.01, (len(points), 1)))


poses = st.builds(
    Pose,
    st.floats(0.93, 1.07),
    st.floats(-0.4, 0.4),
    st.floats(-3, 3),
    st.floats(-1.5, 1.5),
    st.sampled_from(AXES),
)


@given(poses)
@settings(max_examples=30, deadline=None)
def test_a_pose_is_scipys_rotation_scaled_and_undone(pose):
    xyz = np.random.default_rng(0).normal(0, 10, (50, 3))
    turned = Rotation.from_euler("ZY", [pose.yaw, pose.pitch], degrees=True).apply(xyz)
    expected = pose.scale * turned + [0, 0, pose.z_offset]
    columns = np.stack([np.sign(a) * expected[:, abs(a) - 1] for a in pose.axes], axis=1)
    np.testing.assert_allclose(pose.move(xyz), columns, atol=1e-9)
    np.testing.assert_allclose(pose.undo(pose.move(xyz)), xyz, atol=1e-9)


def test_signs_are_as_documented():
    ahead = np.array([[10.0, 0, 0]])
    assert Pose(yaw=2).move(ahead)[0, 1] > 0.3  # to the left
    assert Pose(pitch=2).move(ahead)[0, 2] < -0.3  # down
    assert Pose(1.05).move(ahead)[0].tolist() == [10.5, 0, 0]
    assert Pose(z_offset=0.25).move(ahead)[0].tolist() == [10, 0, 0.25]
    assert Pose(axes=(2, 1, 3)).move(np.array([[1.0, 2, 3]]))[0].tolist() == [2, 1, 3]
    assert Pose(axes=(-2, -3, 1)).move(np.array([[1.0, 2, 3]]))[0].tolist() == [-2, -3, 1]
    assert len(set(AXES)) == 48


@given(st.floats(0.94, 1.06), st.floats(-0.4, 0.4), st.floats(-3, 3), st.floats(-1.5, 1.5))
@settings(max_examples=10, deadline=None)
def test_a_small_motion_is_found_to_a_fraction_of_the_tolerances(surface, cloud, scale, z_offset, yaw, pitch):
    planted = Pose(scale, z_offset, yaw, pitch)
    found = refine(surface, planted.move(cloud[::3]), Pose())
    assert found.scale == pytest.approx(scale, abs=0.004)
    assert found.z_offset == pytest.approx(z_offset, abs=0.03)
    assert found.yaw == pytest.approx(yaw, abs=0.1)
    assert found.pitch == pytest.approx(pitch, abs=0.1)


@pytest.mark.parametrize("planted", [Pose(1.6), Pose(0.5), Pose(3.28), Pose(z_offset=1.84), Pose(yaw=12)], ids=str)
def test_a_large_error_is_searched_for(surface, cloud, planted):
    found, overlap = register(surface, planted.move(cloud), "hall")
    assert found.axes == (1, 2, 3)
    assert found.scale == pytest.approx(planted.scale, rel=0.01)
    assert found.z_offset == pytest.approx(planted.z_offset, abs=0.05)
    assert found.yaw == pytest.approx(planted.yaw, abs=0.2)
    assert overlap > 0.5


@pytest.mark.parametrize("axes", AXES[::13], ids=str)
def test_any_swap_and_mirror_of_axes_is_told_apart(surface, cloud, axes):
    assert register(surface, Pose(axes=axes).move(cloud), "hall")[0].axes == axes


def test_a_cloud_does_not_fit_better_by_shrinking(surface, cloud):
    """Nearest neighbours alone would have it so: near the LiDAR its points lie close together."""
    whole = surface.overlap(cloud, 0.02)
    assert all(surface.overlap(cloud / shrink, 0.02) < whole / 2 for shrink in (2, 4, 16))


def test_a_street_alike_on_both_sides_keeps_its_axes(faces):
    """Walls at y = +-8 m and one crate: only the crate tells left from right."""
    rng = np.random.default_rng(0)
    clouds = []
    for per_m2 in (12, 5):
        walls = faces(rng, [-30, -8, -1.8], [30, 8, 4], per_m2, "y")
        road = faces(rng, [-30, -8, -1.8], [30, 8, -1.8], per_m2 / 2, "z")
        crate = faces(rng, [6, 3, -1.8], [10, 5, 0.5], per_m2)
        clouds.append(np.concatenate([walls, road, crate]) + 0.0)
        clouds[-1] += rng.normal(0, 0.02, clouds[-1].shape)
    target = Surface(clouds[0], "street")
    assert register(target, clouds[1], "street")[0].axes == (1, 2, 3)


def test_ground_level_and_thinning():
    rng = np.random.default_rng(0)
    ground = np.c_[rng.uniform(-25, 25, (4000, 2)), rng.normal(-1.5, 0.02, 4000)]
    clutter = rng.uniform([-25, -25, -2], [25, 25, 5], (4000, 3))
    assert ground_level(np.r_[ground, clutter]) == pytest.approx(-1.5, abs=0.11)
    assert ground_level(np.zeros((5, 3))) == 0
    thin = thinned(ground, 1.0, 500)
    assert len(thin) == 500
    assert len(np.unique(np.floor(thin), axis=0)) == 500
    np.testing.assert_array_equal(thin, thinned(ground, 1.0, 500))
    assert within(np.array([[1.0, 0, 0], [5, 0, 0], [50, 0, 0]]), 3, 35).tolist() == [False, True, False]


def test_too_few_points_are_one_sentence(surface):
    few = np.random.default_rng(0).normal(0, 10, (10, 3))
    with pytest.raises(
        OcclabError, match=r"frame f: check_alignment needs at least 300 LiDAR points .* got 10 of 10"
    ) as caught:
        Surface(few, "f")
    assert "\n" not in str(caught.value)
    with pytest.raises(OcclabError, match=r"frame f: check_alignment needs at least 300 pseudo points .* of 10"):
        register(surface, few, "f")

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab.errors import OcclabError
from occlab.frames.meshes import KINDS, blob, box, merge, surface
from occlab.frames.scene import LIDAR_HEIGHT, Mover, Road, Scene
from occlab.frames.sensors import (
    Hits,
    LidarConfig,
    RayTarget,
    camera_rig,
    depth_maps,
    lidar_directions,
    nearest,
    own_car,
    received,
    scan,
)

pytest.importorskip("open3d")

NOTHING = merge([])
IDEAL = LidarConfig(noise=0, dropout=0, sensitivity=1e9, own_car=False)


def level_road():
    return Road(1e-9, 8.0, 3.0, -1.65, 2, (0.0, 0.0), (0.0, 100.0, 0.0), 0.0, (0.0, 0.0), ())


def plane(z=-LIDAR_HEIGHT, half=1000.0):
    return surface(
        [(-half, -half, z), (half, -half, z), (half, half, z), (-half, half, z)], [(0, 1, 2), (0, 2, 3)], "road", 0.12
    )


def scene(static=NOTHING, movers=(), speed=0.0):
    return Scene(static, tuple(movers), level_road(), speed)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_rays_at_a_box_against_the_slab_method(seed):
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.5, 4, 3)
    origin = rng.uniform(-8, 8, 3)
    rays = unit(rng.normal(size=(500, 3)) * 0.3 - unit(origin[None]))
    low, high = np.array([*(-size[:2] / 2), 0.0]), np.array([*(size[:2] / 2), size[2]])
    with np.errstate(divide="ignore"):
        a, b = (low - origin) / rays, (high - origin) / rays
    enter, leave = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
    expected = np.where((enter <= leave) & (leave > 0), np.where(enter > 0, enter, leave), np.inf)
    got = RayTarget(box(tuple(size), "car", 0.5)).cast(origin, rays).distance
    grazing = np.abs(enter - leave) < 1e-3  # a ray that only just clips an edge may fall on either side in float32
    np.testing.assert_allclose(got[~grazing], expected[~grazing], rtol=1e-4, atol=1e-4)


def test_rays_at_a_sphere_against_the_quadratic():
    radius, centre, origin = 2.0, np.array([6.0, 1.0, 0.5]), np.array([0.0, 0.0, 1.0])
    rays = unit(np.random.default_rng(0).normal(size=(2000, 3)) * 0.25 + [1, 0, 0])
    b, c = rays @ (origin - centre), np.sum((origin - centre) ** 2) - radius**2
    root = b * b - c
    hit = root > 0.05
    target = RayTarget(blob((radius,) * 3, "foliage", 0.4, centre=tuple(centre), subdivisions=6))
    found = target.cast(origin, rays)
    expected = -b[hit] - np.sqrt(root[hit])
    np.testing.assert_allclose(found.distance[hit], expected, atol=5e-3)
    normal = (origin + expected[:, None] * rays[hit] - centre) / radius
    np.testing.assert_allclose(found.cosine[hit], -np.einsum("ij,ij->i", normal, rays[hit]), atol=0.03)
    assert np.isinf(found.distance[root < -0.01]).all()
    assert {KINDS[k] for k in found.kind[hit]} == {"foliage"}


def test_the_nearest_of_two_targets_counts_with_its_own_surface():
    rays = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    near = RayTarget(box((1, 1, 1), "car", 0.9, centre=(5, 0), base=-0.5)).cast(np.zeros(3), rays)
    far = RayTarget(merge([box((1, 30, 1), "building", 0.3, centre=(9, 0), base=-0.5), plane(4)])).cast(np.zeros(3), rays)
    both = nearest(near, far)
    np.testing.assert_allclose(both.distance, [4.5, np.inf, 4.0], rtol=1e-6)
    assert [KINDS[k] for k in both.kind[[0, 2]]] == ["car", "road"]
    np.testing.assert_allclose(both.reflectivity[[0, 2]], [0.9, 0.12])
    nothing = RayTarget(NOTHING).cast(np.zeros(3), rays)
    np.testing.assert_array_equal(nearest(nothing, far).distance, far.distance)


def test_beams_and_azimuths():
    xyz = lidar_directions(LidarConfig()).reshape(32, 1084, 3)
    np.testing.assert_allclose(np.linalg.norm(xyz, axis=-1), 1)
    elevation = np.degrees(np.arcsin(xyz[:, :, 2]))
    np.testing.assert_allclose(elevation[[0, -1], 0], [-30.67, 10.67])
    np.testing.assert_allclose(np.diff(elevation, axis=0), (10.67 + 30.67) / 31)
    turned = lidar_directions(LidarConfig(), phase=0.5).reshape(32, 1084, 3)
    np.testing.assert_allclose(np.sum(xyz[0] * turned[0], axis=-1) < 1, True)
    np.testing.assert_allclose(lidar_directions(LidarConfig(), phase=1.0).reshape(32, 1084, 3)[:, :-1], xyz[:, 1:], atol=1e-12)


def test_a_level_road_is_hit_at_height_over_sine_of_elevation():
    # Without noise, dropout or own car only the ground's distance, up to the range limit, decides.
    cloud = scan(scene(plane()), replace(IDEAL, sweeps=1), np.random.default_rng(0))
    np.testing.assert_allclose(cloud[:, 2], -LIDAR_HEIGHT, atol=1e-4)
    found = np.unique(np.round(np.linalg.norm(cloud[:, :3], axis=1), 2))
    elevation = np.radians(np.linspace(-30.67, 10.67, 32))
    with np.errstate(divide="ignore"):
        reach = LIDAR_HEIGHT / np.sin(-elevation)
    blocked = RayTarget(own_car()).cast(np.zeros(3), lidar_directions(IDEAL)).distance.reshape(32, -1)
    expected = [r for r, free in zip(reach, np.isinf(blocked).any(axis=1), strict=True) if 0 < r <= 100 and free]
    np.testing.assert_allclose(found, expected, atol=0.011)


def test_range_noise_lies_along_the_ray_with_the_spread_asked_for():
    config = replace(IDEAL, noise=0.05, sweeps=1)
    cloud = scan(scene(plane()), config, np.random.default_rng(0))[:, :3]
    distance = np.linalg.norm(cloud, axis=1)
    error = distance - LIDAR_HEIGHT * distance / -cloud[:, 2]
    assert error.std() == pytest.approx(0.05, rel=0.03)
    assert abs(error.mean()) < 0.002


def test_dropout_and_range_limit():
    wall = merge([box((1, 400, 100), "building", 1.0, centre=(x, 0), base=-50) for x in (-30, 30)])
    full = scan(scene(wall), replace(IDEAL, sweeps=1), np.random.default_rng(0))
    thinned = scan(scene(wall), replace(IDEAL, sweeps=1, dropout=0.25), np.random.default_rng(0))
    assert len(thinned) / len(full) == pytest.approx(0.75, abs=0.015)
    near = scan(scene(wall), replace(IDEAL, sweeps=1, max_range=40.0), np.random.default_rng(0))
    assert np.linalg.norm(near[:, :3], axis=1).max() <= 40.001
    assert np.linalg.norm(full[:, :3], axis=1).max() > 90


def test_the_chance_of_a_return_follows_the_lidar_equation():
    def chance(distance, reflectivity=1.0, cosine=1.0):
        values = (np.atleast_1d(np.float32(v)) for v in (distance, reflectivity, cosine))
        distance, reflectivity, cosine = np.broadcast_arrays(*values)
        return received(
            Hits(distance, np.zeros(len(distance), np.uint8), reflectivity, cosine), LidarConfig(sensitivity=50, dropout=0)
        )

    assert chance(50.0)[0] == pytest.approx(1 - np.exp(-1))
    assert chance(100.0, 0.8, 0.5)[0] == pytest.approx(1 - np.exp(-0.4 / 4))
    assert chance(np.inf)[0] == 0
    assert (np.diff(chance(np.linspace(20, 99, 50))) < 0).all()
    assert received(Hits(*(np.ones(1),) * 4), LidarConfig(dropout=0.1))[0] == pytest.approx(0.9)


def test_what_moves_is_smeared_and_what_stands_is_not():
    block = box((4, 2, 3), "car", 0.8, centre=(15, 8), base=-1.5)
    moving = scan(scene(movers=[Mover(block, (10.0, 0.0, 0.0))]), IDEAL, np.random.default_rng(0))
    assert np.ptp(moving[:, 0]) == pytest.approx(4 + 10 * 0.45, abs=0.1)
    assert moving[:, 0].max() == pytest.approx(17, abs=0.1)  # its newest place is that of the key moment
    assert np.ptp(moving[:, 1]) <= 2.01

    standing = scan(scene(block, speed=10.0), IDEAL, np.random.default_rng(0))
    low, high = block.vertices.min(axis=0), block.vertices.max(axis=0)
    assert ((standing[:, :3] > low - 1e-3) & (standing[:, :3] < high + 1e-3)).all()
    assert len(standing) > 500


def test_sweeps_are_cast_from_where_the_car_was():
    cloud = scan(scene(plane(), speed=10.0), IDEAL, np.random.default_rng(0))
    innermost = cloud[np.abs(cloud[:, 1]) > 1.5]
    gap_behind, gap_ahead = -innermost[innermost[:, 0] < 0, 0].min(), innermost[:, 0].max()
    assert gap_behind - gap_ahead == pytest.approx(
        4.5, abs=0.2
    )  # the ring of the first sweep lies 0.45 s x 10 m/s further back


def test_the_cars_own_roof_is_kept_or_dropped():
    kept = scan(scene(plane()), replace(LidarConfig(), sweeps=1), np.random.default_rng(0))
    dropped = scan(scene(plane()), replace(LidarConfig(), sweeps=1, own_car=False), np.random.default_rng(0))
    close = (np.linalg.norm(kept[:, :3], axis=1) < 2).sum()
    assert 2500 < close < 6500  # a real nuScenes sweep: about 4,100
    assert (np.linalg.norm(dropped[:, :3], axis=1) < 2).sum() == 0
    assert len(kept) - len(dropped) == pytest.approx(close, rel=0.2)


def test_intensity_is_within_0_and_1_and_a_sign_outshines_the_road():
    sign = box((0.1, 4, 4), "pole", 0.98, centre=(10, 0), base=-1)
    cloud = scan(scene(merge([plane(), sign])), LidarConfig(sweeps=1, own_car=False), np.random.default_rng(0))
    assert cloud.dtype == np.float32
    assert ((cloud[:, 3] >= 0) & (cloud[:, 3] <= 1)).all()
    on_sign = (np.abs(cloud[:, 0] - 10) < 0.2) & (np.abs(cloud[:, 1]) < 2) & (cloud[:, 2] > -1)
    assert cloud[on_sign, 3].mean() > 5 * cloud[~on_sign & (cloud[:, 2] < -1.5), 3].mean()


def test_the_cameras_see_all_around():
    angle = np.radians(np.arange(0, 360, 0.5))
    ring = np.column_stack([30 * np.cos(angle), 30 * np.sin(angle), np.zeros_like(angle)])
    seen = {camera.name: camera.sees(ring) for camera in camera_rig()}
    assert np.logical_or.reduce(list(seen.values())).all()
    middle = {"FRONT": 0, "FRONT_LEFT": 55, "BACK_LEFT": 110, "BACK": 180, "BACK_RIGHT": 250, "FRONT_RIGHT": 305}
    for name, degrees in middle.items():
        assert seen[f"CAM_{name}"][2 * degrees], name
    assert seen["CAM_FRONT"].mean() == pytest.approx(70 / 360, abs=0.02)
    assert seen["CAM_BACK"].mean() == pytest.approx(110 / 360, abs=0.03)


def test_depth_of_a_road_and_a_wall_in_closed_form():
    camera = camera_rig()[0]
    wall = box((1, 400, 100), "building", 0.3, centre=(20.5, 0), base=-50)
    stride = 25
    (depth,) = depth_maps(scene(merge([plane(), wall])), [camera], stride)
    rows = np.arange(stride // 2, camera.height, stride)
    below = (rows - camera.intrinsics[1][2]) / camera.intrinsics[1][1]  # metres down a metre ahead
    with np.errstate(divide="ignore"):
        road = np.where(below > 0, (LIDAR_HEIGHT - 0.33) / below, np.inf)
    np.testing.assert_allclose(depth, np.minimum(road, 20 - 0.75)[:, None] * np.ones((1, depth.shape[1])), rtol=1e-4)
    (sky,) = depth_maps(scene(plane()), [camera], stride)
    assert np.isinf(sky[rows < 400]).all()


def test_a_scan_without_open3d_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(OcclabError, match=r"open3d could not be imported .* pip install 'occlab\[course\]'"):
        scan(scene(plane()), LidarConfig(), np.random.default_rng(0))


def test_importing_the_simulator_does_not_import_open3d():
    code = "import sys, occlab.frames.simulate; sys.exit('open3d' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("bad", [{"beams": 0}, {"sweeps": 0}, {"lowest": 20.0}])
def test_a_lidar_that_cannot_be_is_refused(bad):
    with pytest.raises(OcclabError, match="LidarConfig expects"):
        LidarConfig(**bad)

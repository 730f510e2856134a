import numpy as np
import pytest

from occlab.frames.meshes import KINDS, box
from occlab.frames.scene import LIDAR_HEIGHT, Mover, SceneConfig, build_scene

SEEDS = range(12)


@pytest.fixture(scope="module")
def scenes():
    return [build_scene(np.random.default_rng(seed), SceneConfig()) for seed in SEEDS]


def test_the_same_seed_is_the_same_street_and_another_is_not(scenes):
    again = build_scene(np.random.default_rng(3), SceneConfig())
    np.testing.assert_array_equal(again.static.vertices, scenes[3].static.vertices)
    assert [m.velocity for m in again.movers] == [m.velocity for m in scenes[3].movers]
    assert again.static.vertices.shape != scenes[4].static.vertices.shape


def test_streets_hold_all_that_a_street_holds(scenes):
    kinds = {
        KINDS[k] for scene in scenes for m in (scene.static, *(mover.mesh for mover in scene.movers)) for k in np.unique(m.kind)
    }
    assert kinds == set(KINDS)
    speeds = [np.linalg.norm(mover.velocity) for scene in scenes for mover in scene.movers]
    assert min(speeds) > 0.5
    assert 3 < max(speeds) < 20


def test_the_ground_lies_the_height_of_the_lidar_below_it_at_every_moment(scenes):
    for scene in scenes:
        for time in (0.0, -0.2, -0.45):
            pose = scene.lidar_pose(time)
            np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
            assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
            ground = scene.road.at(np.float64(scene.speed * time), np.float64(scene.road.own_t))
            np.testing.assert_allclose(pose[:3, 3] - ground, [0, 0, LIDAR_HEIGHT], atol=1e-9)
        np.testing.assert_allclose(scene.lidar_pose(0.0), np.eye(4), atol=1e-12)


def test_the_car_points_where_it_goes(scenes):
    for scene in scenes:
        step = 1e-4
        went = (scene.lidar_pose(-0.3 + step)[:3, 3] - scene.lidar_pose(-0.3)[:3, 3]) / step
        forward = scene.lidar_pose(-0.3)[:3, 0]
        tilt = scene.road.tilt[0]  # the LiDAR's mount
        assert np.arccos(np.clip(forward @ went / np.linalg.norm(went), -1, 1)) == pytest.approx(abs(np.arctan(tilt)), abs=2e-3)


def test_the_road_bends_with_its_curvature():
    for scene in (build_scene(np.random.default_rng(seed), SceneConfig(curvature=1 / 100)) for seed in range(30)):
        road = scene.road
        if abs(road.curvature) < 1e-3:
            continue
        xy = road.at(np.array([-20.0, 0.0, 20.0]), np.zeros(3))[:, :2]
        a, b, c = (np.linalg.norm(xy[i] - xy[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
        area = 0.5 * abs(np.cross(np.append(xy[1] - xy[0], 0), np.append(xy[2] - xy[0], 0))[2])
        assert 4 * area / (a * b * c) == pytest.approx(abs(road.curvature), rel=1e-6)  # 1 / circumscribed radius
        return
    pytest.fail("no street in 30 bends")


def test_kerbs_are_steps_except_at_side_roads(scenes):
    seen = {True: 0, False: 0}
    for scene in scenes:
        road = scene.road
        s = np.linspace(-70, 70, 57)
        for side in (-1, 1):
            step = road.height(s, side * (road.half_width + 1e-6)) - road.height(s, side * (road.half_width - 1e-6))
            open_ = road.in_side_road(s, np.full_like(s, side))
            np.testing.assert_allclose(step, np.where(open_, 0, 0.14), atol=1e-5)
            seen[True] += open_.sum()
            seen[False] += (~open_).sum()
    assert min(seen.values()) > 0


def test_the_ground_is_not_one_flat_plane(scenes):
    spread = []
    for scene in scenes:
        ground = scene.static.vertices[np.unique(scene.static.triangles[scene.static.kind == KINDS.index("road")])]
        near = ground[np.abs(ground[:, :2]).max(axis=1) < 54, 2]
        spread.append(np.ptp(near) / 0.25)
    assert np.median(spread) > 3  # height channels


def test_nothing_stands_in_the_cars_way(scenes):
    for scene in scenes:
        for time in (0.0, -0.45):
            to_car = np.linalg.inv(scene.lidar_pose(time))
            for mesh in (scene.static, *(mover.at(time) for mover in scene.movers)):
                solid = mesh.triangles[mesh.kind >= KINDS.index("building")]
                xyz = mesh.vertices[np.unique(solid)] @ to_car[:3, :3].T + to_car[:3, 3]
                inside = (np.abs(xyz[:, 0] + 0.4) < 2.1) & (np.abs(xyz[:, 1]) < 0.9) & (xyz[:, 2] < 0.3)
                assert not inside.any()


def test_a_mover_goes_its_velocity_times_time():
    mover = Mover(box((1, 1, 1), "car", 0.5), (10.0, -2.0, 0.5))
    np.testing.assert_allclose(mover.at(-0.4).vertices - mover.mesh.vertices, np.tile([-4.0, 0.8, -0.2], (8, 1)), atol=1e-6)

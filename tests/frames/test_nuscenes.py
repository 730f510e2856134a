"""A made-up nuScenes data set whose every number is known, then the format's own devkit on the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from occlab import OcclabError
from occlab.frames.nuscenes import _rotation, from_devkit, nuscenes_sweep, nuscenes_sweeps
from occlab.frames.nuscenes_tables import FIELDS, index_tables, read_tables

START = 1_500_000_000_000_000
"""Microseconds: the first sweep of the made-up drive."""
CHANNELS = ("LIDAR_TOP", "CAM_FRONT", "CAM_BACK")
INTRINSICS = [[500.0, 0.0, 320.0], [0.0, 500.0, 180.0], [0.0, 0.0, 1.0]]
CAR = (1000.0 + 12, 500.0 - 7, 0.8)
CAR_SIZE = (1.9, 4.5, 1.6)  # width, length, height
CAR_YAW = 0.7
ON_OWN_CAR = np.array([[0.0, 0.1, -0.3], [0.9, -1.6, -0.5], [-0.9, 2.5, -0.9]])  # x right, y forward
BESIDE_OWN_CAR = np.array([[1.1, 0.0, -1.8], [0.0, 2.7, -1.8], [0.0, -1.8, -1.8]])


def matrix(record: dict) -> np.ndarray:
    """4 x 4 of a record, by scipy."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(record["rotation"], scalar_first=True).as_matrix()
    pose[:3, 3] = record["translation"]
    return pose


def apply(pose: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    return xyz @ pose[:3, :3].T + pose[:3, 3]


def pose(euler: str, angles, translation) -> dict:
    quaternion = Rotation.from_euler(euler, angles).as_quat(scalar_first=True)
    return {"translation": [float(v) for v in translation], "rotation": quaternion.tolist()}


CALIBRATIONS = {
    "LIDAR_TOP": pose("ZYX", [-np.pi / 2 + 0.02, 0.01, 0.015], [0.94, 0, 1.84]),
    "CAM_FRONT": pose("xz", [-np.pi / 2, -np.pi / 2], [1.7, 0.02, 1.51]),
    "CAM_BACK": pose("xz", [-np.pi / 2, np.pi / 2 + 0.03], [0.03, 0.0, 1.57]),
}


def ego_pose(microseconds: int) -> dict:
    """A car that drives at 10 m/s and turns by 0.8 rad/s, on a road that is not level."""
    t = (microseconds - START) / 1e6
    return pose("zyx", [0.4 + 0.8 * t, 0.02, -0.03 * t], [1000 + 10 * t, 500 + 2 * t * t, 0])


def world() -> np.ndarray:
    """(300, 3) static points around the start, 40 of them in the parked car."""
    rng = np.random.default_rng(7)
    free = np.column_stack([rng.uniform(960, 1050, 260), rng.uniform(465, 489, 260), rng.uniform(0, 5, 260)])
    width, length, height = CAR_SIZE
    inside = rng.uniform(-0.49, 0.49, (40, 3)) * [length, width, height]
    return np.vstack([free, Rotation.from_euler("z", CAR_YAW).apply(inside) + CAR])


def make_data_set(root: Path) -> dict[str, list[dict]]:
    """Two scenes: two samples half a second apart with a LiDAR sweep between them, and one sample alone.

    Files and tables are written; the tables are returned too.
    """
    tables: dict[str, list[dict]] = {name: [] for name in FIELDS}
    tables["category"] = [{"token": "cat", "name": "vehicle.car", "description": ""}]
    tables["instance"] = [{"token": "car", "category_token": "cat"}]
    tables["log"] = [{"token": "log", "logfile": "n008", "vehicle": "n008", "date_captured": "2018-08-01", "location": "here"}]
    tables["map"] = [{"token": "map", "log_tokens": ["log"], "category": "semantic_prior", "filename": ""}]
    for channel in CHANNELS:
        modality = "lidar" if channel == "LIDAR_TOP" else "camera"
        tables["sensor"].append({"token": f"s-{channel}", "channel": channel, "modality": modality})
        intrinsics = INTRINSICS if modality == "camera" else []
        extra = {"token": f"c-{channel}", "sensor_token": f"s-{channel}", "camera_intrinsic": intrinsics}
        tables["calibrated_sensor"].append(extra | CALIBRATIONS[channel])
    bare = {"token": "c-bare", "sensor_token": "s-CAM_FRONT", "camera_intrinsic": []}
    tables["calibrated_sensor"].append(bare | CALIBRATIONS["CAM_FRONT"])

    def sense(channel: str, time: int, sample: str, key: bool, before: str = "") -> str:
        token, lidar = f"{channel}-{time}", channel == "LIDAR_TOP"
        name = f"{'samples' if key else 'sweeps'}/{channel}/n008__{channel}__{time}.{'pcd.bin' if lidar else 'jpg'}"
        tables["ego_pose"].append({"token": f"e-{token}", "timestamp": time} | ego_pose(time))
        record = {"token": token, "sample_token": sample, "ego_pose_token": f"e-{token}", "prev": before, "next": ""}
        record |= {"calibrated_sensor_token": f"c-{channel}", "timestamp": time, "is_key_frame": key, "filename": name}
        record |= {"fileformat": name[-3:], "height": 0 if lidar else 360, "width": 0 if lidar else 640}
        tables["sample_data"].append(record)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if lidar:
            to_global = matrix(ego_pose(time)) @ matrix(CALIBRATIONS[channel])
            seen = np.vstack([apply(np.linalg.inv(to_global), world()), ON_OWN_CAR, BESIDE_OWN_CAR])
            rows = np.column_stack([seen, np.arange(len(seen)) % 256, np.arange(len(seen)) % 32])
            rows.astype("<f4").tofile(root / name)
        else:
            (root / name).write_bytes(b"\xff\xd8\xff")
        return token

    for scene, times in (("scene-0001", [START, START + 500_000]), ("scene-0002", [START + 900_000])):
        samples = [f"sample-{time}" for time in times]
        tables["scene"].append({"token": f"t-{scene}", "name": scene, "log_token": "log", "nbr_samples": len(times)})
        tables["scene"][-1] |= {"first_sample_token": samples[0], "last_sample_token": samples[-1], "description": ""}
        before = ""
        for i, (time, sample) in enumerate(zip(times, samples, strict=True)):
            following, earlier = (samples[j] if 0 <= j < len(samples) else "" for j in (i + 1, i - 1))
            links = {"prev": earlier, "next": following, "scene_token": f"t-{scene}"}
            tables["sample"].append({"token": sample, "timestamp": time} | links)
            if before:
                before = sense("LIDAR_TOP", time - 250_000, sample, False, before)
            before = sense("LIDAR_TOP", time, sample, True, before)
            sense("CAM_FRONT", time - 35_000, sample, True)
            sense("CAM_BACK", time + 20_000, sample, True)
            box = {"token": f"a-{sample}", "sample_token": sample, "instance_token": "car", "size": list(CAR_SIZE)}
            box |= {
                "num_lidar_pts": 40,
                "num_radar_pts": 0,
                "visibility_token": "",
                "attribute_tokens": [],
                "prev": "",
                "next": "",
            }
            tables["sample_annotation"].append(box | pose("z", CAR_YAW, CAR))
    write_tables(root, tables)
    return tables


def write_tables(root: Path, tables: dict[str, list[dict]]) -> None:
    (root / "v1.0-mini").mkdir(exist_ok=True)
    for name, rows in tables.items():
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))


@pytest.fixture(scope="session")
def shared_root(tmp_path_factory) -> Path:
    """For tests that only read."""
    root = tmp_path_factory.mktemp("drive") / "nuscenes"
    make_data_set(root)
    return root


@pytest.fixture
def root(shared_root, tmp_path) -> Path:
    """For tests that break something."""
    return Path(shutil.copytree(shared_root, tmp_path / "nuscenes"))


def forward_left_up(xyz: np.ndarray) -> np.ndarray:
    """x right, y forward, z up -> x forward, y left, z up."""
    return np.column_stack([xyz[:, 1], -xyz[:, 0], xyz[:, 2]])


def expected_in_lidar(time: int) -> np.ndarray:
    """The world in occlab's frame of the LiDAR at that time, by scipy."""
    to_global = matrix(ego_pose(time)) @ matrix(CALIBRATIONS["LIDAR_TOP"])
    return forward_left_up(apply(np.linalg.inv(to_global), world()))


def test_a_sweep_is_the_files_points_turned_to_forward_left_up(shared_root):
    sweep = next(nuscenes_sweeps(shared_root, remove_own_car=False))
    raw = np.fromfile(next(shared_root.glob(f"samples/LIDAR_TOP/*{START}.pcd.bin")), "<f4").reshape(-1, 5)
    np.testing.assert_array_equal(sweep.points[:, :3], forward_left_up(raw))
    np.testing.assert_allclose(sweep.points[:, 3], raw[:, 3] / 255, rtol=1e-6)
    assert sweep.name == f"nuscenes-n008-2018-08-01-{START}"
    assert sweep.source["sample"] == f"sample-{START}"
    assert str(shared_root) not in json.dumps(sweep.source)


def test_scenes_samples_and_limit(shared_root):
    def times(**settings) -> list[int]:
        return [int(sweep.name.rpartition("-")[2]) - START for sweep in nuscenes_sweeps(shared_root, **settings)]

    assert times() == [0, 500_000, 900_000]
    assert times(limit=2) == [0, 500_000]
    assert times(scenes=["scene-0002"]) == [900_000]
    assert times(scenes=["t-scene-0002", "scene-0001"], limit=2) == [900_000, 0]


def test_sweeps_of_a_driving_and_turning_car_land_on_each_other(shared_root):
    sample = f"sample-{START + 500_000}"
    sweep = nuscenes_sweep(read_tables(shared_root), sample, sweeps=3)
    assert sweep.source["sweeps"] == 3
    each = len(world()) + len(BESIDE_OWN_CAR)
    clouds = sweep.points[:, :3].reshape(3, each, 3)[:, : len(world())]
    for cloud in clouds:
        np.testing.assert_allclose(cloud, expected_in_lidar(START + 500_000), atol=2e-4)
    # Without their own poses they would lie metres apart, so the agreement is not for want of motion.
    unmoved = np.linalg.norm(expected_in_lidar(START) - expected_in_lidar(START + 500_000), axis=1)
    assert np.median(unmoved) > 3


def test_a_scene_that_begins_has_fewer_sweeps_than_asked_for(shared_root):
    counts = [(s.source["sweeps"], len(s.points)) for s in nuscenes_sweeps(shared_root, sweeps=10, remove_own_car=False)]
    each = len(world()) + 6
    assert counts == [(1, each), (3, 3 * each), (1, each)]
    two = list(nuscenes_sweeps(shared_root, sweeps=2, remove_own_car=False))[1]
    assert (two.source["sweeps"], len(two.points)) == (2, 2 * each)
    for bad in (0, -1, 1.5, True, None):
        with pytest.raises(OcclabError, match="sweeps must be a whole number from 1"):
            next(nuscenes_sweeps(shared_root, sweeps=bad))


def test_the_own_car_is_taken_out_of_every_sweep_where_it_was(shared_root):
    """Where it stood a quarter of a second ago the road is kept: the box goes with the car."""
    kept, all_of_it = (
        list(nuscenes_sweeps(shared_root, sweeps=3, remove_own_car=remove, scenes=["scene-0001"]))[1]
        for remove in (True, False)
    )
    assert kept.source["own_car_points"] == 9
    assert all_of_it.source["own_car_points"] == 0
    assert len(all_of_it.points) - len(kept.points) == 9
    near = kept.points[: len(world()) + 3][-3:, :3]
    np.testing.assert_allclose(near, forward_left_up(BESIDE_OWN_CAR), atol=1e-6)


def test_cameras_look_through_global_and_their_own_ego_pose(shared_root):
    sweep = list(nuscenes_sweeps(shared_root))[1]
    assert [camera.name for camera in sweep.cameras] == ["CAM_BACK", "CAM_FRONT"]
    assert [path.parent.name for path in sweep.images] == ["CAM_BACK", "CAM_FRONT"]
    for camera, path, delay in zip(sweep.cameras, sweep.images, (20_000, -35_000), strict=True):
        time = START + 500_000 + delay
        assert path.is_file()
        assert path.name.endswith(f"__{time}.jpg")
        assert (camera.width, camera.height) == (640, 360)
        to_global = matrix(ego_pose(time)) @ matrix(CALIBRATIONS[camera.name])
        in_camera = apply(np.linalg.inv(to_global), world())
        pixels, depth = camera.project(expected_in_lidar(START + 500_000))
        np.testing.assert_allclose(depth, in_camera[:, 2], atol=1e-6)
        ahead = depth > 1
        u, v, w = np.array(INTRINSICS) @ in_camera[ahead].T
        np.testing.assert_allclose(pixels[ahead], np.column_stack([u / w, v / w]), atol=1e-4)
    views = {camera.name: np.linalg.inv(camera.lidar_to_camera)[:3, 2] for camera in sweep.cameras}
    assert views["CAM_FRONT"][0] > 0.99  # along x, which is forward
    assert views["CAM_BACK"][0] < -0.99


def test_a_box_holds_its_points_and_heads_where_the_car_does(shared_root):
    for sweep in nuscenes_sweeps(shared_root):
        (box,) = sweep.boxes
        assert (box.category, box.n_points, box.size) == ("vehicle.car", 40, (4.5, 1.9, 1.6))
        assert box.contains(sweep.points).sum() == 40
        time = int(sweep.name.rpartition("-")[2])
        to_global = matrix(ego_pose(time)) @ matrix(CALIBRATIONS["LIDAR_TOP"])
        ends = np.array([CAR, np.add(CAR, [np.cos(CAR_YAW), np.sin(CAR_YAW), 0])])
        tail, nose = forward_left_up(apply(np.linalg.inv(to_global), ends))
        np.testing.assert_allclose(box.centre, tail, atol=1e-9)
        np.testing.assert_allclose(np.asarray(box.rotation)[:, 0], nose - tail, atol=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
@settings(max_examples=30, deadline=None)
def test_a_quaternion_turns_as_scipys_does(quaternion):
    expected = Rotation.from_quat(quaternion, scalar_first=True).as_matrix()
    np.testing.assert_allclose(_rotation(quaternion), expected, atol=1e-12)


@given(st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(-2000, 2000)] * 3))
@settings(max_examples=10, deadline=None)
def test_a_sweep_does_not_depend_on_where_the_world_begins(shared_root, angles, shift):
    """Move the global frame, with every ego pose and box in it: nothing that the LiDAR has to do with changes."""
    tables = read_tables(shared_root)
    moved = {name: [dict(row) for row in rows.values()] for name, rows in tables.records.items()}
    motion = matrix(pose("zyx", angles, shift))
    for row in (*moved["ego_pose"], *moved["sample_annotation"]):
        new = motion @ matrix(row)
        row["rotation"] = Rotation.from_matrix(new[:3, :3]).as_quat(scalar_first=True).tolist()
        row["translation"] = new[:3, 3].tolist()
    token = f"sample-{START + 500_000}"
    here, there = (nuscenes_sweep(t, token, sweeps=3) for t in (tables, index_tables(shared_root, "v1.0-mini", moved)))
    np.testing.assert_allclose(there.points, here.points, atol=2e-4)
    np.testing.assert_allclose(there.boxes[0].centre, here.boxes[0].centre, atol=1e-6)
    np.testing.assert_allclose(there.boxes[0].rotation, here.boxes[0].rotation, atol=1e-6)
    for one, other in zip(here.cameras, there.cameras, strict=True):
        np.testing.assert_allclose(other.lidar_to_camera, one.lidar_to_camera, atol=1e-6)


def test_the_tables_are_found_from_the_root_its_parent_and_themselves(root, monkeypatch):
    names = [sweep.name for sweep in nuscenes_sweeps(root)]
    for path in (root.parent, root / "v1.0-mini"):
        assert [sweep.name for sweep in nuscenes_sweeps(path)] == names
    monkeypatch.chdir(root / "v1.0-mini")
    assert [sweep.name for sweep in nuscenes_sweeps(".")] == names
    root.rename(root.parent / "v1.0-mini")  # as the archive is unpacked: v1.0-mini/v1.0-mini
    assert [sweep.name for sweep in nuscenes_sweeps(root.parent / "v1.0-mini")] == names


def test_a_data_set_without_images_has_cameras_and_one_with_a_gap_is_refused(root):
    for path in root.glob("samples/CAM_FRONT/*"):
        path.unlink()
    with pytest.raises(OcclabError, match=r"CAM_FRONT__\d+\.jpg: expected the image that sample_data\.json names"):
        next(nuscenes_sweeps(root))
    for path in root.glob("samples/CAM_BACK/*"):
        path.unlink()
    sweep = next(nuscenes_sweeps(root))
    assert len(sweep.cameras) == 2
    assert sweep.images == ()


def lidar_file(root: Path) -> Path:
    return next(root.glob(f"samples/LIDAR_TOP/*{START}.pcd.bin"))


def change(row: int, **values) -> Callable[[Path], None]:
    """Rewrite fields of a record of sample_data."""

    def spoil(root: Path) -> None:
        path = root / "v1.0-mini/sample_data.json"
        rows = json.loads(path.read_text())
        rows[row] |= values
        path.write_text(json.dumps(rows))

    return spoil


def bright(root: Path) -> None:
    rows = np.fromfile(lidar_file(root), "<f4").reshape(-1, 5)
    rows[0, 3] = 300
    rows.tofile(lidar_file(root))


LATER = f"LIDAR_TOP-{START + 500_000}"
OTHER = f"CAM_FRONT-{START - 35_000}"
SPOILERS = {
    "no width": (change(1, width=0), r"sample_data\.json: .* width and height .* of CAM_FRONT, got 0 and 360"),
    "no intrinsics": (change(1, calibrated_sensor_token="c-bare"), r"calibrated_sensor\.json: .* for CAM_FRONT, got \[\]"),
    "no lidar": (change(0, is_key_frame=False), r"sample_data\.json: expected a key frame of LIDAR_TOP of sample"),
    "circle": (change(3, prev=LATER), r"sample_data\.json: .*: prev: expected a sweep of LIDAR_TOP before \d+, got one of LID"),
    "other sensor": (change(3, prev=OTHER), r"prev: expected a sweep of LIDAR_TOP before \d+, got one of CAM_FRONT at"),
    "no sweep": (lambda r: lidar_file(r).unlink(), r"LIDAR_TOP__\d+\.pcd\.bin: expected a LiDAR sweep, but it cannot be read"),
    "cut sweep": (
        lambda r: lidar_file(r).write_bytes(bytes(39)),
        r"pcd\.bin: expected .* not a whole number of 20-byte points",
    ),
    "zeros": (lambda r: lidar_file(r).write_bytes(bytes(10_000)), r"\.pcd\.bin: .* all its 500 points lie at one place"),
    "only the own car": (
        lambda r: np.tile(np.column_stack([ON_OWN_CAR, np.ones((3, 2))]), (9, 1)).astype("<f4").tofile(lidar_file(r)),
        r"LIDAR_TOP__\d+\.pcd\.bin: expected a LiDAR sweep, but all 27 points lie where the own car is",
    ),
    "intensity": (bright, r"LIDAR_TOP__\d+\.pcd\.bin: expected intensity in \[0, 255\], got 0 to 300"),
}


@pytest.mark.parametrize("kind", SPOILERS)
def test_a_bad_data_set_is_one_sentence_that_names_the_file(root, kind):
    spoil, says = SPOILERS[kind]
    spoil(root)
    with pytest.raises(OcclabError, match=says) as caught:
        list(nuscenes_sweeps(root, sweeps=3))
    assert "\n" not in str(caught.value)


def same(one, other) -> bool:
    """Sweeps that agree in everything."""
    return np.array_equal(one.points, other.points) and all(
        getattr(one, name) == getattr(other, name) for name in ("name", "source", "cameras", "images", "boxes")
    )


def test_an_object_like_the_devkits_gives_the_same_sweeps(tmp_path):
    tables = make_data_set(tmp_path)
    loaded = SimpleNamespace(dataroot=str(tmp_path), version="v1.0-mini", **tables)
    for settings_ in ({}, {"sweeps": 3, "scenes": ["scene-0001"], "remove_own_car": False, "limit": 2}):
        pairs = list(zip(from_devkit(loaded, **settings_), nuscenes_sweeps(tmp_path, **settings_), strict=True))
        assert len(pairs) == (2 if settings_ else 3)
        assert all(same(*pair) for pair in pairs)
    with pytest.raises(OcclabError, match="expects a loaded NuScenes object, got a dict without dataroot"):
        next(from_devkit(tables))


@pytest.fixture(scope="session")
def devkit(shared_root):
    """The made-up drive in the format's own library."""
    nuscenes = pytest.importorskip("nuscenes.nuscenes", reason="nuscenes-devkit is not installed")
    return nuscenes.NuScenes("v1.0-mini", str(shared_root), verbose=False)


def test_the_devkit_loads_the_drive_and_puts_sweeps_boxes_and_cameras_where_we_do(devkit, shared_root):
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import BoxVisibility

    settings_ = {"sweeps": 3, "remove_own_car": False}
    for sweep, ours in zip(from_devkit(devkit, **settings_), nuscenes_sweeps(shared_root, **settings_), strict=True):
        assert same(sweep, ours)
        sample = devkit.get("sample", sweep.source["sample"])
        theirs, _ = LidarPointCloud.from_file_multisweep(devkit, sample, "LIDAR_TOP", "LIDAR_TOP", 3, min_distance=0)
        np.testing.assert_allclose(sweep.points[:, :3], forward_left_up(theirs.points[:3].T), atol=5e-4)
        np.testing.assert_allclose(sweep.points[:, 3] * 255, theirs.points[3], atol=1e-4)
        (box,), (other,) = sweep.boxes, devkit.get_sample_data(sample["data"]["LIDAR_TOP"])[1]
        np.testing.assert_allclose(box.centre, forward_left_up(other.center[None])[0], atol=1e-6)
        np.testing.assert_allclose(box.rotation, forward_left_up(other.rotation_matrix.T).T, atol=1e-6)
        for camera in sweep.cameras:
            (seen,) = devkit.get_sample_data(sample["data"][camera.name], BoxVisibility.NONE)[1]
            centre = apply(np.asarray(camera.lidar_to_camera), np.array([box.centre]))[0]
            np.testing.assert_allclose(centre, seen.center, atol=1e-6)

"""The smallest set of tables that is whole, and every way in which it can be broken; then the real key frame."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from occlab import OcclabError, VoxelGrid, occupancy
from occlab.frames.nuscenes import nuscenes_sweep, nuscenes_sweeps
from occlab.frames.nuscenes_tables import FIELDS, find_tables, read_tables

TURN = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
PLACED = {"translation": [1.0, 2, 3], "rotation": [1, 0, 0, 0]}
DATA = {"ego_pose_token": "e", "sample_token": "first", "prev": "", "is_key_frame": True, "timestamp": 5}
LIDAR = DATA | {"token": "l", "calibrated_sensor_token": "cl", "filename": "samples/LIDAR_TOP/l.pcd.bin"}
CAMERA = DATA | {"token": "i", "calibrated_sensor_token": "ci", "filename": "samples/CAM_FRONT/i.jpg"}
BOX = PLACED | {"sample_token": "first", "instance_token": "n", "size": [2, 4, 1.5], "num_lidar_pts": 0}


def tables() -> dict[str, list[dict]]:
    return {
        "category": [{"token": "c", "name": "vehicle.car"}],
        "attribute": [],
        "visibility": [],
        "instance": [{"token": "n", "category_token": "c"}],
        "sensor": [{"token": "sl", "channel": "LIDAR_TOP"}, {"token": "si", "channel": "CAM_FRONT"}],
        "calibrated_sensor": [
            PLACED | {"token": "cl", "sensor_token": "sl", "camera_intrinsic": []},
            PLACED | {"token": "ci", "sensor_token": "si", "camera_intrinsic": TURN},
        ],
        "ego_pose": [PLACED | {"token": "e"}],
        "log": [{"token": "g", "vehicle": "n008", "date_captured": "2018-08-01"}],
        "scene": [{"token": "t", "name": "scene-0001", "log_token": "g", "first_sample_token": "first"}],
        "sample": [
            {"token": "second", "timestamp": 9, "scene_token": "t", "next": ""},
            {"token": "first", "timestamp": 5, "scene_token": "t", "next": "second"},
        ],
        "sample_data": [LIDAR, CAMERA, LIDAR | {"token": "between", "is_key_frame": False, "prev": "l"}],
        "sample_annotation": [BOX | {"token": "a"}, BOX | {"token": "b"}],
        "map": [],
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "v1.0-mini"
    folder.mkdir()
    for name, rows in tables().items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


def test_there_are_thirteen_tables_indexed_by_token_and_sample(folder):
    read = read_tables(folder.parent)
    assert len(FIELDS) == len(read.records) == 13
    assert (read.root, read.version) == (folder.parent, "v1.0-mini")
    for name, rows in tables().items():
        assert list(read.records[name].values()) == rows
    assert {channel: row["token"] for channel, row in read.key_frames["first"].items()} == {"LIDAR_TOP": "l", "CAM_FRONT": "i"}
    assert read.key_frames["second"] == {}
    assert [row["token"] for row in read.annotations["first"]] == ["a", "b"]


def test_samples_come_in_the_order_of_time_not_of_the_file(folder):
    read = read_tables(folder)
    assert list(read.samples()) == list(read.samples(["scene-0001"])) == list(read.samples(["t"])) == ["first", "second"]


def test_unknown_scenes_and_records_are_named(folder):
    with pytest.raises(OcclabError, match=r"scene\.json: no scene 'scene-9999'; expected one of \['scene-0001'\]"):
        list(read_tables(folder).samples(["scene-9999"]))
    with pytest.raises(OcclabError, match=r"sample\.json: expected a record with the token 'nothing', found none"):
        nuscenes_sweep(read_tables(folder), "nothing")


def test_a_set_without_annotations_is_whole(folder):
    for name in ("category", "instance", "sample_annotation"):
        (folder / f"{name}.json").write_text("[]")
    assert read_tables(folder).annotations == {}


def test_of_several_versions_one_must_be_named(folder):
    (folder.parent / "v1.0-trainval").mkdir()
    with pytest.raises(OcclabError, match=r"one table folder v1\.0-\*, found v1\.0-mini, v1\.0-trainval; say which by version"):
        read_tables(folder.parent)
    assert read_tables(folder.parent, "v1.0-mini").version == "v1.0-mini"
    with pytest.raises(OcclabError, match=r"one table folder v1\.0-test, found none"):
        read_tables(folder.parent, "v1.0-test")


def test_a_folder_of_another_kind_holds_no_tables(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "v1.0-mini").write_text("a file")
    assert find_tables(tmp_path / "empty") == find_tables(tmp_path / "nothing") == []
    assert find_tables(folder) == find_tables(tmp_path) == [folder]


def change(table: str, row: int, **values) -> Callable[[Path], object]:
    """Rewrite fields of a record; a value of ``...`` takes the field away."""
    rows = tables()[table]
    rows[row] = {key: value for key, value in (rows[row] | values).items() if value is not ...}
    return lambda folder: (folder / f"{table}.json").write_text(json.dumps(rows))


def content(table: str, text: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / f"{table}.json").write_bytes(text.encode() if isinstance(text, str) else text)


OUTSIDE = r"sample_data\.json: record l: filename: expected a path inside the data set, got"
NO_POSITION = r"ego_pose\.json: record e: translation: expected 3 finite numbers, metres, got"
NO_ROTATION = r"rotation: expected a quaternion w x y z of norm 1, got"
SPOILERS = {
    "no tables": (lambda f: f.rename(f.parent / "tables"), r"one table folder v1\.0-\*, found none"),
    "missing": (lambda f: (f / "scene.json").unlink(), r"scene\.json: expected a table of nuScenes v1\.0, .* cannot be read"),
    "empty file": (content("ego_pose", ""), r"ego_pose\.json: expected a JSON list of records, but the file is empty"),
    "empty list": (content("ego_pose", "[]"), r"ego_pose\.json: expected at least one record, but the list is empty"),
    "cut off": (content("sensor", '[{"token": "s-LI'), r"sensor\.json: expected a JSON list of records, but it is cut off"),
    "deep": (content("log", "[" * 100_000), r"log\.json: expected a JSON list of records, but it is cut off or not JSON"),
    "binary": (content("log", bytes(range(128, 256))), r"log\.json: expected a JSON list of records, but it is .* not JSON"),
    "no list": (content("log", '{"token": "g"}'), r"log\.json: expected a list of records, got dict"),
    "no record": (content("attribute", "[7]"), r"attribute\.json: record 0: expected an object, got 7"),
    "no token": (
        change("log", 0, token=...),
        r"log\.json: record 0: expected a token of its own, but it is missing or no printable text",
    ),
    "list for token": (
        change("log", 0, token=["g"]),
        r"log\.json: record 0: expected a token of its own, but it is missing or",
    ),
    "token twice": (change("sample", 1, token="second"), r"sample\.json: record 1: expected a token .* given twice: 'second'"),
    "no field": (change("log", 0, vehicle=...), r"log\.json: record g: vehicle: expected a printable text, got no such field"),
    "matrix": (change("ego_pose", 0, rotation=TURN), rf"ego_pose\.json: record e: {NO_ROTATION} \[\[1, 0, 0\]"),
    "norm": (change("calibrated_sensor", 0, rotation=[1, 1, 0, 0]), rf"calibrated_sensor\.json: record cl: {NO_ROTATION}"),
    "three": (change("sample_annotation", 1, rotation=[0, 0, 1]), rf"sample_annotation\.json: record b: {NO_ROTATION}"),
    "nan": (change("ego_pose", 0, translation=[float("nan"), 0, 0]), rf"{NO_POSITION} \[nan, 0, 0\]"),
    "infinity": (change("ego_pose", 0, translation=[0, float("inf"), 0]), rf"{NO_POSITION} \[0, inf, 0\]"),
    "huge": (change("ego_pose", 0, translation=[10**400, 0, 0]), NO_POSITION),
    "text": (change("ego_pose", 0, translation=["1", "2", "3"]), NO_POSITION),
    "size": (
        change("sample_annotation", 0, size=[1, 0, 1]),
        r"record a: size: expected 3 positive numbers: width, length, height",
    ),
    "count": (change("sample_annotation", 0, num_lidar_pts=-1), r"record a: num_lidar_pts: expected a whole number, 0 or more"),
    "ragged": (change("calibrated_sensor", 1, camera_intrinsic=[[1, 2], [3]]), r"record ci: camera_intrinsic: expected 3 x 3"),
    "focal": (change("calibrated_sensor", 1, camera_intrinsic=[[0] * 3] * 3), r"record ci: camera_intrinsic: expected 3 x 3"),
    "flag": (change("sample_data", 0, is_key_frame="yes"), r"record l: is_key_frame: expected true or false, got 'yes'"),
    "time": (change("sample_data", 0, timestamp=5.5), r"record l: timestamp: expected a whole number, 0 or more, got 5\.5"),
    "absolute": (change("sample_data", 0, filename="/etc/passwd"), f"{OUTSIDE} '/etc/passwd'"),
    "leaves": (change("sample_data", 0, filename="samples/../../x.bin"), OUTSIDE),
    "windows": (change("sample_data", 0, filename="samples\\..\\..\\x.bin"), OUTSIDE),
    "drive": (change("sample_data", 0, filename="C:x.bin"), OUTSIDE),
    "null byte": (change("sample_data", 0, filename="a\0b"), OUTSIDE),
    "no file": (change("sample_data", 0, filename=""), OUTSIDE),
    "dangling": (
        change("sample_data", 0, ego_pose_token="no"),
        r"l: ego_pose_token: expected a token of ego_pose\.json, got 'no'",
    ),
    "no link": (change("instance", 0, category_token=...), r"category_token: expected a token of category\.json, got None"),
    "no prev": (change("sample_data", 0, prev=None), r"record l: prev: expected a token of sample_data\.json, got None"),
    "empty link": (change("scene", 0, first_sample_token=""), r"first_sample_token: expected a token of sample\.json, got ''"),
    "two key frames": (
        change("sample_data", 2, is_key_frame=True),
        r"between: expected one key frame .* a second LIDAR_TOP of",
    ),
    "circle": (
        change("sample", 0, next="first"),
        r"sample\.json: record first: expected a sample .* after timestamp 9, got .* at 5",
    ),
}


@pytest.mark.parametrize("kind", SPOILERS)
def test_broken_tables_are_one_sentence_that_names_the_file(folder, kind):
    spoil, says = SPOILERS[kind]
    spoil(folder)
    with pytest.raises(OcclabError, match=says) as caught:
        list(read_tables(folder.parent).samples())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a..b/c.bin", "samples/..LIDAR/x.pcd.bin", "x..", "samples/n015-2018+0800__LIDAR_TOP.pcd.bin"]
)
def test_dots_in_a_name_do_not_leave_the_data_set(folder, name):
    change("sample_data", 0, filename=name)(folder)
    assert read_tables(folder).records["sample_data"]["l"]["filename"] == name


@pytest.fixture(scope="session")
def real_root(real_data) -> Path:
    if not (real_data / "nuscenes_one_frame").is_dir():
        pytest.skip(f"needs real data: {real_data} holds no nuscenes_one_frame")
    return real_data / "nuscenes_one_frame"


def test_the_real_frame_fills_the_voxels_it_should(real_root):
    """4,638 voxels in float64. The grid computes in float32, where two returns 7 micrometres from the LiDAR, below all three
    edges of a cell, come to lie on them: one voxel more, and the only difference."""
    (sweep,) = nuscenes_sweeps(real_root, remove_own_car=False)
    points = torch.from_numpy(sweep.points)
    assert len(points) == 34_688
    (index, inside), low, size = VoxelGrid().index_of(points), [-54, -54, -5], [0.6, 0.6, 0.25]
    assert inside.sum() == 32_330
    exact = np.floor((sweep.points[:, :3].astype(np.float64) - low) / size).astype(int)[inside.numpy()]
    assert len(np.unique(exact, axis=0)) == 4_638
    moved = (exact[:, ::-1] != index[inside].numpy()).any(axis=1)
    assert moved.sum() == 2
    assert np.abs(sweep.points[inside.numpy()][moved][:, :3]).max() < 1e-5
    occupied = occupancy(points, VoxelGrid())[0]
    assert occupied.sum() == 4_638 + 1
    assert occupied.sum((1, 2)).max() == 505
    far = torch.from_numpy(sweep.points[np.abs(sweep.points[:, :3]).max(axis=1) > 1e-5])
    assert occupancy(far, VoxelGrid()).sum() == 4_638


def test_the_real_boxes_hold_the_points_they_say(real_root):
    (sweep,) = nuscenes_sweeps(real_root, remove_own_car=False)
    exact = [box.contains(sweep.points).sum() == box.n_points for box in sweep.boxes]
    print(f"{sum(exact)} of {len(exact)} boxes hold exactly their num_lidar_pts")
    assert len(exact) == 69
    assert sum(exact) >= 60


def test_the_own_car_of_the_real_frame_goes_and_the_road_stays(real_root):
    (whole,) = nuscenes_sweeps(real_root, remove_own_car=False)
    (sweep,) = nuscenes_sweeps(real_root)
    reach = [np.linalg.norm(cloud.points[:, :2], axis=1) for cloud in (whole, sweep)]
    assert (reach[0] < 2).sum() == sweep.source["own_car_points"] == len(whole.points) - len(sweep.points) == 8_526
    assert reach[1].min() > 3
    assert sweep.points[reach[1] < 4, 2].max() < -1.6  # what is nearest now is road, 1.8 m below the LiDAR


def test_the_real_cameras_agree_with_the_tables(real_root):
    (sweep,) = nuscenes_sweeps(real_root)
    read = lambda name: json.loads((real_root / f"v1.0-mini/{name}.json").read_text())  # noqa: E731

    def matrix(row: dict) -> np.ndarray:
        turned = Rotation.from_quat(row["rotation"], scalar_first=True).as_matrix()
        return np.block([[turned, np.array(row["translation"])[:, None]], [np.eye(4)[3:]]])

    poses = {row["token"]: matrix(row) for row in read("ego_pose")}
    calibrations = {row["token"]: matrix(row) for row in read("calibrated_sensor")}
    to_global = {
        row["filename"].split("/")[1]: poses[row["ego_pose_token"]] @ calibrations[row["calibrated_sensor_token"]]
        for row in read("sample_data")
    }
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])  # forward, left, up to the file's right, forward, up
    lidar = to_global["LIDAR_TOP"].copy()
    lidar[:3, :3] = lidar[:3, :3] @ turn
    assert len(sweep.cameras) == 6
    for camera, path in zip(sweep.cameras, sweep.images, strict=True):
        expected = np.linalg.solve(to_global[camera.name], lidar)
        np.testing.assert_allclose(camera.lidar_to_camera, expected, atol=1e-5)
        assert path.is_file()
        assert (camera.width, camera.height) == (1600, 900)

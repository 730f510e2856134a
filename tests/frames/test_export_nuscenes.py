"""An exported nuScenes data set holds together, is read back, and opens in the format's own devkit."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from occlab.errors import OcclabError
from occlab.frames import StreetConfig, simulate_frame
from occlab.frames.export_nuscenes import _level, export_nuscenes, road_mask, token, visible_share
from occlab.frames.meshes import box
from occlab.frames.nuscenes import nuscenes_sweeps
from occlab.frames.sensors import LidarConfig, RayTarget, camera_rig
from occlab.frames.street_truth import street_of

pytest.importorskip("open3d")
cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
CONFIG = StreetConfig(lidar=LidarConfig(sweeps=3, azimuths=361), stride=24, points=2000)
DEVKIT = (
    "pip install --no-deps nuscenes-devkit==1.2.0 pyquaternion==0.9.9 && "
    "pip install cachetools matplotlib pillow scikit-learn  # the devkit's own requirements ask for numpy 1"
)


@pytest.fixture(scope="module")
def frames():
    return [simulate_frame(seed, CONFIG) for seed in (3, 7)]


@pytest.fixture(scope="module")
def streets(frames):
    return [street_of(frame) for frame in frames]


@pytest.fixture(scope="module")
def root(frames, tmp_path_factory):
    root = tmp_path_factory.mktemp("export") / "nuscenes"
    export_nuscenes(frames, root, stride=15)
    return root


@pytest.fixture(scope="module")
def tables(root):
    return {path.stem: json.loads(path.read_text()) for path in (root / "v1.0-mini").glob("*.json")}


def find(tables, table, key):
    (row,) = [row for row in tables[table] if row["token"] == key]
    return row


def pose(row):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(row["rotation"], scalar_first=True).as_matrix()
    matrix[:3, 3] = row["translation"]
    return matrix


def to_global(tables, data):
    calibrated = find(tables, "calibrated_sensor", data["calibrated_sensor_token"])
    return pose(find(tables, "ego_pose", data["ego_pose_token"])) @ pose(calibrated)


def channel(tables, data):
    calibrated = find(tables, "calibrated_sensor", data["calibrated_sensor_token"])
    return find(tables, "sensor", calibrated["sensor_token"])["channel"]


def test_there_are_13_tables_whose_every_key_leads_somewhere(tables):
    assert len(tables) == 13
    known = {table: {row["token"] for row in rows} for table, rows in tables.items()}
    assert all(len(known[table]) == len(rows) > 0 for table, rows in tables.items())
    target = {"prev": None, "next": None, "first_sample": "sample", "last_sample": "sample"}
    target |= {"first_annotation": "sample_annotation", "last_annotation": "sample_annotation"}
    for table, rows in tables.items():
        for row in rows:
            assert len(row["token"]) == (1 if table == "visibility" else 32)
            for field, value in row.items():
                if field.endswith("_tokens"):
                    assert set(value) <= known[field.removesuffix("_tokens")]
                elif field.endswith("_token"):
                    name = field.removesuffix("_token")
                    assert value in known[target.get(name, name)]
                elif field in ("prev", "next"):
                    assert value == "" or value in known[table]
            if "rotation" in row:
                assert np.linalg.norm(row["rotation"]) == pytest.approx(1, abs=1e-9)
    assert all(row["translation"][2] == 0 for row in tables["ego_pose"])


def test_the_files_are_those_of_the_tables(root, tables):
    named = {row["filename"] for table in ("sample_data", "map") for row in tables[table]}
    found = {path.relative_to(root).as_posix() for path in root.rglob("*.*") if path.is_file() and path.suffix != ".json"}
    assert found == named


def test_sweeps_follow_each_other_back_in_time(tables):
    for sample in tables["sample"]:
        own = [row for row in tables["sample_data"] if row["sample_token"] == sample["token"]]
        (key,) = [row for row in own if row["is_key_frame"] and channel(tables, row) == "LIDAR_TOP"]
        before = find(tables, "sample_data", key["prev"])
        first = find(tables, "sample_data", before["prev"])
        assert [key["next"], before["next"], first["next"], first["prev"]] == ["", key["token"], before["token"], ""]
        assert [row["timestamp"] - sample["timestamp"] for row in (key, before, first)] == [0, -50_000, -100_000]
        assert not before["is_key_frame"]
        assert len(own) == 3 + 6


def test_lidar_to_camera_through_global_is_the_rigs(tables):
    forward_left_up = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])  # of x right, y forward
    rig = {camera.name: camera for camera in camera_rig()}
    checked = 0
    for sample in tables["sample"]:
        keys = [row for row in tables["sample_data"] if row["sample_token"] == sample["token"] and row["is_key_frame"]]
        keys = {channel(tables, row): row for row in keys}
        lidar = to_global(tables, keys.pop("LIDAR_TOP")) @ forward_left_up.T
        for name, data in keys.items():
            np.testing.assert_allclose(np.linalg.inv(to_global(tables, data)) @ lidar, rig[name].lidar_to_camera, atol=1e-6)
            calibrated = find(tables, "calibrated_sensor", data["calibrated_sensor_token"])
            np.testing.assert_array_equal(calibrated["camera_intrinsic"], rig[name].intrinsics)
            checked += 1
    assert checked == 12


def test_the_reader_gives_back_the_key_sweep_cameras_and_boxes(streets, root):
    sweeps = list(nuscenes_sweeps(root, remove_own_car=False))
    assert len(sweeps) == 2
    for street, sweep in zip(streets, sweeps, strict=True):
        key = street.sweeps[0].points
        np.testing.assert_array_equal(sweep.points[:, :3], key[:, :3])
        np.testing.assert_allclose(sweep.points[:, 3], key[:, 3], atol=0.5 / 255 + 1e-6)
        for camera in sweep.cameras:
            (own,) = [c for c in camera_rig() if c.name == camera.name]
            np.testing.assert_allclose(camera.lidar_to_camera, own.lidar_to_camera, atol=1e-6)
        assert [cv2.imread(str(image)).shape for image in sweep.images] == [(900, 1600, 3)] * 6
        wanted = [thing for thing, _, _ in street.objects(key) if thing.n_points]
        assert len(sweep.boxes) == len(wanted) > 5
        for got, want in zip(sweep.boxes, wanted, strict=True):
            assert (got.category, got.n_points) == (want.category, want.n_points)
            assert got.contains(sweep.points).sum() == want.n_points
            for what in ("centre", "size", "rotation"):
                np.testing.assert_allclose(getattr(got, what), getattr(want, what), atol=1e-9)


def test_the_reader_gives_back_all_sweeps_but_for_the_heights_that_an_ego_pose_lacks(frames, streets, root):
    read = nuscenes_sweeps(root, sweeps=3, remove_own_car=False)
    for frame, street, sweep in zip(frames, streets, read, strict=True):
        np.testing.assert_allclose(sweep.points[:, :2], frame.lidar[:, :2], atol=1e-3)
        lost = sweep.points[:, 2] - frame.lidar[:, 2]
        counts = [len(one.points) for one in street.sweeps]
        for one in np.split(lost, np.cumsum(counts)[:-1]):
            assert np.ptp(one) < 1e-3
            assert abs(one).max() < 0.03
        assert abs(lost).max() > 1e-4


def test_the_same_frames_give_the_same_bytes(frames, root):
    export_nuscenes(frames, root, stride=15)  # would refuse a folder of other content
    with pytest.raises(OcclabError, match="nuscenes: expected a new or empty folder"):
        export_nuscenes(frames[:1], root, stride=15)


def test_pictures_show_the_sky_above_and_the_road_below(root):
    for path in (root / "samples" / "CAM_FRONT").glob("*.jpg"):
        blue, _, red = np.moveaxis(cv2.imread(str(path)).astype(int), -1, 0)
        assert np.ptp(red) > 60
        middle = slice(700, 900)
        assert abs(blue[-40:, middle] - red[-40:, middle]).mean() < 15  # asphalt is grey


def test_the_map_is_paved_where_the_road_runs(streets):
    road = streets[0].scene.road
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("z", 0.7).as_matrix()
    turned[:2, 3] = 128
    mask = road_mask(road, turned)
    rng = np.random.default_rng(0)
    s, t = rng.uniform(-90, 90, 4000), rng.uniform(-40, 40, 4000)
    edge = road.half_width + road.pavement
    x, y, _ = turned[:3, :3] @ (road.at(s, t) * (1, 1, 0)).T + turned[:3, 3:]
    value = mask[(mask.shape[0] - y / 0.1).astype(int), (x / 0.1).astype(int)]
    side = road.in_side_road(s, t, margin=0.5)
    clear = np.abs(np.abs(t) - edge) > 0.5
    assert (value[(np.abs(t) < edge) & clear] == 255).all()
    assert (value[(np.abs(t) > edge) & clear & ~side] == 0).all()
    assert (value[road.in_side_road(s, t, margin=-0.5)] == 255).all()


def test_visibility_is_the_share_that_nothing_hides():
    """A wall before the camera hides the left half of a board behind it."""
    cameras = camera_rig()[:1]
    board = box((0.1, 4.0, 4.0), "car", 0.5, centre=(20, 0), base=-2)
    wall = box((0.1, 20.0, 20.0), "building", 0.5, centre=(10, 10), base=-10)

    def depths(target):
        origin, direction = cameras[0].rays(5)
        return [(cameras[0], target.cast(origin, direction.reshape(-1, 3)).distance.reshape(direction.shape[:2]))]

    assert visible_share(board, depths(RayTarget(board)), 5) == 1
    assert visible_share(board, depths(RayTarget(wall)), 5) == pytest.approx(0.5, abs=0.03)
    behind = box((0.1, 4.0, 4.0), "car", 0.5, centre=(-20, 0), base=-2)
    assert visible_share(behind, depths(RayTarget(wall)), 5) == 0
    assert [_level(share) for share in (0, 0.39, 0.4, 0.6, 0.79, 0.8, 1)] == ["1", "1", "2", "3", "3", "4", "4"]


def test_tokens_are_32_hex_digits_of_their_parts():
    assert token("a", 1) == token("a", 1) != token("a", 2)
    assert token("ab", "c") != token("a", "bc")
    assert len(token("a")) == 32
    int(token("a"), 16)


@pytest.mark.parametrize(
    ("choose", "options", "sentence"),
    [
        (lambda frames: [], {}, "one frame or more, each of another name, got none"),
        (lambda frames: frames[:1] * 2, {}, "each of another name, got street-000003, street-000003"),
        (lambda frames: frames, {"stride": 0}, "stride >= 1 and a version such as v1.0-mini, got 0"),
        (lambda frames: frames, {"version": "../x"}, r"a version such as v1.0-mini, got 5 and '\.\./x'"),
        (lambda frames: frames, {"version": "samples"}, "a version such as v1.0-mini"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_writes_nothing(frames, tmp_path, choose, options, sentence):
    with pytest.raises(OcclabError, match=sentence):
        export_nuscenes(choose(frames), tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_devkit_opens_counts_and_draws_it(root, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    devkit = pytest.importorskip("nuscenes.nuscenes", reason=f"nuscenes-devkit is not installed; {DEVKIT}")
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import points_in_box

    nusc = devkit.NuScenes("v1.0-mini", str(root), verbose=False)
    # The devkit crops its map with int(array of one number), which NumPy 2.4 no longer takes.
    with_map = np.lib.NumpyVersion(np.__version__) < "2.4.0"
    assert len(nusc.sample) == 2
    for sample in nusc.sample:
        lidar, front = sample["data"]["LIDAR_TOP"], sample["data"]["CAM_FRONT"]
        path, boxes, _ = nusc.get_sample_data(lidar)
        points = LidarPointCloud.from_file(path).points
        assert points.shape[1] * 20 == (root / nusc.get("sample_data", lidar)["filename"]).stat().st_size
        assert len(boxes) == len(sample["anns"]) > 5
        for thing in boxes:
            count = nusc.get("sample_annotation", thing.token)["num_lidar_pts"]
            assert points_in_box(thing, points[:3]).sum() == count > 0
        together, _ = LidarPointCloud.from_file_multisweep(nusc, sample, "LIDAR_TOP", "LIDAR_TOP", 3, min_distance=0)
        files = [row for row in nusc.sample_data if row["sample_token"] == sample["token"] and row["fileformat"] == "pcd"]
        assert together.nbr_points() * 20 == sum((root / row["filename"]).stat().st_size for row in files)
        pixels, depth, image = nusc.explorer.map_pointcloud_to_image(lidar, front)
        assert image.size == (1600, 900)
        own = camera_rig()[0]
        x_right, y_forward, z, _ = points.astype(np.float64)
        ours, ahead = own.project(np.column_stack([y_forward, -x_right, z]))
        seen = (ahead > 1) & (ours > 1).all(axis=1) & (ours[:, 0] < 1599) & (ours[:, 1] < 899)
        assert abs(int(seen.sum()) - pixels.shape[1]) <= 2  # the devkit reckons in float32
        assert np.median(depth) == pytest.approx(np.median(ahead[seen]), rel=1e-2)
        ego = nusc.get("ego_pose", nusc.get("sample_data", lidar)["ego_pose_token"])["translation"]
        mask = nusc.get("map", nusc.get("log", nusc.get("scene", sample["scene_token"])["log_token"])["map_token"])["mask"]
        assert mask.is_on_mask(ego[0], ego[1]).all()
    nusc.render_sample_data(lidar, underlay_map=with_map, out_path=str(tmp_path / "lidar.png"), verbose=False)
    nusc.render_sample_data(front, out_path=str(tmp_path / "front.png"), verbose=False)
    nusc.render_pointcloud_in_image(sample["token"], out_path=str(tmp_path / "both.png"), verbose=False)
    assert all(cv2.imread(str(tmp_path / name)).std() > 1 for name in ("lidar.png", "front.png", "both.png"))

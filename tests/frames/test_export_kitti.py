"""Exported SemanticKITTI sequences and Occ3D labels give back what was put into them."""

import numpy as np
import pytest
import torch

from occlab.errors import OcclabError
from occlab.frames import Camera, StreetConfig, simulate_frame
from occlab.frames.export_kitti import CLASSES, MOVING, commonest, export_semantickitti, point_classes
from occlab.frames.export_nuscenes import EGO_FROM_LIDAR
from occlab.frames.export_occ3d import CLASSES as OCC3D_CLASSES
from occlab.frames.export_occ3d import export_occ3d
from occlab.frames.kitti import (
    colour_camera,
    list_sequences,
    read_calib,
    read_labels,
    read_poses,
    read_voxels,
    semantickitti_voxels,
)
from occlab.frames.meshes import KINDS
from occlab.frames.occupancy_files import (
    OCC3D_GRID,
    REGENERATED_GRID,
    read_occ3d,
    read_semantickitti_volume,
    semantickitti_release,
)
from occlab.frames.point_files import read_bin
from occlab.frames.sensors import LidarConfig, camera_rig
from occlab.frames.street_truth import NOTHING, street_of
from occlab.grid import VoxelGrid
from occlab.visibility import camera_visible, ray_states
from occlab.voxelize import occupancy

pytest.importorskip("open3d")
CONFIG = StreetConfig(lidar=LidarConfig(sweeps=3, azimuths=361), stride=24, points=2000)
KEY = "000002"


@pytest.fixture(scope="module")
def frames():
    return [simulate_frame(seed, CONFIG) for seed in (3, 7)]


@pytest.fixture(scope="module")
def street(frames):
    return street_of(frames[0])


@pytest.fixture(scope="module")
def root(frames, tmp_path_factory):
    root = tmp_path_factory.mktemp("export") / "semantickitti"
    export_semantickitti(frames, root)
    return root


@pytest.fixture(scope="module")
def folder(root):
    return root / "sequences" / "00"


@pytest.fixture(scope="module")
def old(frames, tmp_path_factory):
    """Sequence 00 in the alignment of the old release."""
    root = tmp_path_factory.mktemp("export") / "old"
    export_semantickitti(frames[:1], root, shifted=True)
    return root / "sequences" / "00"


def test_each_frame_is_a_sequence_of_its_sweeps_the_key_one_last(frames, root):
    assert list_sequences(root) == ["00", "01"]
    for frame, name in zip(frames, ("00", "01"), strict=True):
        folder = root / "sequences" / name
        assert sorted(path.stem for path in (folder / "velodyne").iterdir()) == ["000000", "000001", KEY]
        key = read_bin(folder / "velodyne" / f"{KEY}.bin", 4)
        np.testing.assert_array_equal(key, frame.lidar[: len(key)])
        np.testing.assert_array_equal(read_bin(folder / "pseudo" / f"{KEY}.bin", 4), frame.pseudo)
        assert (folder / "times.txt").read_text().split() == ["0.000000e+00", "5.000000e-02", "1.000000e-01"]


def test_poses_carry_every_sweep_to_where_the_frame_has_it(frames, folder):
    """LiDAR pose = inv(Tr) pose Tr, as the format's own tools have it."""
    tr, poses = read_calib(folder / "calib.txt")["Tr"], read_poses(folder / "poses.txt")
    lidar_poses = np.linalg.inv(tr) @ poses @ tr
    np.testing.assert_allclose(lidar_poses[0], np.eye(4), atol=1e-9)
    to_key = np.linalg.inv(lidar_poses[-1]) @ lidar_poses
    clouds = []
    for i in (2, 1, 0):
        own = read_bin(folder / "velodyne" / f"{i:06d}.bin", 4)
        clouds.append(own[:, :3] @ to_key[i, :3, :3].T + to_key[i, :3, 3])
    np.testing.assert_allclose(np.concatenate(clouds), frames[0].lidar[:, :3], atol=1e-4)
    assert np.linalg.norm(to_key[0, :3, 3]) > 0.1


def test_the_calibration_is_the_front_cameras(folder):
    calib = read_calib(folder / "calib.txt")
    (front,) = [camera for camera in camera_rig() if camera.name == "CAM_FRONT"]
    left, right = (colour_camera(calib, key, front.width, front.height) for key in ("P2", "P3"))
    np.testing.assert_allclose(left.lidar_to_camera, front.lidar_to_camera, atol=1e-9)
    np.testing.assert_allclose(left.intrinsics, front.intrinsics, atol=1e-9)
    assert left.lidar_to_camera[0][3] - right.lidar_to_camera[0][3] == pytest.approx(0.54)


def test_labels_say_what_the_points_hit(street, folder):
    for i, sweep in zip((2, 1, 0), street.sweeps, strict=True):
        labels = read_labels(folder / "labels" / f"{i:06d}.label", len(sweep.points))
        assert (labels >> 16 == 0).all()
        for number, kind in enumerate(KINDS):
            own = sweep.kind == number
            wanted = np.where(sweep.moving[own], MOVING.get(CLASSES[kind], 0), CLASSES[kind])
            np.testing.assert_array_equal(labels[own], wanted)
        assert (labels[sweep.kind == NOTHING] == 0).all()
    assert {10, 40, 50, 70, 252} <= set(labels.tolist())


def test_voxels_of_the_old_release_are_rebuilt_from_points_and_labels(old):
    points = read_bin(old / "velodyne" / f"{KEY}.bin", 4)
    labels = read_labels(old / "labels" / f"{KEY}.label", len(points))
    published = read_voxels(old / "voxels" / f"{KEY}.bin")
    assert torch.equal(published, semantickitti_voxels(points, labels))
    assert published.sum() > 500
    assert not published[:, :, 0].any()  # z from -2.2 to -2.0 m
    assert read_semantickitti_volume(old / "voxels" / KEY, shifted=True).occupied.sum() > published.sum()


def test_voxels_of_the_regenerated_release_lie_where_the_points_do(folder):
    points = read_bin(folder / "velodyne" / f"{KEY}.bin", 4)
    labels = read_labels(folder / "labels" / f"{KEY}.label", len(points))
    scan = read_semantickitti_volume(folder / "voxels" / KEY, "scan")
    assert scan.grid == REGENERATED_GRID
    assert torch.equal(scan.occupied, occupancy(torch.from_numpy(points[labels != 0]), REGENERATED_GRID)[0])


def test_the_reader_tells_the_two_releases_apart(folder, old):
    new, before = semantickitti_release(folder), semantickitti_release(old)
    assert (new.shifted, new.iou_regenerated) == (False, 1)
    assert (before.shifted, before.iou_shifted) == (True, 1)


def test_voxel_labels_are_the_commonest_class_of_all_sweeps(street, folder):
    """Counted with NumPy, class by class, on cells of one's own reckoning."""
    points = np.concatenate([sweep.points for sweep in street.sweeps])
    classes = np.concatenate([point_classes(sweep) for sweep in street.sweeps])
    cell = np.floor((points[:, :3] - np.float32([0, -25.6, -2])) / np.float32(0.2)).astype(int)
    inside = ((cell >= 0) & (cell < (256, 256, 32))).all(axis=1) & (classes != 0)
    numbers = sorted(set(classes[inside].tolist()))
    votes = np.zeros((len(numbers), 256, 256, 32), np.uint16)
    for i, number in enumerate(numbers):
        np.add.at(votes[i], tuple(cell[inside & (classes == number)].T), 1)
    wanted = np.where(votes.any(axis=0), np.array(numbers)[votes.argmax(axis=0)], 0)
    written = np.fromfile(folder / "voxels" / f"{KEY}.label", "<u2").reshape(256, 256, 32)
    np.testing.assert_array_equal(written, wanted)
    assert len(np.unique(written)) > 6


def test_masks_follow_the_rays(street, folder):
    volume, scan = (read_semantickitti_volume(folder / "voxels" / KEY, of) for of in ("scene", "scan"))
    occluded = read_voxels(folder / "voxels" / f"{KEY}.occluded").permute(2, 1, 0)
    invalid = read_voxels(folder / "voxels" / f"{KEY}.invalid").permute(2, 1, 0)
    assert not (invalid & volume.occupied).any()
    assert not (invalid & ~occluded).any()
    assert occluded[scan.occupied].all()
    key = street.sweeps[0]
    states = ray_states(torch.from_numpy(key.points[key.kind != NOTHING]), REGENERATED_GRID)
    assert torch.equal(~occluded, states == 1)
    assert 0.02 < volume.masks["valid"].float().mean() < 0.6
    assert volume.masks["visible"].sum() < volume.masks["valid"].sum()


def test_the_commonest_value_wins_and_the_lower_of_two():
    grid = VoxelGrid((0.0, 0.0, 0.0, 3.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    x = torch.tensor([0.5, 0.5, 0.5, 1.5, 1.5, 9.0])
    points = torch.stack([x, torch.full_like(x, 0.5), torch.full_like(x, 0.5)], dim=1)
    values = torch.tensor([7, 9, 9, 40, 30, 1])
    assert commonest(points, values, grid, empty=17).flatten().tolist() == [9, 30, 17]


def test_the_same_frames_give_the_same_bytes_and_others_are_refused(frames, root):
    export_semantickitti(frames, root)  # would refuse a folder of other content
    with pytest.raises(OcclabError, match="semantickitti: expected a new or empty folder"):
        export_semantickitti(frames[:1], root)
    for wrong, got in (([], "none"), (frames[:1] * 2, "street-000003, street-000003")):
        with pytest.raises(OcclabError, match=f"each of another name, got {got}"):
            export_semantickitti(wrong, root)


@pytest.fixture(scope="module")
def occ3d(frames, tmp_path_factory):
    path = tmp_path_factory.mktemp("gts") / "street" / "token" / "labels.npz"
    export_occ3d(frames[0], path)
    return path


def test_an_occ3d_label_is_read_back_with_its_points_classes(street, occ3d):
    volume = read_occ3d(occ3d)
    sweep = street.sweeps[0]
    known = sweep.kind != NOTHING
    in_ego = sweep.points[known, :3].astype(np.float64) + EGO_FROM_LIDAR[:3, 3]
    index, inside = OCC3D_GRID.index_of(torch.from_numpy(in_ego))
    assert volume.occupied[tuple(index[inside].T)].float().mean() > 0.999  # float32 may take a point over an edge
    classes = volume.classes[tuple(index[inside].T)].numpy()
    own = np.array([OCC3D_CLASSES[kind] for kind in KINDS])[sweep.kind[known][inside.numpy()]]
    assert (classes == own).mean() > 0.9
    # The road lies in the layers round z = 0: the ego frame's origin is on the ground.
    layers = (volume.classes == 11).sum(dim=(1, 2))
    assert layers[1:4].sum() > 0.95 * layers.sum() > 0


def test_occ3d_masks_hold_what_was_seen(street, occ3d):
    volume = read_occ3d(occ3d)
    lidar, camera = volume.masks["lidar"], volume.masks["camera"]
    assert lidar[volume.occupied].all()
    assert 0.05 < lidar.float().mean() < 0.6
    assert lidar[camera].all()
    assert 0 < (camera & volume.occupied).sum() < volume.occupied.sum()
    centres = OCC3D_GRID.centre_of(camera.nonzero()).double().numpy() - EGO_FROM_LIDAR[:3, 3]
    assert np.any([one.sees(centres) for one in camera_rig()], axis=0).all()
    # Nothing is seen that rays of the front camera to all voxels in its view, in the ego frame, do not see.
    front, *others = camera_rig()
    in_ego = np.asarray(front.lidar_to_camera) @ np.linalg.inv(EGO_FROM_LIDAR)
    states = torch.where(volume.occupied, 2, lidar.long()).to(torch.uint8)
    reached = camera_visible([Camera("front", 1600, 900, front.intrinsics, in_ego)], states, OCC3D_GRID)
    by_front_alone = front.sees(centres) & ~np.any([one.sees(centres) for one in others], axis=0)
    assert by_front_alone.sum() > 1000
    assert reached[camera][torch.from_numpy(by_front_alone)].all()


def test_the_same_frame_gives_the_same_occ3d_file(frames, occ3d, tmp_path):
    export_occ3d(frames[0], tmp_path / "labels.npz")
    assert (tmp_path / "labels.npz").read_bytes() == occ3d.read_bytes()

"""Each format's index order against its own formula, written out; broken files; the real samples."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab.errors import OcclabError
from occlab.frames.kitti import SEMANTICKITTI_GRID
from occlab.frames.occupancy_files import (
    read_flat_index,
    read_occ3d,
    read_openoccupancy,
    read_semantickitti_volume,
    read_surroundocc,
    semantickitti_release,
)

FEW = st.lists(st.tuples(*(st.floats(0, 0.999),) * 3, st.integers(1, 10)), min_size=1, max_size=20)
RULES = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("occupancy")


def cells(draws, nx, ny, nz):
    """Distinct cells x, y, z and a class for each."""
    return {(int(a * nx), int(b * ny), int(c * nz)): label for a, b, c, label in draws}


def expect(volume, low, size, found):
    """Exactly these metres (x forward, y left) are occupied, with these classes.

    Args:
        low: corner of the grid that the format documents; size: its voxel. found: centre in metres -> class.
    """
    assert int(volume.occupied.sum()) == len(found)
    assert volume.grid.voxel_size == (size,) * 3
    assert volume.grid.point_cloud_range[:3] == low
    for (x, y, z), label in found.items():
        i, j, k = (int(np.floor((v - a) / size)) for v, a in zip((x, y, z), low, strict=True))
        assert volume.occupied[k, j, i]
        if volume.classes is not None:
            assert volume.classes[k, j, i] == label


def centre(cell, low, size):
    return tuple(a + (i + 0.5) * size for a, i in zip(low, cell, strict=True))


def turned(metres):
    """nuScenes' x right, y forward in x forward, y left."""
    x, y, z = metres
    return y, -x, z


@RULES
@given(FEW)
def test_occ3d_is_dense_in_x_y_z_of_the_ego_frame(folder, draws):
    found, low = cells(draws, 200, 200, 16), (-40.0, -40.0, -1.0)
    semantics = np.full((200, 200, 16), 17, np.uint8)
    camera = np.zeros_like(semantics)
    for (x, y, z), label in found.items():
        semantics[x, y, z] = label
        camera[x, y, z] = 1
    np.savez_compressed(folder / "labels.npz", semantics=semantics, mask_lidar=np.ones_like(camera), mask_camera=camera)
    volume = read_occ3d(folder / "labels.npz")
    expect(volume, low, 0.4, {centre(cell, low, 0.4): label for cell, label in found.items()})
    assert volume.reference == "ego"
    assert torch.equal(volume.masks["camera"], volume.occupied)
    assert volume.masks["lidar"].all()


@settings(RULES, max_examples=8)  # 10 million voxels each
@given(FEW, st.booleans())
def test_openoccupancy_rows_are_z_y_x_and_the_class_last(folder, draws, velocity):
    found, low = cells(draws, 512, 512, 40), (-51.2, -51.2, -5.0)
    rows = [[z, y, x, *([0.5, -3.25, 0.0] if velocity else []), label] for (x, y, z), label in found.items()]
    np.save(folder / "o.npy", np.array(rows, np.float32 if velocity else np.int32))
    volume = read_openoccupancy(folder / "o.npy")
    expect(volume, low, 0.2, {turned(centre(cell, low, 0.2)): label for cell, label in found.items()})
    assert volume.reference == "lidar"
    assert not volume.masks


@RULES
@given(FEW, st.sampled_from([np.int64, np.uint8, np.float32]))
def test_surroundocc_rows_are_x_y_z_and_the_class(folder, draws, dtype):
    found, low = cells(draws, 200, 200, 16), (-50.0, -50.0, -5.0)
    rows = np.array([[*cell, label] for cell, label in found.items()], dtype)
    np.save(folder / "s.npy", rows)
    metres = {turned(centre(cell, low, 0.5)): label for cell, label in found.items()}
    expect(read_surroundocc(folder / "s.npy"), low, 0.5, metres)
    np.save(folder / "s.npy", rows[:, :3])
    binary = read_surroundocc(folder / "s.npy")
    assert binary.classes is None
    expect(binary, low, 0.5, metres)


@RULES
@given(FEW)
def test_flat_indices_are_x_plus_200_y_plus_40000_z(folder, draws):
    found = cells(draws, 200, 200, 16)
    np.save(folder / "f.npy", np.array([[x + 200 * y + 40000 * z, label] for (x, y, z), label in found.items()]))
    low = (-50.0, -50.0, -4.0)
    expect(read_flat_index(folder / "f.npy", "OpenScene"), low, 0.5, {centre(c, low, 0.5): v for c, v in found.items()})
    low = (-50.0, -50.0, -5.0)
    occnet = read_flat_index(folder / "f.npy", "OccNet")
    expect(occnet, low, 0.5, {turned(centre(c, low, 0.5)): v for c, v in found.items()})
    assert int((occnet.classes == 16).sum()) == 640_000 - len(found)


def test_a_car_ahead_of_nuscenes_lidar_is_ahead_in_every_format(tmp_path):
    """10.1 m ahead, 2.1 m to the right: at x = 2.1, y = 10.1 in LIDAR_TOP's axes."""
    np.save(tmp_path / "s.npy", np.array([[104, 120, 8, 4]]))  # (2.1 + 50) / 0.5, (10.1 + 50) / 0.5
    np.save(tmp_path / "o.npy", np.array([[22, 306, 266, 4]]))  # (10.1 + 51.2) / 0.2, (2.1 + 51.2) / 0.2
    for volume in (read_surroundocc(tmp_path / "s.npy"), read_openoccupancy(tmp_path / "o.npy")):
        x, y, _ = volume.grid.centre_of(volume.occupied.nonzero())[0].tolist()
        assert (x, y) == pytest.approx((10.1, -2.1), abs=0.26)


def test_classes_to_ignore_are_not_occupied_and_masked(tmp_path):
    np.save(tmp_path / "s.npy", np.array([[0, 0, 0, 0], [1, 0, 0, 255], [2, 0, 0, 3]]))
    volume = read_surroundocc(tmp_path / "s.npy")
    assert int(volume.occupied.sum()) == 1
    assert int((~volume.masks["labelled"]).sum()) == 2
    np.save(tmp_path / "f.npy", np.array([[0, 11], [1, 3]]))
    assert int(read_flat_index(tmp_path / "f.npy", "OpenScene").occupied.sum()) == 1


def openscene(path):
    return read_flat_index(path, "OpenScene")


BAD_ROWS = {
    "no rows": (read_surroundocc, np.zeros((0, 4), int), "one occupied voxel a row"),
    "five columns": (read_surroundocc, np.zeros((3, 5), int), r"one occupied voxel a row, got int64 of shape \(3, 5\)"),
    "a vector": (read_openoccupancy, np.zeros(8, int), "one occupied voxel a row"),
    "a cloud": (read_surroundocc, np.full((3, 4), 1.5), "whole numbers as class"),
    "nan": (read_surroundocc, np.full((3, 4), np.nan), "whole numbers"),
    "infinity": (openscene, np.full((3, 2), np.inf), "whole numbers"),
    "huge": (openscene, np.full((3, 2), 2**63, np.uint64), "more than 31 bits"),
    "x, y, z for z, y, x": (read_openoccupancy, np.array([[300, 300, 5, 1]]), r"below \(512, 512, 40\), got \(5, 300, 300\)"),
    "negative": (read_surroundocc, np.array([[0, -1, 0, 1]]), "1 rows lie outside"),
    "class 17": (read_surroundocc, np.array([[0, 0, 0, 17]]), "classes from 0 to 16, got 17 in 1 voxels"),
    "two classes": (read_surroundocc, np.array([[5, 6, 7, 1], [5, 6, 7, 2]]), r"cell x, y, z = \(5, 6, 7\) is listed with two"),
    "index": (openscene, np.array([[640_000, 1]]), "indices from 0 to 639999, got 640000"),
    "class 12": (openscene, np.array([[0, 12]]), "classes from 0 to 11, got 12"),
    "objects": (read_openoccupancy, np.array([[{}] * 4], object), "Python objects"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_rows_are_one_sentence(tmp_path, kind):
    read, rows, says = BAD_ROWS[kind]
    np.save(tmp_path / "bad.npy", rows, allow_pickle=True)
    with pytest.raises(OcclabError, match=says) as caught:
        read(tmp_path / "bad.npy")
    assert "bad.npy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_same_voxel_twice_with_one_class_is_no_harm(tmp_path):
    np.save(tmp_path / "s.npy", np.array([[5, 6, 7, 1], [5, 6, 7, 1]]))
    assert int(read_surroundocc(tmp_path / "s.npy").occupied.sum()) == 1


def test_bad_occ3d_files_are_one_sentence(tmp_path):
    good = {name: np.zeros((200, 200, 16), np.uint8) for name in ("semantics", "mask_lidar", "mask_camera")}
    bad = {
        "classes from 0 to 17, got 18": good | {"semantics": good["semantics"] + 18},
        "classes from 0 to 17, got 255": good | {"semantics": good["semantics"] + 255},
        "mask_camera: expected 0 and 1, got 2": good | {"mask_camera": good["semantics"] + 2},
        r"semantics: expected uint8 \(200, 200, 16\), got int8": good | {"semantics": np.zeros((200, 200, 16), np.int8)},
        r"semantics: expected uint8 \(200, 200, 16\) as NumPy packs it": good | {"semantics": np.zeros((200, 200, 16))},
        r"got uint8 \(16, 200, 200\)": good | {"mask_lidar": np.zeros((16, 200, 200), np.uint8)},
        "one array 'mask_lidar', got semantics": {"semantics": good["semantics"]},
    }
    for says, arrays in bad.items():
        np.savez_compressed(tmp_path / "labels.npz", **arrays)
        with pytest.raises(OcclabError, match=says) as caught:
            read_occ3d(tmp_path / "labels.npz")
        assert "labels.npz" in str(caught.value)


def write_bits(path, volume):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.packbits(volume).tobytes())


def kitti_folder(root, low):
    """A sweep and its voxels on a grid from ``low``, by the data set's formula."""
    rng = np.random.default_rng(3)
    points = np.column_stack(
        [rng.uniform(0, 51, 3000), rng.uniform(-25, 25, 3000), rng.uniform(-1.9, 4, 3000), rng.random(3000)]
    )
    points = points.astype("<f4")
    for name, content in (("velodyne/000000.bin", points), ("labels/000000.label", np.full(3000, 40, "<u4"))):
        (root / name).parent.mkdir(parents=True)
        content.tofile(root / name)
    x, y, z = np.floor((points[:, :3].astype(np.float64) - (0, -25.6, low)) / 0.2).astype(int).T
    scan = np.zeros((256, 256, 32), bool)
    scan[x, y, z] = True
    write_bits(root / "voxels/000000.bin", scan)
    return scan


def test_semantickitti_target_scan_and_masks(tmp_path):
    scan = kitti_folder(tmp_path, -2.0)
    rng = np.random.default_rng(0)
    invalid, occluded = rng.random(scan.shape) < 0.1, scan | (rng.random(scan.shape) < 0.3)
    write_bits(tmp_path / "voxels/000000.invalid", invalid)
    write_bits(tmp_path / "voxels/000000.occluded", occluded)
    labels = np.zeros(scan.shape, "<u2")
    labels[3, 4, 5], labels[200, 4, 5], labels[7, 7, 7] = 40, 259, 52
    labels.tofile(tmp_path / "voxels/000000.label")

    volume = read_semantickitti_volume(tmp_path / "voxels/000000", "scan")
    assert torch.equal(volume.occupied, torch.from_numpy(scan).permute(2, 1, 0))
    assert volume.grid.point_cloud_range[2] == -2.0
    assert torch.equal(volume.masks["valid"].permute(2, 1, 0), torch.from_numpy(~invalid))
    assert torch.equal(volume.masks["visible"].permute(2, 1, 0), torch.from_numpy(~occluded | scan))

    scene = read_semantickitti_volume(tmp_path / "voxels/000000.label", shifted=True)
    assert scene.grid == SEMANTICKITTI_GRID
    assert scene.occupied.nonzero().tolist() == [[5, 4, 3], [5, 4, 200], [7, 7, 7]]
    assert [int(scene.classes[tuple(cell)]) for cell in scene.occupied.nonzero()] == [9, 5, 255]
    assert not scene.masks["valid"][7, 7, 7]


def test_semantickitti_files_that_are_missing_or_broken(tmp_path):
    kitti_folder(tmp_path, -2.0)
    stem, label = tmp_path / "voxels/000000", tmp_path / "voxels/000000.label"
    with pytest.raises(OcclabError, match=r"000000\.label: expected .* cannot be read .*of='scan'"):
        read_semantickitti_volume(stem)
    label.write_bytes(bytes(99))
    with pytest.raises(OcclabError, match=r"000000\.label: expected 4194304 bytes for \(256, 256, 32\) labels, got 99"):
        read_semantickitti_volume(stem)
    np.full(256 * 256 * 32, 77, "<u2").tofile(label)
    with pytest.raises(OcclabError, match="class numbers, got 77"):
        read_semantickitti_volume(stem)
    with pytest.raises(OcclabError, match="'scene' or the 'scan', not 'bin'"):
        read_semantickitti_volume(stem, "bin")


@pytest.mark.parametrize(("low", "shifted"), [(-2.0, False), (-2.2, True)])
def test_the_release_is_told_from_the_sweep(tmp_path, low, shifted):
    kitti_folder(tmp_path, low)
    release = semantickitti_release(tmp_path)
    assert release.shifted == shifted
    ious = release.iou_shifted, release.iou_regenerated
    assert max(ious) > 0.97
    assert min(ious) < 0.2
    assert f"{max(ious):.2f}" in str(release)


def test_voxels_of_other_sweeps_are_refused(tmp_path):
    with pytest.raises(OcclabError, match="found no such pair"):
        semantickitti_release(tmp_path)
    kitti_folder(tmp_path, -2.0)
    write_bits(tmp_path / "voxels/000000.bin", np.random.default_rng(0).random((256, 256, 32)) < 0.01)
    with pytest.raises(OcclabError, match="expected voxels of the sweeps beside them"):
        semantickitti_release(tmp_path)


def test_the_real_occ3d_label(real_data):
    volume = read_occ3d(real_data / "occ3d/labels.npz")
    assert int(volume.occupied.sum()) == 39_092
    assert float(volume.masks["camera"].float().mean()) == pytest.approx(0.068, abs=0.0005)
    assert float(volume.masks["lidar"].float().mean()) == pytest.approx(0.088, abs=0.0005)
    road = (volume.classes == 11).sum(dim=(1, 2))
    assert road.tolist() == [8433] + [0] * 15


def test_the_real_semantickitti_voxels_are_the_old_release(real_data):
    for folder in sorted((real_data / "semantickitti/sequences").glob("*")):
        release = semantickitti_release(folder)
        print(folder.name, release)
        assert release.shifted
        assert release.iou_shifted > 0.99
    volume = read_semantickitti_volume(real_data / "semantickitti/sequences/00/voxels/000000", "scan", shifted=True)
    assert volume.masks["visible"][volume.occupied].all()
    assert volume.masks["valid"][volume.occupied].all()
    assert 0.2 < float(volume.masks["visible"].float().mean()) < 0.5

"""Every kind of folder that is understood, made small; what is said of it; and what is said of others."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from occlab.errors import OcclabError
from occlab.frames.guess import describe, facts, guess, read_items, show_frames
from occlab.frames.sweep import Sweep
from occlab.frames.volume import OccupancyVolume
from occlab.grid import VoxelGrid


def points(n=200):
    rng = np.random.default_rng(0)
    return np.column_stack([rng.uniform(-40, 40, (n, 2)), rng.uniform(-2, 2, n), rng.random(n)]).astype(np.float32)


def put(path: Path, array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        np.asarray(array).tofile(path)
    return path


def occ3d(path):
    path.parent.mkdir(parents=True)
    free = np.full((200, 200, 16), 17, np.uint8)
    free[0, 0, 0] = 1
    np.savez_compressed(path, semantics=free, mask_lidar=np.ones_like(free), mask_camera=np.zeros_like(free))


ROWS = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
FLAT = np.array([[5, 4], [40_000, 3]])
CASES = {
    "nuscenes": (lambda r: put(r / "v1.0-mini/sample_data.json", np.uint8([91, 93])), "", None),
    "kitti": (lambda r: put(r / "dataset/sequences/04/velodyne/000001.bin", points()), "", 1),
    "semantickitti-voxels": (lambda r: put(r / "04/voxels/000000.bin", np.ones(262_144, np.uint8)), "04/voxels", 1),
    "semantickitti-voxels alone": (lambda r: put(r / "sequences/04/voxels/000000.bin", np.ones(262_144, np.uint8)), "", 1),
    "occ3d": (lambda r: occ3d(r / "gts/scene-0001/abc/labels.npz"), "", 1),
    "occ3d one": (lambda r: occ3d(r / "abc/labels.npz"), "abc/labels.npz", 1),
    "occ3d scene": (lambda r: occ3d(r / "abc/labels.npz"), "", 1),
    "openoccupancy": (lambda r: put(r / "scene_ab/occupancy/cd.npy", ROWS), "", 1),
    "openoccupancy scene": (lambda r: put(r / "scene_ab/occupancy/cd.npy", ROWS), "scene_ab", 1),
    "openoccupancy folder": (lambda r: put(r / "scene_ab/occupancy/cd.npy", ROWS), "scene_ab/occupancy", 1),
    "openoccupancy one": (lambda r: put(r / "scene_ab/occupancy/cd.npy", ROWS), "scene_ab/occupancy/cd.npy", 1),
    "surroundocc": (lambda r: [put(r / f"{i}.npy", ROWS) for i in range(3)], "", 3),
    "surroundocc floats": (lambda r: put(r / "a.npy", ROWS.astype(np.float32)), "a.npy", 1),
    "surroundocc binary": (lambda r: put(r / "a.npy", ROWS[:, :3]), "a.npy", 1),
    "occnet": (lambda r: [put(r / f"s/occ_gt/00{i}_{k}.npy", FLAT) for i in range(2) for k in ("occ", "occ_invalid")], "", 2),
    "openscene": (lambda r: put(r / "occ_gt/000_occ_final.npy", FLAT), "", 1),
    "openscene one": (lambda r: put(r / "000_occ_final.npy", FLAT), "000_occ_final.npy", 1),
    "clouds": (lambda r: [put(r / f"{i}.bin", points()) for i in range(2)], "", 2),
    "clouds one": (lambda r: put(r / "a.bin", points()), "a.bin", 1),
    "clouds npy": (lambda r: put(r / "a.npy", points()), "", 1),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_told_from_names_and_headers_and_can_be_read(tmp_path, case):
    make, below, count = CASES[case]
    make(tmp_path)
    found = guess(tmp_path / below)
    assert found.kind == case.split()[0]
    assert found.count == count
    if found.kind == "nuscenes":
        return
    items = list(read_items(found))
    assert len(items) == count
    assert all(isinstance(item, Sweep if found.kind in ("kitti", "clouds") else OccupancyVolume) for item in items)


def test_occlab_frames_are_told_and_read(store):
    assert (guess(store).kind, guess(store).count) == ("frames", 3)
    assert guess(store / "frame-0.npz").kind == "frames"
    assert [item.name for item in read_items(guess(store), 2)] == ["frame-0", "frame-1"]
    assert "pseudo   3,000 points" in describe(store, 1)


OTHERS = {
    "an empty folder": lambda r: None,
    "pictures": lambda r: put(r / "a.png", np.zeros(3)),
    "a table": lambda r: put(r / "a.npy", np.full((5, 2), 0.5)),
    "weights": lambda r: np.savez(r / "weights.npz", w=np.zeros(3)),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_not_understood_is_answered_with_what_is(tmp_path, kind):
    OTHERS[kind](tmp_path)
    with pytest.raises(OcclabError, match=r"cannot tell what this is; expected a nuScenes root .* point clouds") as caught:
        guess(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(OcclabError, match="no such file or folder; expected a nuScenes root"):
        guess(tmp_path / "none")


def test_facts_of_a_cloud_are_those_counted_by_hand():
    cells = np.array([[0.1, 0.1, 0.1, 0], [0.2, 0.1, 0.1, 0], [0.1, 0.1, 1.1, 0], [10, 0, 0.1, 0], [60, 0, 0, 0]], np.float32)
    row = facts(Sweep(cells, "a"))["clouds"]["LiDAR"]
    assert (row["points"], row["occupied"], row["empty_channels"]) == (5, 3, 30)
    assert row["inside"] == pytest.approx(4 / 5)
    assert row["within_2_m"] == pytest.approx(3 / 5)
    assert row["rate"] == pytest.approx(3 / VoxelGrid().n_cells)
    assert row["densest_channel"] == {"z": pytest.approx(0.125), "cells": 2}
    assert row["range"]["x"] == (pytest.approx(0.1), 60.0)


def test_facts_of_a_volume_have_its_masks():
    grid = VoxelGrid((0.0, 0.0, 0.0, 4.0, 4.0, 2.0), (1.0, 1.0, 1.0))
    occupied, mask = torch.zeros(2, 4, 4, dtype=torch.bool), torch.zeros(2, 4, 4, dtype=torch.bool)
    occupied[1, 0, :3] = True
    mask[1, 0] = True
    row = facts(OccupancyVolume(occupied, grid, "a", "ego", masks={"camera": mask}))
    assert row["occupied"] == 3
    assert row["masks"]["camera"] == {"share": 4 / 32, "rate": 3 / 4}
    assert row["densest_channel"] == {"z": 1.5, "cells": 3}


def test_the_command_says_it_in_words_or_json_and_draws_the_first(tmp_path):
    for i in range(2):
        put(tmp_path / f"clouds/{i}.bin", points())
    text = show_frames(tmp_path / "clouds", limit=1)
    assert "point cloud (.bin), 2 in all" in text
    assert "200 points" in text
    drawn = []
    page = tmp_path / "out/page.html"
    answer = show_frames(tmp_path / "clouds", as_json=True, picture=page, draw=lambda item: drawn.append(item) or "<html>")
    assert page.read_text() == "<html>"
    assert len(drawn) == 1
    parsed = json.loads(answer)
    assert (parsed["kind"], parsed["count"], len(parsed["items"])) == ("clouds", 2, 2)
    with pytest.raises(OcclabError, match="limit of at least 1, got 0"):
        show_frames(tmp_path / "clouds", limit=0)


def test_the_real_samples(real_data):
    expected = {
        "nuscenes_one_frame": ("nuscenes", None),
        "semantickitti/sequences/00/velodyne": ("clouds", 10),
        "semantickitti": ("kitti", 15),
        "semantickitti/sequences/00/voxels": ("semantickitti-voxels", 2),
        "occ3d": ("occ3d", 1),
    }
    for below, (kind, count) in expected.items():
        found = guess(real_data / below)
        assert (found.kind, found.count) == (kind, count)
        print(describe(real_data / below, 1))
    assert "39,092 voxels occupied (6.11%)" in describe(real_data / "occ3d")
    assert "z -2.2 to 4.2 m" in describe(real_data / "semantickitti/sequences/00/voxels", 1)


def test_the_real_nuscenes_frame(real_data):
    (item,) = read_items(guess(real_data / "nuscenes_one_frame"))
    row = facts(item)["clouds"]["LiDAR"]
    assert row["points"] == 34_688
    assert round(row["inside"] * 34_688) == 32_330
    assert row["within_2_m"] * 34_688 == pytest.approx(8_526, abs=2)
    assert (row["occupied"], row["densest_channel"]["cells"]) == (pytest.approx(4_638, abs=3), pytest.approx(505, abs=2))

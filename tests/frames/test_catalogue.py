import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from occlab.errors import OcclabError
from occlab.frames import Frame, StreetConfig, catalogue, read_frames, sample_frames, simulate_frame, streets
from occlab.frames.store import fill_store
from occlab.grid import VoxelGrid
from occlab.voxelize import voxelize


def made(seed: int, n: int) -> Frame:
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.normal(0, 20, (n, 3)).clip(-65, 65), rng.random(n)]).astype(np.float32)
    return Frame(points, points, f"street-{seed:06d}", {"seed": seed})


def same(a: Frame, b: Frame) -> bool:
    return a.fingerprint == b.fingerprint and (a.name, a.source, a.view) == (b.name, b.source, b.view)


def imported_within(package: Path, module: str) -> set[str]:
    """Modules of the package that a module needs, itself included, read from their import statements."""
    needed, waiting = set(), {module}
    while waiting:
        name = waiting.pop()
        needed.add(name)
        for node in ast.walk(ast.parse((package / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                found = [node.module] if node.module else [alias.name for alias in node.names]
                waiting |= {f for f in found if (package / f"{f}.py").exists()} - needed
    return needed


def test_the_key_of_a_street_covers_every_module_of_the_simulator():
    assert imported_within(Path(catalogue.__file__).parent, "simulate") - {"frame"} == set(catalogue.SIMULATOR)


def test_streets_are_made_once_and_seeds_share_none(tmp_path, monkeypatch):
    monkeypatch.setenv("OCCLAB_HOME", str(tmp_path))
    calls = []

    def fake(seed: int, config: StreetConfig) -> Frame:
        calls.append(seed)
        return made(seed, 20 + config.stride)

    monkeypatch.setattr(catalogue, "simulate_frame", fake)
    two, three = streets(2), streets(3)
    assert all(map(same, two, three))
    assert len(calls) == 3
    streets(3, seed=1)
    streets(3, config=StreetConfig())
    assert len(calls) == len(set(calls)) == 6
    assert not same(streets(1, config=StreetConfig(stride=4))[0], two[0])
    for count, seed in ((0, 0), (10_001, 0), (1, -1)):
        with pytest.raises(OcclabError, match="count from 1 to 10000 and seed >= 0"):
            streets(count, seed)


def test_a_simulated_street_survives_the_store(tmp_path, monkeypatch):
    pytest.importorskip("open3d", reason="Open3D is not installed")
    monkeypatch.setenv("OCCLAB_HOME", str(tmp_path))
    config = StreetConfig(stride=32, points=1000)
    stored, fresh = streets(1, seed=2, config=config)[0], simulate_frame(20_000, config)
    assert stored.name == fresh.name
    assert len(stored.pseudo) == len(fresh.pseudo)
    before, after = (voxelize(torch.from_numpy(points), VoxelGrid()) for points in (fresh.lidar, stored.lidar))
    assert len(before.index) == pytest.approx(len(after.index), rel=0.001)


def test_sample_frames_and_read_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "SAMPLES", tmp_path / "data_samples")
    with pytest.raises(OcclabError, match=r"expected the sample frames .* that ship with the repository, found none"):
        sample_frames()
    written = fill_store(tmp_path / "data_samples", ["a", "b", "c"], lambda i: made(i, 50), "frames")
    (tmp_path / "data_samples" / "runs").mkdir()
    assert all(map(same, written, sample_frames()))
    assert all(map(same, written, read_frames(tmp_path / "data_samples")))
    assert len(read_frames(str(tmp_path / "data_samples"), limit=2)) == 2
    with pytest.raises(
        OcclabError, match=r"runs: cannot tell what this is; expected a nuScenes .* SemanticKITTI .* occlab frames"
    ):
        read_frames(tmp_path / "data_samples" / "runs")
    with pytest.raises(OcclabError, match="nowhere: no such file or folder; expected a nuScenes"):
        read_frames(tmp_path / "nowhere")


def sweep_file(folder: Path, name: str, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(made(seed, 50).lidar.astype("<f4").tobytes())


def test_a_folder_of_sweeps_needs_a_maker_of_pseudo_clouds(tmp_path):
    sweep_file(tmp_path, "a.bin", 1)
    sweep_file(tmp_path, "b.bin", 2)
    with pytest.raises(OcclabError, match=r"expected pseudo clouds beside the sweeps of .*; give read_frames a function"):
        read_frames(tmp_path)

    def halved(sweep):
        return sweep.points[::2].copy()

    first, second = read_frames(tmp_path, pseudo=halved)
    assert np.array_equal(second.pseudo, made(2, 50).lidar[::2])
    assert first.source["depth"] == "halved"
    assert len(read_frames(tmp_path, 1, pseudo=halved)) == 1


def test_sequences_without_images_take_the_pseudo_clouds_beside_their_sweeps(tmp_path):
    sequence = tmp_path / "sequences" / "04"
    sweep_file(sequence / "velodyne", "000007.bin", 1)
    with pytest.raises(OcclabError, match="expected pseudo clouds beside the sweeps of SemanticKITTI"):
        read_frames(tmp_path)
    sweep_file(sequence / "pseudo", "000007.bin", 3)
    (frame,) = read_frames(tmp_path)
    assert np.array_equal(frame.lidar, made(1, 50).lidar)
    assert np.array_equal(frame.pseudo, made(3, 50).pseudo)
    sweep_file(sequence / "velodyne", "000006.bin", 5)  # of this one nobody made a pseudo cloud
    assert [f.source["frame"] for f in read_frames(tmp_path, limit=1)] == ["000007"]
    (sequence / "pseudo" / "000007.bin").rename(sequence / "pseudo" / "7.bin")
    with pytest.raises(OcclabError, match=r"expected pseudo/\*\.bin of the same names as velodyne/\*\.bin"):
        read_frames(tmp_path)
    (sequence / "pseudo" / "000007.bin").write_bytes(b"half")
    with pytest.raises(OcclabError, match=r"pseudo.000007\.bin: expected little-endian float32"):
        read_frames(tmp_path)


def test_voxels_are_no_frames(tmp_path):
    np.save(tmp_path / "a_occ.npy", np.array([[5, 1]]))
    with pytest.raises(OcclabError, match="expected point clouds to make frames of, got OccNet"):
        read_frames(tmp_path)


def test_importing_the_package_loads_nothing_heavy_and_streets_is_the_function():
    code = (
        "import sys, occlab.frames.sensors, occlab.frames as f; from occlab.frames.scene import Scene; "
        "assert callable(f.streets); print([m for m in ('open3d', 'cv2', 'plotly', 'IPython') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

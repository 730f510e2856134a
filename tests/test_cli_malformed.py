"""Broken, foreign and hostile data through the command line: exit code 2 and one sentence, at once, in little memory."""

import json
import os
import pickle
import re
import resource
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import occlab.training  # noqa: F401, what takes a second to import is no part of what is timed
from occlab.cli import main
from occlab.frames import export_nuscenes, export_occ3d, export_semantickitti, sample_frames

Spoil = Callable[[Path], object]


@pytest.fixture(scope="session")
def sets(tmp_path_factory) -> Path:
    """One street as ``nuscenes``, ``kitti`` and ``occ3d``, with the key sweep of each alone."""
    for module in ("open3d", "cv2"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    root, frame = tmp_path_factory.mktemp("sets"), sample_frames()[0]
    export_nuscenes([frame], root / "nuscenes", stride=40)
    export_semantickitti([frame], root / "kitti")
    export_occ3d(frame, root / "occ3d/scene-0001/abc/labels.npz")
    for early in (*(root / "kitti").glob("*/*/*/00000[0-8].*"), *(root / "nuscenes/sweeps").glob("*/*")):
        early.unlink()  # a tenth as much to copy
    return root


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("OCCLAB_HOME", str(tmp_path / "home"))


def refused(capsys, *arguments: object) -> str:
    """What stderr says of a command that is refused. Anything but one line there, soon and from little memory, fails."""
    memory, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    seconds = time.process_time() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    told = capsys.readouterr()
    assert stop.value.code == 2
    assert told.out == ""
    check_sentence(told.err)
    assert seconds < 2
    assert grown < 150_000  # KiB
    return told.err


def check_sentence(stderr: str) -> None:
    assert stderr.startswith("occlab: /")
    assert stderr.endswith("\n")
    assert len(stderr.splitlines()) == 1
    assert "expected" in stderr
    assert stderr.rstrip("\n").isprintable(), "control characters from a file reach the terminal"


def table(name: str, change: Callable[[list[dict]], object]) -> Spoil:
    """Change the records of a nuScenes table."""

    def spoil(root: Path) -> None:
        path = root / "v1.0-mini" / f"{name}.json"
        rows = json.loads(path.read_text())
        change(rows)
        path.write_text(json.dumps(rows))

    return spoil


def content(pattern: str, change: Callable[[bytes], bytes]) -> Spoil:
    """Change the bytes of the one file of that pattern."""

    def spoil(root: Path) -> None:
        (path,) = root.glob(pattern)
        path.write_bytes(change(path.read_bytes()))

    return spoil


def without(pattern: str) -> Spoil:
    return lambda root: next(root.glob(pattern)).unlink()


def half(data: bytes) -> bytes:
    return data[: len(data) // 2 + 1]


def floats(columns: int, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[bytes], bytes]:
    """Change points (N, columns)."""
    return lambda data: change(np.frombuffer(data, "<f4").reshape(-1, columns).copy()).astype("<f4").tobytes()


def zeros(points: np.ndarray) -> np.ndarray:
    return np.zeros_like(points)


def with_nan(points: np.ndarray) -> np.ndarray:
    points[:, :3] = np.nan
    return points


def a_column_more(points: np.ndarray) -> np.ndarray:
    return np.column_stack([points, points[:, :1]])


def matrices(rows: list[dict]) -> None:
    for row in rows:
        row["rotation"] = np.eye(3).tolist()


SWEEP = "samples/LIDAR_TOP/*.bin"
NUSCENES: dict[str, tuple[Spoil, str]] = {
    "no ego poses": (content("v1.0-mini/ego_pose.json", lambda _: b""), r"ego_pose\.json: .* the file is empty"),
    "an empty list of ego poses": (content("v1.0-mini/ego_pose.json", lambda _: b"[]"), r"ego_pose\.json: .* list is empty"),
    "matrices for ego poses": (table("ego_pose", matrices), r"ego_pose\.json: .* expected a quaternion w x y z of norm 1"),
    "matrices for calibrations": (table("calibrated_sensor", matrices), r"calibrated_sensor\.json: .* expected a quaternion"),
    "half a table": (content("v1.0-mini/sample_data.json", half), r"sample_data\.json: .* cut off or not JSON"),
    "deep JSON": (content("v1.0-mini/scene.json", lambda _: b"[" * 200_000), r"scene\.json: .* cut off or not JSON"),
    "a longer number than Python reads": (content("v1.0-mini/log.json", lambda _: b"[" + b"9" * 10_000 + b"]"), r"log\.json: "),
    "no table of samples": (without("v1.0-mini/sample.json"), r"sample\.json: expected a table .* cannot be read"),
    "no table of sample_data": (
        without("v1.0-mini/sample_data.json"),
        r"sample_data\.json: expected a table .* cannot be read",
    ),
    "no sweep": (without(SWEEP), r"LIDAR_TOP__\d+\.pcd\.bin: expected a LiDAR sweep, but it cannot be read"),
    "half a sweep": (content(SWEEP, lambda data: half(data)[:-3]), r"\.pcd\.bin: .* cut off or not a sweep"),
    "an empty sweep": (content(SWEEP, lambda _: b""), r"\.pcd\.bin: .* the file is empty"),
    "a sweep of six columns": (content(SWEEP, floats(5, a_column_more)), r"\.pcd\.bin: .* (no point cloud|not a sweep)"),
    "a sweep of four columns": (content(SWEEP, floats(5, lambda p: p[:, :4])), r"\.pcd\.bin: .* it fits 4 columns"),
    "a sweep of zeros": (content(SWEEP, floats(5, zeros)), r"\.pcd\.bin: .* lie at one place"),
    "a sweep of NaN": (content(SWEEP, floats(5, with_nan)), r"\.pcd\.bin: .* hold NaN or infinity"),
    "a sweep that is a text": (content(SWEEP, lambda _: b"x y z\n" + b"1.5 2.5 0.5\n" * 999), r"\.pcd\.bin: "),
    "no image": (without("samples/CAM_BACK/*.jpg"), r"CAM_BACK.*\.jpg: expected the image that sample_data.json names"),
    "a file outside": (
        table("sample_data", lambda rows: rows[0].update(filename="../../../etc/passwd")),
        r"sample_data\.json: .* expected a path inside the data set",
    ),
    "names with control characters": (
        table("sample_data", lambda rows: rows[0].update(token="\x1b[31mred\x1b[0m\n", timestamp=-1)),
        r"sample_data\.json: record 0: expected a token of its own",
    ),
    "links with control characters": (
        table("sample_data", lambda rows: rows[0].update(ego_pose_token="\x1b[31mred\x1b[0m\n")),
        r"sample_data\.json: .* expected a token of ego_pose\.json",
    ),
    "file names with control characters": (
        table("sample_data", lambda rows: rows[0].update(filename="samples/\x1b[31mred.jpg")),
        r"sample_data\.json: .* expected a path inside the data set",
    ),
}


@pytest.mark.parametrize("case", NUSCENES)
@pytest.mark.parametrize("command", ["frames", "train"])
def test_a_broken_nuscenes_set(sets, tmp_path, capsys, case, command):
    spoil, says = NUSCENES[case]
    root = Path(shutil.copytree(sets / "nuscenes", tmp_path / "nuscenes"))
    spoil(root)
    assert re.search(says, refused(capsys, *asked(command, root)))


def asked(command: str, path: Path) -> tuple:
    return ("frames", path) if command == "frames" else ("train", "--data", path, "--profile", "tiny", "--steps", 2)


POINTS, CLOUD = "sequences/00/velodyne/*.bin", "sequences/00/pseudo/*.bin"
KITTI: dict[str, tuple[Spoil, str]] = {
    "no sweep": (
        lambda r: (without(POINTS)(r), without("*/*/voxels/*.bin")(r)),
        r"kitti: expected sweeps or voxels .* found none",
    ),
    "half a sweep": (content(POINTS, lambda data: half(data)[:-3]), r"velodyne/000009\.bin: .* cut off or not a sweep"),
    "a sweep of zeros": (content(POINTS, floats(4, zeros)), r"velodyne/000009\.bin: .* lie at one place, 0, 0, 0"),
    "a sweep of NaN": (content(POINTS, floats(4, with_nan)), r"velodyne/000009\.bin: .* hold NaN or infinity"),
    "a sweep of six columns": (
        content(POINTS, floats(4, lambda p: a_column_more(a_column_more(p)))),
        r"000009\.bin: .* (no point cloud|not a sweep)",
    ),
    "a sweep of five columns": (content(POINTS, floats(4, a_column_more)), r"velodyne/000009\.bin: .* it fits 5 columns"),
    "a sweep that is a text": (content(POINTS, lambda _: b"x y z\n" + b"1.5 2.5 0.5\n" * 999), r"velodyne/000009\.bin: "),
}


@pytest.mark.parametrize("case", KITTI)
@pytest.mark.parametrize("command", ["frames", "train"])
def test_a_broken_kitti_set(sets, tmp_path, capsys, case, command):
    spoil, says = KITTI[case]
    root = Path(shutil.copytree(sets / "kitti", tmp_path / "kitti"))
    spoil(root)
    assert re.search(says, refused(capsys, *asked(command, root)))


@pytest.mark.parametrize("spoil", [without(CLOUD), content(CLOUD, lambda d: half(d)[:-3]), content(CLOUD, floats(4, with_nan))])
def test_a_kitti_set_whose_pseudo_cloud_is_broken_is_not_trained_on(sets, tmp_path, capsys, spoil):
    root = Path(shutil.copytree(sets / "kitti", tmp_path / "kitti"))
    spoil(root)
    told = refused(capsys, *asked("train", root))
    assert ("pseudo/000009.bin: " if list(root.glob(CLOUD)) else "expected pseudo clouds beside the sweeps") in told


@pytest.mark.parametrize("suffix", [".bin", ".label", ".invalid", ".occluded"])
def test_broken_kitti_voxels(sets, tmp_path, capsys, suffix):
    root = Path(shutil.copytree(sets / "kitti", tmp_path / "kitti"))
    content(f"sequences/00/voxels/*{suffix}", half)(root)
    told = refused(capsys, "frames", root / "sequences/00/voxels")
    assert re.search(rf"voxels/000009\{suffix}: expected \d+ bytes", told)


def test_broken_point_labels_are_not_passed_over_where_voxels_are_held_against_them(sets, tmp_path, capsys):
    root = Path(shutil.copytree(sets / "kitti", tmp_path / "kitti"))
    content("sequences/00/labels/*.label", half)(root)
    assert re.search(r"labels/000009\.label: expected \d+ bytes", refused(capsys, "frames", root / "sequences/00/voxels"))


class Payload(str):
    """A path; unpickled, it would make a folder there."""

    def __reduce__(self):
        return os.mkdir, (str(self),)


def npy_of_objects(path: Path) -> None:
    np.save(path, np.array([Payload(path.parent / "ran")], dtype=object), allow_pickle=True)


def bomb(path: Path) -> None:
    """64 MiB of zeros for each of three arrays, in 200 kB."""
    big = np.zeros(2**26, np.uint8)
    np.savez_compressed(path, semantics=big, mask_lidar=big, mask_camera=big)


def lying_bomb(path: Path) -> None:
    """An npz whose directory says that its arrays are small, while their data unpacks to more."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("semantics", "mask_lidar", "mask_camera"):
            said = declared("(200, 200, 16)", "|u1")
            archive.writestr(f"{name}.npy", said + bytes(2**27))
    longer, right = (struct.pack("<I", len(said) + n) for n in (2**27, 200 * 200 * 16))
    path.write_bytes(path.read_bytes().replace(longer, right))


def declared(shape: str, dtype: str = "<f4") -> bytes:
    """The header of a .npy."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def pcd(points: int | str, data: bytes = b"1 2 3\n", form: str = "ascii", fields: str = "x y z") -> bytes:
    head = f"# .PCD v0.7\nVERSION 0.7\nFIELDS {fields}\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
    return f"{head}WIDTH {points}\nHEIGHT 1\nPOINTS {points}\nDATA {form}\n".encode() + data


def ply(points: int | str, data: bytes = b"1 2 3\n", form: str = "ascii") -> bytes:
    properties = "".join(f"property float {axis}\n" for axis in "xyz")
    return f"ply\nformat {form} 1.0\nelement vertex {points}\n{properties}end_header\n".encode() + data


def las(points: int, data: bytes = b"") -> bytes:
    """LAS 1.4, point format 0."""
    head = bytearray(375)
    head[:4], head[24:26] = b"LASF", bytes([1, 4])
    struct.pack_into("<HII", head, 94, 375, 375, 0)
    struct.pack_into("<BH", head, 104, 0, 20)
    struct.pack_into("<Q", head, 247, points)
    struct.pack_into("<6d", head, 131, 0.01, 0.01, 0.01, 0, 0, 0)
    return bytes(head) + data


def some_points() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.column_stack([rng.uniform(-30, 30, (500, 3)), rng.random(500)]).astype(np.float32)


NAN = np.full((500, 4), np.nan, np.float32)
LINE = np.float32([1, 2, 3]).tobytes()
FILES: dict[str, tuple[str, Spoil | bytes, str]] = {
    "a text as bin": ("a.bin", b"x y z\n" + b"1.5 2.5 0.5\n" * 999, "expected little-endian float32"),
    "an empty bin": ("a.bin", b"", "the file is empty"),
    "a cut bin": ("a.bin", some_points().tobytes()[:-3], "cut off or not a sweep"),
    "a bin of six columns": ("a.bin", a_column_more(a_column_more(some_points())).tobytes(), "no point cloud"),
    "a bin of NaN": ("a.bin", NAN.tobytes(), "hold NaN or infinity"),
    "a bin of zeros": ("a.bin", zeros(some_points()).tobytes(), "lie at one place, 0, 0, 0"),
    "noise as bin": ("a.bin", np.random.default_rng(0).bytes(16_000), "expected little-endian float32"),
    "a pickled npy": ("a.npy", npy_of_objects, "Python objects, which are never read"),
    "a cut npy": ("a.npy", lambda p: (np.save(p, some_points()), p.write_bytes(half(p.read_bytes()))), "cut off"),
    "a pickle as npy": ("a.npy", lambda p: p.write_bytes(pickle.dumps(Payload(p.parent / "ran"))), "no NumPy array"),
    "an npy of a million million points": ("a.npy", declared("(1000000000000, 4)"), "at most 512 MiB"),
    "an npy of NaN": ("a.npy", lambda p: np.save(p, NAN), "hold NaN or infinity"),
    "an npy of text": ("a.npy", lambda p: np.save(p, np.array(["a", "b"])), "an array of numbers"),
    "an npy of another shape": ("a.npy", lambda p: np.save(p, np.zeros((3, 3, 3))), "cannot tell what this is"),
    "an npz bomb": ("labels.npz", bomb, "as NumPy packs it, but it says"),
    "an npz bomb that lies": ("labels.npz", lying_bomb, "damaged or cut off"),
    "a cut npz": ("labels.npz", lambda p: (bomb(p), p.write_bytes(half(p.read_bytes()))), "damaged or cut off"),
    "a text as npz": ("labels.npz", b"hello", "another kind of file"),
    "a pickle in an npz": (
        "labels.npz",
        lambda p: np.savez(p, semantics=np.array([Payload(p.parent / "ran")], object)),
        "Python objects",
    ),
    "an npz of others": ("labels.npz", lambda p: np.savez(p, points=some_points()), "cannot tell what this is"),
    "a pcd of a million million": ("a.pcd", pcd(10**12), "WIDTH"),
    "a pcd of a thousand million": ("a.pcd", pcd(10**9), "its header says 1000000000 points"),
    "a binary pcd of more than it holds": ("a.pcd", pcd(10**6, LINE, "binary"), "expected 12000000 bytes"),
    "a compressed pcd of more than it holds": ("a.pcd", pcd(10**6, LINE, "binary_compressed"), "cut off"),
    "a cut pcd": ("a.pcd", pcd(3)[:60], "header is cut off"),
    "a pcd of NaN": ("a.pcd", pcd(2, b"nan nan nan\n" * 2), "it holds no points"),
    "a pcd with control characters": ("a.pcd", pcd(1, fields="x y \x1b[31m"), "float fields x, y and z"),
    "a pcd of words": ("a.pcd", pcd(1, b"one two three\n"), "expected numbers"),
    "an empty pcd": ("a.pcd", b"", "the file is empty"),
    "a ply of a million million": ("a.ply", ply(10**12), "a whole number as the number of 'vertex'"),
    "a ply of a thousand million": ("a.ply", ply(10**9), "its header says 1000000000 points"),
    "a binary ply of more than it holds": ("a.ply", ply(10**6, LINE, "binary_little_endian"), "expected 12000000 bytes"),
    "a cut ply": ("a.ply", ply(3)[:30], "header is cut off"),
    "a ply of NaN": ("a.ply", ply(1, b"nan nan nan\n"), "hold NaN or infinity"),
    "a las of a million million": ("a.las", las(10**12), "its header says 1000000000000"),
    "a las of more than it holds": ("a.las", las(10**6, bytes(20)), "expected 20000000 bytes"),
    "a cut las": ("a.las", las(5)[:100], "LAS header"),
    "rows of cells that are outside": ("a.npy", lambda p: np.save(p, np.array([[900, 2, 3, 4]])), "rows lie outside"),
    "rows of two classes a cell": ("a.npy", lambda p: np.save(p, np.array([[1, 2, 3, 4], [1, 2, 3, 5]])), "two classes"),
    "flat indices that are outside": ("a_occ.npy", lambda p: np.save(p, np.array([[10**9, 4]])), "expected indices from 0 to"),
    "something else": ("a.txt", b"hello", "cannot tell what this is"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_broken_file_alone_and_in_a_folder(tmp_path, capsys, case):
    name, made, says = FILES[case]
    folder = tmp_path / "data"
    folder.mkdir()
    made(folder / name) if callable(made) else (folder / name).write_bytes(made)
    told = refused(capsys, "frames", folder / name)
    assert str(folder / name) in told
    assert says in told
    assert "data" in refused(capsys, "frames", folder)
    refused(capsys, *asked("train", folder))
    assert not (folder / "ran").exists(), "what was pickled in the file was run"


@pytest.mark.parametrize("change", [half, lambda data: data[:-1], lambda _: b"PK\x05\x06" + bytes(18)])
def test_a_broken_frame_among_good_ones_is_named_before_training(store, tmp_path, capsys, change):
    root = Path(shutil.copytree(store, tmp_path / "frames"))
    content("frame-2.npz", change)(root)
    for command in ("frames", "train"):
        assert re.search(r"frame-2\.npz: expected a frame file", refused(capsys, *asked(command, root)))


@pytest.mark.parametrize("name", ["a.bin", "a.npy", "labels.npz", "a.pcd", "a.ply", "a.las"])
def test_a_file_larger_than_any_sweep_is_not_read(tmp_path, capsys, name):
    """A hole of 64 GiB takes no place on the disk, and would take all of the memory."""
    head = {
        ".bin": b"",
        ".npy": declared(f"({2**32}, 4)"),
        ".npz": b"PK\x03\x04",
        ".pcd": pcd(9),
        ".ply": ply(9),
        ".las": las(9),
    }
    (tmp_path / name).write_bytes(head[Path(name).suffix])
    os.truncate(tmp_path / name, 2**36)
    assert str(tmp_path / name) in refused(capsys, "frames", tmp_path / name)


@pytest.mark.parametrize(("kind", "pattern"), [("nuscenes", SWEEP), ("kitti", POINTS), ("kitti", CLOUD)])
def test_a_sweep_of_a_set_that_is_larger_than_any_sweep_is_not_read(sets, tmp_path, capsys, kind, pattern):
    root = Path(shutil.copytree(sets / kind, tmp_path / kind))
    os.truncate(next(root.glob(pattern)), 2**36)
    assert "expected a sweep of at most 512 MiB, got 65536 MiB" in refused(capsys, *asked("train", root))


def test_a_folder_with_nothing_in_it_and_no_folder_at_all(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for command in ("frames", "train"):
        assert "cannot tell what this is; expected a nuScenes root" in refused(capsys, *asked(command, tmp_path / "empty"))
        assert "no such file or folder; expected" in refused(capsys, *asked(command, tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("name", "made", "says"), [FILES["an npz bomb"], FILES["a pickled npy"], FILES["a bin of NaN"]], ids=lambda v: str(v)[:12]
)
def test_a_process_says_no_more_than_the_sentence(tmp_path, name, made, says):
    """Nor does NumPy's or Python's own warning come through."""
    made(tmp_path / name) if callable(made) else (tmp_path / name).write_bytes(made)
    done = subprocess.run([sys.executable, "-m", "occlab", "frames", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    check_sentence(done.stderr)
    assert says in done.stderr
    assert not (tmp_path / "ran").exists()

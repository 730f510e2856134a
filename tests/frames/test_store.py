import json
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from occlab.errors import OcclabError
from occlab.frames import Camera, Frame, read_frame, store, write_frame
from occlab.frames.store import REACH, STEP, VERSION, fill_store, read_store
from occlab.grid import VoxelGrid
from occlab.voxelize import voxelize

CAMERA = Camera("front", 640, 480, [[500.5, 0, 320], [0, 501.25, 240], [0, 0, 1]], np.eye(4))


def cloud(n: int, seed: int, spread: float = 20.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.normal(0, spread, (n, 3)).clip(-65, 65), rng.random(n)]).astype(np.float32)


def made(seed: int = 0, n: int = 400) -> Frame:
    return Frame(cloud(n, seed), cloud(2 * n, seed + 1), f"street-{seed:06d}", {"seed": seed, "range": [1.5, 2.5]}, (CAMERA,))


def same(a: Frame, b: Frame) -> bool:
    return a.fingerprint == b.fingerprint and (a.name, a.source, a.view) == (b.name, b.source, b.view)


coordinates = st.floats(-65.5, 65.5, width=32)
clouds = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        arrays(np.float32, (n, 3), elements=coordinates), arrays(np.float32, (n, 1), elements=st.floats(0, 1, width=32))
    ).map(np.hstack)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
frames = st.builds(
    Frame,
    clouds,
    clouds,
    st.text(min_size=1, max_size=20),
    st.dictionaries(st.text(), json_values, max_size=3),
    st.sampled_from([(), (CAMERA,), (CAMERA, CAMERA)]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frame=frames)
def test_a_frame_comes_back_to_a_millimetre_and_the_second_time_exactly(tmp_path, frame):
    write_frame(tmp_path / "a.npz", frame)
    once = read_frame(tmp_path / "a.npz")
    write_frame(tmp_path / "b.npz", once)
    assert same(once, read_frame(tmp_path / "b.npz"))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert (once.name, once.source, once.view) == (frame.name, frame.source, frame.view)
    for before, after in ((frame.pseudo, once.pseudo), (frame.lidar, once.lidar)):
        assert len(before) == len(after)
        for column, error in ((0, STEP / 2), (1, STEP / 2), (2, STEP / 2), (3, 0.5 / 255)):  # sorted: the order may change
            np.testing.assert_allclose(np.sort(after[:, column]), np.sort(before[:, column]), atol=error + 1e-5, rtol=0)


def test_each_point_keeps_its_own_four_numbers(tmp_path):
    """Columns sorted apart, as above, would hide that x of one point has met y of another."""
    frame = made(5)
    write_frame(tmp_path / "a.npz", frame)
    after = read_frame(tmp_path / "a.npz").lidar
    distance = torch.cdist(torch.from_numpy(frame.lidar).double(), torch.from_numpy(after).double())
    assert distance.min(dim=1).values.max() < 0.004
    assert len(set(distance.argmin(dim=1).tolist())) > 0.98 * len(after)


def test_the_order_of_the_points_does_not_matter(tmp_path):
    frame = made()
    shuffled = Frame(
        np.random.default_rng(1).permutation(frame.pseudo), frame.lidar[::-1].copy(), frame.name, frame.source, frame.view
    )
    write_frame(tmp_path / "a.npz", frame)
    write_frame(tmp_path / "b.npz", shuffled)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_no_point_moves_to_another_voxel(tmp_path):
    """Edges of the grid are whole steps of 2 mm and a stored point lies between two."""
    rng = np.random.default_rng(3)
    points = cloud(20_000, 3)
    edges = np.float32(0.6) * rng.integers(-80, 80, (3000, 4)).astype(np.float32)
    points[:3000, :3] = edges[:, :3] + rng.choice([-1e-3, 1e-3, 4e-4], (3000, 1)).astype(np.float32)
    write_frame(tmp_path / "a.npz", Frame(points, points, "edges"))
    before = voxelize(torch.from_numpy(points), VoxelGrid())
    after = voxelize(torch.from_numpy(read_frame(tmp_path / "a.npz").lidar), VoxelGrid())
    assert torch.equal(before.index, after.index)
    assert torch.equal(before.count, after.count)


def test_points_out_of_reach_are_dropped_and_a_frame_of_none_is_refused(tmp_path):
    near, far = cloud(10, 0, 5.0), cloud(10, 1, 5.0)
    far[:, 1] = [65.5, 65.53, 65.54, 66, 80, -65.5, -65.53, -65.54, -66, -1e30]
    write_frame(tmp_path / "a.npz", Frame(near, far, "far"))
    assert np.sort(read_frame(tmp_path / "a.npz").lidar[:, 1]).tolist() == pytest.approx(
        [-65.531, -65.501, 65.501, 65.531], abs=3e-3
    )
    far[:, 0] = REACH
    with pytest.raises(OcclabError, match=r"frame far: lidar points: no point lies within 65\.536 m"):
        write_frame(tmp_path / "b.npz", Frame(near, far, "far"))


@pytest.mark.parametrize("bad", [-0.1, 1.5, 255.0])
def test_a_fourth_column_outside_0_to_1_is_refused(tmp_path, bad):
    points = cloud(10, 0)
    points[4, 3] = bad
    with pytest.raises(OcclabError, match=r"frame odd: pseudo points: the fourth column must lie in \[0, 1\]"):
        write_frame(tmp_path / "a.npz", Frame(points, cloud(10, 0), "odd"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", [{"path": Path("x")}, {"value": float("nan")}, {"points": np.ones(3)}])
def test_a_source_that_is_not_json_is_refused(tmp_path, source):
    with pytest.raises(OcclabError, match="frame odd: its source must be JSON"):
        write_frame(tmp_path / "a.npz", Frame(cloud(5, 0), cloud(5, 0), "odd", source))


def test_a_sweep_takes_few_bytes_a_point(tmp_path):
    """Half of what float32 takes at least, even for points that follow no surface."""
    frame = made(0, 20_000)
    write_frame(tmp_path / "a.npz", frame)
    assert (tmp_path / "a.npz").stat().st_size < 7 * 60_000


# Bad files ------------------------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["OCCLAB_TEST_BOMB"],)


def rewritten(path: Path, **changes: object) -> None:
    """The same frame file with some arrays replaced, or removed where the value is None."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def header(path: Path, **changes: object) -> None:
    from occlab.frames.store import _digest

    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    values = json.loads(arrays["header"].tobytes()) | changes
    values = {key: value for key, value in values.items() if value is not None}
    arrays["header"] = np.frombuffer(json.dumps(values).encode(), np.uint8)
    np.savez(path, **(arrays | {"sha256": _digest(arrays)}))


def spoil_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def another_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


SPOILERS = {
    "missing": (Path.unlink, "cannot be read"),
    "empty": (lambda p: p.write_bytes(b""), "but it is empty"),
    "text": (lambda p: p.write_text("step,loss\n1,1.35\n"), "another kind of file"),
    "npy": (lambda p: p.write_bytes(b"\x93NUMPY" + bytes(100)), "another kind of file"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps([1])), "another kind of file"),
    "cut off": (lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "damaged or cut off"),
    "last byte": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "damaged or cut off"),
    "a flipped byte": (spoil_middle, "damaged"),
    "another zip": (another_zip, "was not written by occlab"),
    "another npz": (lambda p: np.savez(p, points=np.ones(3)), "was not written by occlab"),
    "empty header": (lambda p: rewritten(p, header=np.zeros(0, np.uint8)), "header is not an occlab frame's"),
    "foreign header": (lambda p: header(p, format="points"), "names the format 'points'"),
    "no version": (lambda p: header(p, version=None), "header is not an occlab frame's"),
    "newer": (
        lambda p: header(p, version=VERSION + 1),
        f"expected frame version {VERSION}, got {VERSION + 1}, of a newer occlab",
    ),
    "endless version": (lambda p: header(p, version=float("inf")), "expected frame version 1, got inf"),
    "deep header": (lambda p: rewritten(p, header=np.full(100_000, ord("["), np.uint8)), "header is not an occlab frame's"),
    "number as name": (lambda p: header(p, name=5), "lacks what a frame needs: name or source is of another type"),
    "long matrix": (lambda p: header(p, view=[CAMERA.to_json() | {"intrinsics": 10**400}]), "lacks what a frame needs"),
    "no image": (lambda p: header(p, view=[CAMERA.to_json() | {"width": "wide"}]), "width and height are not whole numbers"),
    "other shape": (
        lambda p: rewritten(p, lidar=np.zeros((5, 3), np.uint8)),
        r"lidar: expected uint8 \(7, N\), got uint8 \(5, 3\)",
    ),
    "other points": (lambda p: rewritten(p, lidar=np.zeros((7, 3), np.uint8)), "does not match the sha256"),
    "no points": (lambda p: rewritten(p, lidar=None), "one array 'lidar', got header, pseudo, sha256"),
    "no hash": (lambda p: rewritten(p, sha256=None), "one array 'sha256', got header, lidar, pseudo"),
    "no name": (lambda p: header(p, name=None), "lacks what a frame needs"),
    "no view": (lambda p: header(p, view=None), "lacks what a frame needs"),
    "bad camera": (lambda p: header(p, view=[{"name": "front"}]), "lacks what a frame needs.*intrinsics"),
    "list header": (lambda p: rewritten(p, header=np.frombuffer(b"[1, 2]", np.uint8)), "header is not an occlab frame's"),
}


@pytest.mark.parametrize("kind", SPOILERS)
def test_a_bad_file_is_one_sentence_that_names_it(tmp_path, kind):
    spoil, says = SPOILERS[kind]
    path = tmp_path / "000003.npz"
    write_frame(path, made())
    spoil(path)
    with pytest.raises(OcclabError, match=says) as caught:
        read_frame(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_pickle_inside_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("OCCLAB_TEST_BOMB", str(tmp_path / "ran"))
    path = tmp_path / "000003.npz"
    write_frame(path, made())
    rewritten(path, lidar=np.array([Bomb()], dtype=object))
    with pytest.raises(OcclabError, match="Python objects, which are never read"):
        read_frame(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("what", ["header", "lidar"])
def test_a_small_file_that_unpacks_to_a_lot_takes_no_memory(tmp_path, what):
    path, size = tmp_path / "bomb.npz", 2**26
    write_frame(path, made())
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    shape = (size,) if what == "header" else (7, size // 7)
    np.savez_compressed(path, **arrays | {what: np.zeros(shape, np.uint8)})
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(OcclabError, match=rf"bomb.npz: {what}: expected uint8 .* as NumPy packs it, but it says"):
            read_frame(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_what_cannot_be_read_back_is_not_written(tmp_path, monkeypatch):
    with pytest.raises(OcclabError, match="frame long: name, source and view take"):
        write_frame(tmp_path / "a.npz", Frame(cloud(5, 0), cloud(5, 0), "long", {"text": "x" * 2**20}))
    monkeypatch.setattr(store, "MOST_POINTS", 100)
    write_frame(tmp_path / "b.npz", Frame(cloud(100, 0), cloud(5, 0), "dense"))
    assert len(read_frame(tmp_path / "b.npz").pseudo) == 100
    with pytest.raises(OcclabError, match="frame dense: lidar points: at most 100 are stored, got 101"):
        write_frame(tmp_path / "c.npz", Frame(cloud(5, 0), cloud(101, 0), "dense"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_byte_is_wrong_the_frame_is_right_or_refused(tmp_path, data):
    path = tmp_path / "a.npz"
    frame = made(0, 20)
    write_frame(path, frame)
    expected, content = read_frame(path), bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = read_frame(path)
    except OcclabError:
        return
    assert same(found, expected)


# The folder -----------------------------------------------------------------------------------------------------------


def test_a_store_makes_only_what_is_missing_or_broken(tmp_path):
    calls = []

    def make(i: int) -> Frame:
        calls.append(i)
        return made(i, 50)

    first = fill_store(tmp_path / "deep" / "folder", names(4), make, "frames")
    assert calls == [0, 1, 2, 3]
    assert [f.name for f in first] == [f"street-{i:06d}" for i in range(4)]
    again = fill_store(tmp_path / "deep" / "folder", names(4), make, "frames")
    assert calls == [0, 1, 2, 3]
    assert all(map(same, first, again))

    paths = sorted((tmp_path / "deep" / "folder").iterdir())
    assert [p.name for p in paths] == [f"{i:06d}.npz" for i in range(4)]  # and no unfinished file beside them
    paths[1].unlink()
    spoil_middle(paths[2])
    repaired = fill_store(tmp_path / "deep" / "folder", names(5), make, "frames", repair=True)
    assert calls == [0, 1, 2, 3, 1, 2, 4]
    assert all(map(same, first, repaired))
    assert all(map(same, repaired, read_store(tmp_path / "deep" / "folder")))
    assert [f.name for f in read_store(tmp_path / "deep" / "folder", limit=2)] == ["street-000000", "street-000001"]


def test_a_file_of_others_is_never_overwritten(tmp_path):
    path = tmp_path / "000000.npz"
    np.savez(path, mine=np.arange(3))
    before = path.read_bytes()
    with pytest.raises(OcclabError, match="not written by occlab"):
        fill_store(tmp_path, names(2), lambda i: made(i, 50), "frames")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_maker_that_fails_leaves_what_was_made(tmp_path):
    def make(i: int) -> Frame:
        if i == 2:
            raise KeyboardInterrupt
        return made(i, 50)

    with pytest.raises(KeyboardInterrupt):
        fill_store(tmp_path, names(4), make, "frames")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000.npz", "000001.npz"]


def test_a_bar_is_shown_only_where_there_is_something_to_do(tmp_path, capsys):
    fill_store(tmp_path, names(2), lambda i: made(i, 50), "simulated streets")
    assert "simulated streets" in capsys.readouterr().err
    fill_store(tmp_path, names(2), lambda i: made(i, 50), "simulated streets")
    assert capsys.readouterr().err == ""


def names(count: int) -> list[str]:
    return [f"{i:06d}" for i in range(count)]


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    write_frame(path, made(1))
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OcclabError, match=r"a\.npz: cannot be written \(No space left on device\)"):
        write_frame(path, made(2))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OcclabError, match="cannot be written"):
        write_frame(tmp_path / "file" / "a.npz", made())


def test_an_empty_folder_is_one_sentence(tmp_path):
    with pytest.raises(OcclabError, match="expected a folder of frame files"):
        read_store(tmp_path)

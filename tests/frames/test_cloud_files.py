"""Clouds written here byte by byte, or by Open3D and laspy, and read back; and what broken ones say."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab.errors import OcclabError
from occlab.frames.cloud_files import cloud_folder, from_right_forward, read_cloud, read_cloud_and_origin
from occlab.frames.point_files import read_bin

UTM = (500_000.0, 5_300_000.0, 412.0)


def cloud(n=300, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(-40, 40, (n, 2)), rng.uniform(-2, 3, n), rng.random(n)]).astype(np.float32)


def pcd(points, form="binary", intensity=("F", 4), extra=False, count=None):
    """A PCD file by the format's own description; ``extra`` puts padding and a ring between."""
    kind, size = intensity
    dtype = np.dtype({"F": "f", "U": "u"}[kind] + str(size))
    columns = [("x", "F", 4, 1), ("y", "F", 4, 1), ("z", "F", 4, 1)]
    columns += [("_", "U", 1, 4), ("ring", "U", 2, 1)] if extra else []
    columns += [("intensity", kind, size, 1)]
    layout = np.dtype([(name, dtype if name == "intensity" else f"<{t.lower()}{s}", (n,)) for name, t, s, n in columns])
    rows = np.zeros(len(points), layout)
    for i, axis in enumerate("xyz"):
        rows[axis][:, 0] = points[:, i]
    rows["intensity"][:, 0] = points[:, 3]
    n = len(points) if count is None else count
    names, types, sizes, counts = (" ".join(str(c[i]) for c in columns) for i in range(4))
    head = f"# .PCD v0.7\nVERSION 0.7\nFIELDS {names}\nSIZE {sizes}\nTYPE {types}\nCOUNT {counts}\nWIDTH {n}\nHEIGHT 1\n"
    head += f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {n}\nDATA {form}\n"
    if form == "binary":
        return head.encode() + rows.tobytes()
    lines = (" ".join(repr(v.item()) for name in layout.names for v in row[name]) for row in rows)
    return head.encode() + "\n".join(lines).encode() + b"\n"


def ply(points, form="binary_little_endian", coordinate="float", faces=0, count=None):
    n = len(points) if count is None else count
    head = f"ply\nformat {form} 1.0\ncomment made here\nelement vertex {n}\n"
    head += (
        "".join(f"property {coordinate} {axis}\n" for axis in "xyz") + "property uchar red\nproperty float scalar_Intensity\n"
    )
    head += f"element face {faces}\nproperty list uchar int vertex_indices\nend_header\n"
    order = ">" if form == "binary_big_endian" else "<"
    wide = order + ("f8" if coordinate == "double" else "f4")
    rows = np.zeros(len(points), [("x", wide), ("y", wide), ("z", wide), ("red", "u1"), ("i", order + "f4")])
    for i, name in enumerate(("x", "y", "z")):
        rows[name] = points[:, i]
    rows["i"] = points[:, 3]
    if form != "ascii":
        return head.encode() + rows.tobytes()
    return head.encode() + "\n".join(" ".join(repr(v.item()) for v in row) for row in rows).encode()


def las(xyz, intensity, offset=UTM, count=None, form=0):
    """LAS 1.2, point format 0, by the specification's table: whole millimetres from an offset."""
    n = len(xyz) if count is None else count
    head = b"LASF" + struct.pack("<HHIHH8sBB", 0, 0, 0, 0, 0, b"", 1, 2) + bytes(32 + 32)
    head += struct.pack("<HHHIIBHI", 1, 2024, 227, 227, 0, form, 20, n) + struct.pack("<5I", n, 0, 0, 0, 0)
    low, high = xyz.min(axis=0), xyz.max(axis=0)
    head += struct.pack("<6d", 0.001, 0.001, 0.001, *offset)
    head += struct.pack("<6d", *(v for pair in zip(high, low, strict=True) for v in pair))
    rows = np.zeros(len(xyz), [("xyz", "<i4", (3,)), ("intensity", "<u2"), ("rest", "u1", (6,))])
    rows["xyz"], rows["intensity"] = np.round((xyz - offset) / 0.001), intensity
    assert len(head) == 227
    return head + rows.tobytes()


@pytest.mark.parametrize("form", ["ascii", "binary"])
@pytest.mark.parametrize("extra", [False, True])
def test_pcd(tmp_path, form, extra):
    points = cloud()
    (tmp_path / "a.pcd").write_bytes(pcd(points, form, extra=extra))
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.pcd"), points)


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("coordinate", ["float", "double"])
def test_ply(tmp_path, form, coordinate):
    points = cloud()
    (tmp_path / "a.ply").write_bytes(ply(points, form, coordinate))
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.ply"), points)


def test_files_that_open3d_writes_and_it_reads_ours(tmp_path):
    o3d = pytest.importorskip("open3d", reason="Open3D is not installed")
    points = cloud(2000)
    there = o3d.t.geometry.PointCloud(points[:, :3].copy())
    there.point.intensity = points[:, 3:].copy()
    for name in ("a.pcd", "a.ply"):
        for options in ({"write_ascii": True}, {}, {"compressed": True}):
            o3d.t.io.write_point_cloud(str(tmp_path / name), there, **options)
            np.testing.assert_allclose(read_cloud(tmp_path / name), points, atol=1e-4 if options.get("write_ascii") else 0)
    for name, content in (("b.pcd", pcd(points, extra=True)), ("b.ply", ply(points, "binary_big_endian"))):
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(o3d.t.io.read_point_cloud(str(tmp_path / name)).point.positions.numpy(), points[:, :3])


def test_a_damaged_compressed_pcd_is_one_sentence_and_nothing_is_printed(tmp_path, capfd):
    o3d = pytest.importorskip("open3d", reason="Open3D is not installed")
    there = o3d.t.geometry.PointCloud(np.repeat(cloud(100)[:, :3], 5, axis=0))
    path = tmp_path / "a.pcd"
    o3d.t.io.write_point_cloud(str(path), there, compressed=True)
    whole = path.read_bytes()
    begin = whole.index(b"binary_compressed\n") + 18
    capfd.readouterr()
    broken = {
        "cut": (whole[:-9], "cut off"),
        "size": (whole[: begin + 4] + b"\xff\xff\xff\x7f" + whole[begin + 8 :], "2147483647 in"),
        "content": (whole[: begin + 8] + b"\xff" * (len(whole) - begin - 8), "its data is damaged"),
    }
    for content, says in broken.values():
        path.write_bytes(content)
        with pytest.raises(OcclabError, match=says):
            read_cloud(path)
    assert capfd.readouterr() == ("", "")


def test_las_in_utm_keeps_its_millimetres(tmp_path):
    pytest.importorskip("laspy", reason="laspy is not installed")
    xyz = cloud()[:, :3].astype(np.float64).round(3) + UTM
    intensity = np.arange(300) * 200
    (tmp_path / "a.las").write_bytes(las(xyz, intensity))
    points, origin = read_cloud_and_origin(tmp_path / "a.las")
    np.testing.assert_allclose(points[:, :3].astype(np.float64) + origin, xyz, atol=2e-5)
    np.testing.assert_allclose(points[:, 3], intensity / 65535, atol=1e-6)
    assert all(value == round(value) for value in origin)
    assert np.abs(points[:, :2]).max() < 41
    assert points[:, 2].min() == pytest.approx(0.5, abs=0.5)
    (tmp_path / "b.las").write_bytes(las(xyz - UTM, intensity, (0.0, 0.0, 0.0)))
    assert read_cloud_and_origin(tmp_path / "b.las")[1] == (0.0, 0.0, 0.0)


def test_laz_is_las(tmp_path):
    laspy = pytest.importorskip("laspy", reason="laspy is not installed")
    pytest.importorskip("lazrs", reason="lazrs is not installed")
    (tmp_path / "a.las").write_bytes(las(cloud()[:, :3].astype(float), np.arange(300), (0.0, 0.0, 0.0)))
    laspy.read(tmp_path / "a.las").write(str(tmp_path / "a.laz"))
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.laz"), read_cloud(tmp_path / "a.las"))
    whole = (tmp_path / "a.laz").read_bytes()
    table = struct.unpack_from("<q", whole, struct.unpack_from("<I", whole, 96)[0])[0]
    for content in (whole[:-100], whole[: table + 4] + b"\xff\xff\xff\x7f" + whole[table + 8 :]):
        (tmp_path / "b.laz").write_bytes(content)
        with pytest.raises(OcclabError, match=r"b\.laz: expected"):
            read_cloud(tmp_path / "b.laz")


@settings(max_examples=20, deadline=None)
@given(st.floats(-1e7, 1e7), st.floats(-1e7, 1e7))
def test_an_origin_is_taken_off_just_where_it_is_needed(tmp_path_factory, east, north):
    path = tmp_path_factory.getbasetemp() / "any.npy"
    xyz = cloud()[:, :3].astype(np.float64) + np.array([east, north, 0])
    np.save(path, xyz)
    points, origin = read_cloud_and_origin(path)
    assert any(origin) == bool(np.abs(xyz).max() > 10_000)
    np.testing.assert_allclose(points[:, :3].astype(np.float64) + origin, xyz, atol=1e-3)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (np.float32([0, 0.5, 1]), 1),
        (np.float32([0, 100, 255]), 255),
        (np.float32([0, 1000, 4095]), 65535),
        (np.float32([0, 1e5, 2e5]), 2e5),
    ],
)
def test_intensity_comes_to_lie_in_0_to_1(tmp_path, values, scale):
    np.save(tmp_path / "a.npy", np.column_stack([cloud(3)[:, :3], values]))
    np.testing.assert_allclose(read_cloud(tmp_path / "a.npy")[:, 3], values / scale, rtol=1e-6)


def test_an_intensity_of_bytes_is_of_255_also_where_it_is_dark(tmp_path):
    points = cloud(4)
    points[:, 3] = [0, 1, 1, 0]
    (tmp_path / "a.pcd").write_bytes(pcd(points, intensity=("U", 1)))
    np.testing.assert_allclose(read_cloud(tmp_path / "a.pcd")[:, 3], points[:, 3] / 255)


def test_a_cloud_without_intensity_has_0(tmp_path):
    np.save(tmp_path / "a.npy", cloud()[:, :3])
    assert not read_cloud(tmp_path / "a.npy")[:, 3].any()


def test_a_pcd_leaves_out_directions_without_a_return(tmp_path):
    points = cloud()
    points[::3, :3] = np.nan
    for form in ("ascii", "binary"):
        (tmp_path / "a.pcd").write_bytes(pcd(points, form))
        assert len(read_cloud(tmp_path / "a.pcd")) == 200
    points[:, 0] = np.nan
    (tmp_path / "a.pcd").write_bytes(pcd(points))
    with pytest.raises(OcclabError, match="holds no points"):
        read_cloud(tmp_path / "a.pcd")


def test_a_bin_is_read_with_the_columns_that_fit(tmp_path):
    points = cloud(400)
    points.tofile(tmp_path / "kitti.bin")
    np.testing.assert_array_equal(read_cloud(tmp_path / "kitti.bin"), points)
    ring = np.arange(400, dtype=np.float32) % 32
    np.column_stack([points[:, :3], points[:, 3] * 255, ring]).tofile(tmp_path / "nuscenes.pcd.bin")
    np.testing.assert_allclose(read_cloud(tmp_path / "nuscenes.pcd.bin"), points, atol=0.01)


def test_a_folder_comes_in_the_order_of_names_and_nuscenes_is_turned(tmp_path):
    for i in (2, 0, 1):
        cloud(seed=i).tofile(tmp_path / f"{i}.bin")
    (tmp_path / "README.txt").write_text("hello")
    sweeps = list(cloud_folder(tmp_path))
    assert [s.source["file"] for s in sweeps] == ["0.bin", "1.bin", "2.bin"]
    assert len({s.name for s in sweeps}) == 3
    np.testing.assert_array_equal(sweeps[2].points, cloud(seed=2))
    assert str(tmp_path) not in str(sweeps[0].source)

    folder = tmp_path / "LIDAR_TOP"
    folder.mkdir()
    points = cloud(400)
    points[0, :3] = 2.0, 30.0, 0.5  # ahead and a little to the right, in nuScenes' axes
    np.column_stack([points, np.zeros(400, np.float32)]).tofile(folder / "a.pcd.bin")
    (sweep,) = cloud_folder(folder)
    np.testing.assert_array_equal(sweep.points[0, :3], [30.0, -2.0, 0.5])
    np.testing.assert_array_equal(sweep.points, from_right_forward(points))


def test_folders_that_are_no_set_of_clouds(tmp_path):
    with pytest.raises(OcclabError, match="found none in it"):
        list(cloud_folder(tmp_path))
    cloud().tofile(tmp_path / "a.bin")
    (tmp_path / "b.pcd").write_bytes(pcd(cloud()))
    with pytest.raises(OcclabError, match=r"of one format, found \.bin and \.pcd"):
        list(cloud_folder(tmp_path))


P = cloud(50)
BROKEN = {
    "empty.pcd": (b"", "the file is empty"),
    "text.pcd": (b"hello", "another kind of file"),
    "header.pcd": (pcd(P)[:90], "its header is cut off or has no DATA line"),
    "cut.pcd": (pcd(P)[:-1], "expected 800 bytes for the 50 points of its header, got 799: cut off"),
    "short.pcd": (pcd(P, "ascii")[:-80], "expected 200 numbers for the 50 points"),
    "words.pcd": (pcd(P, "ascii").replace(b" -", b" foo ", 1), "got something else among them"),
    "many.pcd": (pcd(P, count=2**31), "says 2147483648 points"),
    "none.pcd": (pcd(P[:0], "ascii"), "says 0 points"),
    "more.pcd": (pcd(P, count=10**9), "says 1000000000 points"),
    "axes.pcd": (pcd(P).replace(b"FIELDS x y z", b"FIELDS x y w"), "float fields x, y and z"),
    "twice.pcd": (pcd(P).replace(b"FIELDS x y z intensity", b"FIELDS x y z x"), "float fields x, y and z"),
    "fields.pcd": (pcd(P).replace(b"SIZE 4 4 4 4", b"SIZE 4 4 4"), "as many FIELDS as SIZE"),
    "size.pcd": (pcd(P).replace(b"SIZE 4 4 4 4", b"SIZE 4 4 4 3"), "got 'f3' for 'intensity'"),
    "width.pcd": (pcd(P).replace(b"WIDTH 50", b"WIDTH 49"), "POINTS of WIDTH x HEIGHT"),
    "word.pcd": (pcd(P).replace(b"WIDTH 50", b"WIDTH -5"), "whole number as WIDTH, got '-5'"),
    "form.pcd": (pcd(P).replace(b"DATA binary", b"DATA base64"), "DATA ascii, binary or binary_compressed, got 'base64'"),
    "lzf.pcd": (pcd(P).replace(b"DATA binary", b"DATA binary_compressed"), "its data says"),
    "cut.ply": (ply(P)[:-1], "cut off"),
    "faces.ply": (ply(P, faces=3), "vertices alone"),
    "list.ply": (ply(P).replace(b"uchar red", b"list uchar int red"), "one number a property"),
    "int.ply": (ply(P).replace(b"property float x", b"property int x"), "float x, y and z"),
    "form.ply": (ply(P).replace(b"binary_little_endian", b"binary_middle_endian"), "got 'binary_middle_endian'"),
    "end.ply": (ply(P).replace(b"end_header", b"the_header"), "has no end_header line"),
    "nan.ply": (ply(np.full((3, 4), np.nan, np.float32)), "3 of 3 points hold NaN or infinity"),
    "bright.ply": (ply(P - [0, 0, 0, 9]), "intensities of 0 and more"),
    "huge.ply": (ply(np.diag([1e300, 1, 1, 0]), coordinate="double"), "numbers as large as 1e"),
    "empty.las": (b"", "the file is empty"),
    "head.las": (las(P[:, :3], 0, (0, 0, 0))[:100], "LAS header of 227 bytes"),
    "cut.las": (las(P[:, :3], 0, (0, 0, 0))[:-1], "expected 1000 bytes for the 50 points of its header, got 999"),
    "many.las": (las(P[:, :3], 0, (0, 0, 0), count=2**32 - 1), "its header says 4294967295 of 20 bytes"),
    "records.las": (las(P[:, :3], 0, (0, 0, 0))[:100] + b"\xff" * 4 + bytes(200), "records and then points"),
    "chunks.laz": (las(P[:, :3], 0, (0, 0, 0), form=128), "a table of its chunks"),
    "a.npy": (b"\x93NUMPY", "no NumPy array"),
    "a.bin": (bytes(17), "not a whole number"),
    "a.xyz": (b"1 2 3", r"expected a point cloud \(.bin, .las"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_sentence_and_nothing_is_printed(tmp_path, name, capfd):
    content, says = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OcclabError, match=says) as caught:
        read_cloud(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_missing_files_are_one_sentence(tmp_path):
    for suffix in ("pcd", "ply", "las", "npy", "bin"):
        with pytest.raises(OcclabError, match=rf"none\.{suffix}: expected .* cannot be read"):
            read_cloud(tmp_path / f"none.{suffix}")


def test_npy_of_whole_numbers_or_two_columns_is_no_cloud(tmp_path):
    for array in (np.zeros((5, 4), int), np.zeros((5, 2)), np.zeros(5)):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(OcclabError, match="in float32 or float64, got"):
            read_cloud(tmp_path / "a.npy")


def test_the_real_sweeps(real_data):
    path = real_data / "semantickitti/sequences/00/velodyne"
    sweep = next(cloud_folder(path))
    np.testing.assert_array_equal(sweep.points, read_bin(path / "000000.bin", 4))
    path = real_data / "nuscenes_one_frame/samples/LIDAR_TOP"
    (sweep,) = cloud_folder(path)
    assert sweep.points.shape == (34_688, 4)
    assert sweep.source["axes"] == "turned from x right, y forward"

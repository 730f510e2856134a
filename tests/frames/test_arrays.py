"""NumPy files that are whole, and many that are not."""

import io
import resource
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from occlab.errors import OcclabError
from occlab.frames.arrays import LARGEST, ArrayHeader, peek_npy, peek_npz, read_npy, read_npz

WANTED = {"a": ArrayHeader(np.dtype(np.uint8), (200, 100))}


def npy(array, **kwargs) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **kwargs)
    return buffer.getvalue()


def header_only(descr: str, shape: str) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(st.sampled_from(["<f4", ">f8", "<i2", "u1", "?"]), hnp.array_shapes(max_dims=3, max_side=4), elements={}))
def test_an_array_comes_back_as_numpy_reads_it(tmp_path_factory, array):
    path = tmp_path_factory.getbasetemp() / "any.npy"
    for order in "CF":
        path.write_bytes(npy(np.asarray(array, order=order)))
        got = read_npy(path)
        np.testing.assert_array_equal(got, np.load(path))
        assert got.dtype.isnative
        assert got.flags.writeable
        assert peek_npy(path).shape == array.shape


BAD_NPY = {
    "empty": (b"", "no NumPy array"),
    "text": (b"x y z\n1 2 3\n", "no NumPy array"),
    "cut header": (npy(np.zeros(3))[:40], "no NumPy array"),
    "cut data": (npy(np.zeros(30))[:-1], "not as long: cut off"),
    "more data": (npy(np.zeros(30)) + b"0", "not as long"),
    "objects": (npy(np.array([print, {}], object), allow_pickle=True), "Python objects, which are never read"),
    "text array": (npy(np.array(["a", "b"])), "an array of numbers"),
    "structured": (npy(np.zeros(2, "f4,f4")), "an array of numbers"),
    "bomb": (header_only("'<f8'", "(1000000, 1000000)"), f"at most {LARGEST >> 20} MiB"),
    "negative": (header_only("'<f8'", "(-1, 3)"), "an array of numbers"),
    "version 3": (b"\x93NUMPY\x03\x00" + npy(np.zeros(3))[8:], "got version 3"),
    "code": (header_only("__import__('os').abort()", "(3,)"), "no NumPy array"),
}


@pytest.mark.parametrize("kind", BAD_NPY)
def test_a_bad_npy_is_one_sentence(tmp_path, kind):
    content, says = BAD_NPY[kind]
    path = tmp_path / "bad.npy"
    path.write_bytes(content)
    with pytest.raises(OcclabError, match=says) as caught:
        read_npy(path)
    assert "bad.npy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path):
    for read in (read_npy, peek_npy, peek_npz, lambda p: read_npz(p, "arrays", WANTED)):
        for path in (tmp_path / "none.npz", tmp_path):
            with pytest.raises(OcclabError, match="cannot be read"):
                read(path)


def test_named_arrays_come_back_and_others_are_not_touched(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (200, 100), np.uint8)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", a=array, other=np.array([{}], object))
        assert sorted(peek_npz(tmp_path / "x.npz")) == ["a", "other"]
        np.testing.assert_array_equal(read_npz(tmp_path / "x.npz", "arrays", WANTED)["a"], array)


def test_an_array_of_any_length_may_take_so_many_bytes(tmp_path):
    array = np.random.default_rng(0).random((3, 70_000))
    np.savez(tmp_path / "x.npz", a=array)
    wanted = {"a": ArrayHeader(np.dtype("f8"), (3, -1))}
    np.testing.assert_array_equal(read_npz(tmp_path / "x.npz", "arrays", wanted)["a"], array)
    np.testing.assert_array_equal(read_npz(tmp_path / "x.npz", "arrays", wanted, most=array.nbytes)["a"], array)
    with pytest.raises(OcclabError, match=r"expected float64 \(3, N\)"):
        read_npz(tmp_path / "x.npz", "arrays", wanted, most=array.nbytes - 1)
    with pytest.raises(OcclabError, match=r"expected float64 \(4, N\), got float64 \(3, 70000\)"):
        read_npz(tmp_path / "x.npz", "arrays", {"a": ArrayHeader(np.dtype("f8"), (4, -1))})


def zipped(content: bytes, name: str = "a.npy", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def lying() -> bytes:
    """A member of 64 MiB whose size in the directory and in its own header is what is expected."""
    right = len(npy(np.zeros((200, 100), np.uint8)))
    content = npy(np.zeros((200, 100), np.uint8)) + bytes(2**26)
    return zipped(content).replace(struct.pack("<I", len(content)), struct.pack("<I", right))


WHOLE = zipped(npy(np.random.default_rng(0).integers(0, 256, (200, 100), np.uint8)))
BAD_NPZ = {
    "empty": (b"", "it is empty"),
    "text": (b"x y z\n1 2 3\n", "another kind of file"),
    "no zip": (b"PK\x03\x04 and so on", "damaged or cut off"),
    "cut": (WHOLE[:-30], "damaged or cut off"),
    "damaged": (WHOLE[:9000] + b"\xff" * 50 + WHOLE[9050:], "damaged or cut off"),
    "other name": (zipped(npy(np.zeros(3)), "b.npy"), "one array 'a', got b"),
    "other shape": (zipped(npy(np.zeros((100, 200), np.uint8))), r"expected uint8 \(200, 100\), got uint8 \(100, 200\)"),
    "other dtype": (zipped(npy(np.zeros((200, 100), np.int8))), r"got int8 \(200, 100\)"),
    "objects": (zipped(npy(np.array([{}], object), allow_pickle=True)), "Python objects"),
    "no array": (zipped(b"hello"), "no NumPy array"),
    "bomb": (zipped(npy(np.zeros((2**27,), np.uint8))), "as NumPy packs it, but it says 134,217,856 bytes"),
    "bomb that lies": (lying(), "damaged or cut off"),
    "lzma": (zipped(npy(np.zeros((200, 100), np.uint8)), method=zipfile.ZIP_LZMA), "as NumPy packs it"),
}


@pytest.mark.parametrize("kind", BAD_NPZ)
def test_a_bad_npz_is_one_sentence_and_takes_no_memory(tmp_path, kind):
    content, says = BAD_NPZ[kind]
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(OcclabError, match=says) as caught:
        read_npz(path, "arrays", WANTED)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
    assert "bad.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_damaged_file_of_these_tests_differs_where_it_matters():
    """Deflate streams end when they say so: damage in the middle must reach zlib or the check sum."""
    with zipfile.ZipFile(io.BytesIO(BAD_NPZ["damaged"][0])) as archive, pytest.raises((zipfile.BadZipFile, zlib.error)):
        archive.read("a.npy")

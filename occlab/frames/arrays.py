"""NumPy files from strangers: what they hold is read from their headers first, so that no file can ask for more memory than
it should, and nothing in them is ever unpickled.

Format: numpy.lib.format (NEP 1), versions 1.0 and 2.0; an ``.npz`` is a zip of such files, stored or deflated.
"""

import lzma
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import OcclabError

LARGEST = 2**29
"""Bytes. No single array is read that takes more; a cloud of this size has 33 million points."""
_ZIP_ERRORS = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class ArrayHeader:
    """What a file says it holds, before anything of it is read."""

    dtype: np.dtype
    shape: tuple[int, ...]
    """-1, in a header that is expected: any length."""
    fortran_order: bool = False

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def fits(self, wanted: "ArrayHeader") -> bool:
        """Is it what was expected, whatever the order of its axes in the file?"""
        same = len(self.shape) == len(wanted.shape) and self.dtype == wanted.dtype
        return same and all(b in (-1, a) for a, b in zip(self.shape, wanted.shape, strict=True))

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}".replace("-1", "N")


def _header(file: IO[bytes], where: str, what: str) -> ArrayHeader:
    """Read the header of a ``.npy`` and leave the file at its data."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise OcclabError(f"{where}: expected {what} in version 1 or 2 of NumPy's format, got version {version[0]}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read(file)
    except OcclabError:
        raise
    except Exception as error:  # numpy parses the header as a Python literal: nearly any error can come out of a broken one
        raise OcclabError(f"{where}: expected {what}, but this is no NumPy array, or a damaged one") from error
    if dtype.hasobject:
        raise OcclabError(f"{where}: expected {what}, got Python objects, which are never read: they could run code")
    header = ArrayHeader(dtype, shape, fortran_order)
    if dtype.kind not in "biuf" or min(shape, default=0) < 0:
        raise OcclabError(f"{where}: expected {what}, an array of numbers, got {header}")
    if header.n_bytes > LARGEST:
        raise OcclabError(f"{where}: expected {what} of at most {LARGEST >> 20} MiB, got {header}, {header.n_bytes:,} bytes")
    return header


def _data(file: IO[bytes], header: ArrayHeader, where: str, what: str) -> np.ndarray:
    content = file.read(header.n_bytes + 1)  # one more: a longer file is as wrong as a shorter one
    if len(content) != header.n_bytes:
        raise OcclabError(f"{where}: expected {what}; its header says {header}, but what follows it is not as long: cut off?")
    array = np.frombuffer(content, header.dtype).reshape(header.shape, order="F" if header.fortran_order else "C")
    return array.astype(header.dtype.newbyteorder("="), order="C")  # a copy: writable, native byte order


def peek_npy(path: str | Path, what: str = "a NumPy array (.npy)") -> ArrayHeader:
    """What a ``.npy`` says it holds; its data is not read.

    Raises:
        OcclabError: the file is missing, no ``.npy``, holds Python objects, or more than :data:`LARGEST` bytes.
    """
    try:
        with Path(path).open("rb") as file:
            return _header(file, str(path), what)
    except OSError as error:
        raise OcclabError(f"{path}: expected {what}, but it cannot be read ({error.strerror})") from error


def read_npy(path: str | Path, what: str = "a NumPy array (.npy)") -> np.ndarray:
    """The array of a ``.npy``, of numbers, in C order and native bytes.

    Args:
        what: what is expected there, for the sentence that says what was wrong.

    Raises:
        OcclabError: as for :func:`peek_npy`; or the file is shorter or longer than its header says.
    """
    try:
        with Path(path).open("rb") as file:
            return _data(file, _header(file, str(path), what), str(path), what)
    except OSError as error:
        raise OcclabError(f"{path}: expected {what}, but it cannot be read ({error.strerror})") from error


def peek_npz(path: str | Path, what: str = "NumPy arrays (.npz)") -> list[str]:
    """Names of the arrays in an ``.npz``; nothing is decompressed."""
    with _archive(Path(path), what) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def read_npz(path: str | Path, what: str, expected: Mapping[str, ArrayHeader], *, most: int = LARGEST) -> dict[str, np.ndarray]:
    """The named arrays of an ``.npz``, each of exactly the dtype and shape that is expected; others in it are not touched.

    Args:
        most: bytes that an array of any length may take.

    Raises:
        OcclabError: the file is missing, no zip, damaged or cut off; an array is missing or is not what is expected. A zip
            bomb is one of the latter: the sizes in the zip's directory and in the arrays' headers are compared before
            anything is decompressed.
    """
    path, arrays = Path(path), {}
    with _archive(path, what) as archive:
        for name, wanted in expected.items():
            where = f"{path}: {name}"
            found = [info for info in archive.infolist() if info.filename == f"{name}.npy"]
            if len(found) != 1:
                names = ", ".join(sorted(info.filename.removesuffix(".npy") for info in archive.infolist())[:8])
                raise OcclabError(f"{path}: expected {what} with one array {name!r}, got {names[:200] or 'no array'}")
            largest = most if -1 in wanted.shape else wanted.n_bytes
            if found[0].file_size > largest + 2**16 or found[0].compress_type not in (0, zipfile.ZIP_DEFLATED):
                raise OcclabError(f"{where}: expected {wanted} as NumPy packs it, but it says {found[0].file_size:,} bytes")
            try:
                with archive.open(found[0]) as file:
                    header = _header(file, where, what)
                    if not header.fits(wanted) or header.n_bytes > largest:
                        raise OcclabError(f"{where}: expected {wanted}, got {header}")
                    arrays[name] = _data(file, header, where, what)
            except _ZIP_ERRORS as error:
                raise OcclabError(f"{where}: expected {what}, but it is damaged or cut off ({error})") from error
    return arrays


def _archive(path: Path, what: str) -> zipfile.ZipFile:
    try:
        if path.stat().st_size > LARGEST:
            raise OcclabError(f"{path}: expected {what} of at most {LARGEST >> 20} MiB, got {path.stat().st_size:,} bytes")
        with path.open("rb") as file:
            start = file.read(2)
        if start != b"PK":
            raise OcclabError(f"{path}: expected {what}, but {'this is another kind of file' if start else 'it is empty'}")
        return zipfile.ZipFile(path)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise OcclabError(f"{path}: expected {what}, but it cannot be read ({error.strerror})") from error
    except _ZIP_ERRORS as error:
        raise OcclabError(f"{path}: expected {what}, but this .npz is damaged or cut off") from error

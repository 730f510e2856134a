"""Point clouds in general files: ``.pcd``, ``.ply``, ``.las``, ``.laz``, ``.bin``, ``.npy``; one, or a folder of them.

Formats: PCD 0.7 (Point Cloud Library), PLY 1.0 (Turk, Stanford), LAS 1.2 to 1.4 (ASPRS), and the headerless ``.bin`` of
:mod:`.point_files`. Plain rows are read with NumPy; Open3D unpacks compressed PCD, and laspy reads LAS. They take a header at
its word, so the sizes in it are held against the file first.
"""

import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ..errors import OcclabError, require
from .arrays import LARGEST, read_npy
from .point_files import read_bin
from .sweep import Sweep, check_size, check_spread

SUFFIXES = (".bin", ".las", ".laz", ".npy", ".pcd", ".ply")
FAR = 10_000.0
"""Metres. A coordinate beyond it is not one of a sensor's frame, but of a map's, such as UTM."""

_INTENSITY = ("intensity", "scalar_intensity", "reflectance", "reflectivity", "i")
_PLY_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float32": "f4", "float64": "f8"},
}
_Columns = tuple[np.ndarray, np.ndarray | None]
"""(N, 3) x, y, z in the file's own precision; (N,) intensity as it is there, or None."""


def read_cloud(path: str | Path) -> np.ndarray:
    """One cloud, in its file's own axes: x, y, z, metres, and intensity in [0, 1].

    * Intensity is divided by 255 where it exceeds 1 (or is uint8), by 65,535 where it exceeds 255, by its largest value
      where it exceeds that; it is 0 where the file has none. ``.npy`` and ``.bin`` have it in the fourth column.
    * Coordinates beyond 10 km, such as UTM's, hold no centimetres in float32: an origin is subtracted in float64 first.
      :func:`read_cloud_and_origin` returns it.
    * ``.pcd`` marks directions without a return by NaN: such points are left out. Elsewhere NaN is an error.
    * ``.bin`` is read with 4 columns (KITTI) or 5 (nuScenes), whichever fits.

    Shape:
        returns: (N, 4) float32.

    Raises:
        OcclabError: another suffix, a file that is missing, empty, cut off or damaged, no x, y, z in it, NaN or infinity.
    """
    return read_cloud_and_origin(path)[0]


def read_cloud_and_origin(path: str | Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """:func:`read_cloud`, and what must be added to its coordinates to have the file's.

    That is 0, 0, 0 where no coordinate exceeds 10 km; else the middle of x and y and the lowest z, in whole metres.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], _Columns]] = {
        **dict.fromkeys((".las", ".laz"), _las),
        **{".bin": _bin, ".npy": _npy, ".pcd": _pcd, ".ply": _ply},
    }
    if path.suffix.lower() not in readers:
        raise OcclabError(f"{path}: expected a point cloud ({', '.join(SUFFIXES)}), got the suffix {path.suffix!r}")
    xyz, intensity = readers[path.suffix.lower()](path)
    finite = np.isfinite(xyz).all(axis=1)
    if not finite.all() and path.suffix.lower() != ".pcd":
        raise OcclabError(
            f"{path}: expected finite coordinates, but {(~finite).sum()} of {len(xyz)} points hold NaN or infinity"
        )
    xyz = xyz[finite].astype(np.float64)
    if not len(xyz):
        raise OcclabError(f"{path}: expected a point cloud, but it holds no points")
    origin = np.zeros(3)
    if np.abs(xyz).max() > FAR:
        low, high = xyz.min(axis=0), xyz.max(axis=0)
        origin = np.floor(np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]]))
    check_spread(path, xyz)
    points = np.zeros((len(xyz), 4), np.float32)
    with np.errstate(over="ignore"):  # said below, in words
        points[:, :3] = xyz - origin
    if not np.isfinite(points).all():
        raise OcclabError(f"{path}: expected coordinates in metres, got numbers as large as {np.abs(xyz).max():g}")
    if intensity is not None:
        points[:, 3] = _scaled(intensity[finite], path)
    return points, (float(origin[0]), float(origin[1]), float(origin[2]))


def from_right_forward(points: np.ndarray) -> np.ndarray:
    """nuScenes' LIDAR_TOP axes (x right, y forward, z up) to x forward, y left, z up; further columns are kept."""
    return np.column_stack([points[:, 1], -points[:, 0], points[:, 2:]])


def cloud_paths(path: str | Path) -> list[Path]:
    """The point clouds of a folder, in the order of their names, all of one suffix; other files are passed over.

    Raises:
        OcclabError: no folder, no cloud in it, or clouds of several suffixes.
    """
    path = Path(path)
    found = sorted(p for p in path.glob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    suffixes = sorted({p.suffix.lower() for p in found})
    if not found:
        raise OcclabError(f"{path}: expected a folder of point clouds ({', '.join(SUFFIXES)}), found none in it")
    if len(suffixes) > 1:
        raise OcclabError(f"{path}: expected point clouds of one format, found {' and '.join(suffixes)}; keep each in a folder")
    return found


def cloud_folder(path: str | Path) -> Iterator[Sweep]:
    """Sweeps of a folder of point clouds, in the order of their names.

    Coordinates are taken as x forward, y left, z up with the origin at the LiDAR, since no such file says what they are;
    only a ``.bin`` of five columns is nuScenes' (x right, y forward) and is turned. Where a ``.pcd`` says that its sensor was
    (VIEWPOINT) is not applied. ``source`` has the ``origin`` that was subtracted from map coordinates.

    Raises:
        OcclabError: as for :func:`cloud_paths` and :func:`read_cloud`.
    """
    for file in cloud_paths(path):
        yield cloud_sweep(file)


def cloud_sweep(path: str | Path) -> Sweep:
    """One file as :func:`cloud_folder` gives it."""
    path = Path(path)
    points, origin = read_cloud_and_origin(path)
    source = {"data_set": "point cloud files", "file": path.name}
    if path.suffix.lower() == ".bin" and _bin_columns(path) == 5:
        points = from_right_forward(points)
        source["axes"] = "turned from x right, y forward"
    if any(origin):
        source["origin"] = origin
    return Sweep(points, f"{path.absolute().parent.name}-{path.name.split('.')[0]}", source)


def _scaled(intensity: np.ndarray, path: Path) -> np.ndarray:
    values = intensity.astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0:
        raise OcclabError(f"{path}: expected intensities of 0 and more, got {np.nanmin(values):g}, NaN or infinity")
    most = values.max()
    scales = (255.0,) if intensity.dtype == np.uint8 else (1.0, 255.0, 65535.0)
    return values / next((scale for scale in scales if most <= scale), most)


def _bin(path: Path) -> _Columns:
    points = read_bin(path, _bin_columns(path))
    return points[:, :3], points[:, 3]


def _bin_columns(path: Path) -> int:
    """4 or 5; 4 also where neither fits, so that reading with 4 says what is wrong."""
    check_size(path)
    for columns in (4, 5):
        try:
            read_bin(path, columns)
        except OcclabError:
            continue
        return columns
    return 4


def _npy(path: Path) -> _Columns:
    what = "points (N, 3 or more), x y z first, as .npy"
    array = read_npy(path, what)
    if array.ndim != 2 or array.shape[1] < 3 or array.dtype.kind != "f":
        raise OcclabError(f"{path}: expected {what} in float32 or float64, got {array.dtype} of shape {array.shape}")
    return array[:, :3], array[:, 3] if array.shape[1] > 3 else None


def _start(path: Path, what: str, magic: tuple[bytes, ...]) -> bytes:
    try:
        with path.open("rb") as file:
            start = file.read(2**16)
    except OSError as error:
        raise OcclabError(f"{path}: expected {what}, but it cannot be read ({error.strerror})") from error
    if not start.startswith(magic):
        raise OcclabError(f"{path}: expected {what}, but " + ("this is another kind of file" if start else "the file is empty"))
    return start


def _text_header(path: Path, what: str, magic: tuple[bytes, ...], end: bytes) -> tuple[list[list[str]], int]:
    """The words of each line of a text header, and the byte at which the data begins."""
    start = _start(path, what, magic)
    found = re.search(end, start, re.MULTILINE)
    if not found:
        raise OcclabError(f"{path}: expected {what}, but its header is cut off or has no {end.decode().split()[0][1:]} line")
    return [line.split() for line in start[: found.end()].decode("latin-1").splitlines()], found.end()


def _count(text: str, path: Path, what: str) -> int:
    if not re.fullmatch(r"\d{1,10}", text):
        raise OcclabError(f"{path}: expected a whole number as {what}, got {text[:40]!r}")
    return int(text)


def _read_columns(
    path: Path, offset: int, form: str, points: int, fields: list[tuple[str, str, int]], order: str = "<"
) -> dict[str, np.ndarray]:
    """Columns by name, of several numbers the first.

    What the header says is held against the size of the file before anything is read.

    Args:
        offset: byte at which the data begins.
        form: ``ascii``, ``binary`` or ``binary_compressed``.
        fields: name, dtype and numbers a point of each.
        order: of bytes, ``<`` or ``>``.
    """
    layout = np.dtype([(str(i), order + dtype, (n,)) for i, (_, dtype, n) in enumerate(fields)])
    if points < 1 or points * layout.itemsize > LARGEST:
        raise OcclabError(f"{path}: expected from 1 point to {LARGEST >> 20} MiB of them, but its header says {points} points")
    if path.stat().st_size > 4 * LARGEST:
        raise OcclabError(f"{path}: expected a file of at most {LARGEST >> 18} MiB, got {path.stat().st_size >> 20} MiB")
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read()
    if form == "binary_compressed":
        return _decompressed(path, content, points, fields, layout.itemsize)
    needed, got, unit = points * layout.itemsize, len(content), "bytes"
    if form == "ascii":
        try:
            table = np.fromstring(content.decode("ascii"), sep=" ")
        except ValueError as error:  # UnicodeDecodeError is one
            raise OcclabError(f"{path}: expected numbers after its header, got something else among them") from error
        needed, got, unit = points * sum(n for *_, n in fields), table.size, "numbers"
    if got != needed:
        raise OcclabError(f"{path}: expected {needed} {unit} for the {points} points of its header, got {got}: cut off?")
    if form == "ascii":
        firsts = np.cumsum([0, *(n for *_, n in fields)])
        with np.errstate(invalid="ignore"):
            return {
                name: table.reshape(points, -1)[:, first].astype(dtype)
                for (name, dtype, _), first in zip(fields, firsts, strict=False)
            }
    rows = np.frombuffer(content, layout)
    return {name: rows[str(i)][:, 0] for i, (name, *_) in enumerate(fields)}


def _decompressed(
    path: Path, content: bytes, points: int, fields: list[tuple[str, str, int]], row: int
) -> dict[str, np.ndarray]:
    """What Open3D makes of a PCD file in LZF."""
    packed, unpacked = struct.unpack("<II", content[:8].ljust(8, b"\0"))
    if len(content) != packed + 8 or unpacked != points * row:
        raise OcclabError(
            f"{path}: expected {points * row} bytes packed in {len(content) - 8} for the {points} points of its header, but "
            f"its data says {unpacked} in {packed}: cut off?"
        )
    if not all(name.isascii() for name, *_ in fields):  # Open3D hands them on as bytes that Python cannot decode
        raise OcclabError(f"{path}: expected fields named in ASCII, got other bytes among their names")
    o3d = require("open3d")
    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        try:
            cloud = o3d.t.io.read_point_cloud(str(path))
        except RuntimeError as error:
            raise OcclabError(f"{path}: expected a point cloud, but Open3D cannot read it: {str(error)[:200]!r}") from error
    columns = {name: cloud.point[name].numpy()[:, 0] for name in cloud.point if name != "positions"}
    if "positions" not in cloud.point or len(cloud.point["positions"]) != points:
        raise OcclabError(f"{path}: expected {points} points, as its header says, but its data is damaged")
    return columns | dict(zip("xyz", cloud.point["positions"].numpy().T, strict=True))


def _xyz_intensity(columns: dict[str, np.ndarray]) -> _Columns:
    intensity = next((columns[name] for name in columns if name.lower() in _INTENSITY), None)
    return np.column_stack([columns[axis] for axis in "xyz"]), intensity


def _pcd(path: Path) -> _Columns:
    magic = (b"# .PCD", b"VERSION", b"#")
    lines, offset = _text_header(path, "a PCD file", magic, rb"^DATA +\w+ *\r?\n")
    header = {line[0].upper(): line[1:] for line in lines if line and not line[0].startswith("#")}
    names, sizes, types = (header.get(key, []) for key in ("FIELDS", "SIZE", "TYPE"))
    counts = header.get("COUNT", ["1"] * len(names))
    if not names or not len(names) == len(sizes) == len(types) == len(counts):
        raise OcclabError(f"{path}: expected a PCD header with as many FIELDS as SIZE, TYPE and COUNT, got {len(names)} fields")
    width, height = (_count("".join(header.get(key, "")), path, key) for key in ("WIDTH", "HEIGHT"))
    points = _count("".join(header.get("POINTS", [str(width * height)])), path, "POINTS")
    if points != width * height:
        raise OcclabError(f"{path}: expected POINTS of WIDTH x HEIGHT, got {points} points of {width} x {height}")
    fields = []
    for name, kind, size, count in zip(names, types, sizes, counts, strict=True):
        dtype = {"I": "i", "U": "u", "F": "f"}.get(kind, "?") + size
        if dtype not in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"):
            raise OcclabError(
                f"{path}: expected PCD fields of TYPE I, U or F and SIZE 1, 2, 4 or 8, got {dtype[:9]!r} for {name[:40]!r}"
            )
        fields.append((name, dtype, max(_count(count, path, "COUNT"), 1)))
    if any([field[1:] for field in fields if field[0] == axis] not in ([("f4", 1)], [("f8", 1)]) for axis in "xyz"):
        raise OcclabError(f"{path}: expected a PCD file with float fields x, y and z, got fields {' '.join(names)[:80]!r}")
    form = header["DATA"][0]
    if form not in ("ascii", "binary", "binary_compressed"):
        raise OcclabError(f"{path}: expected DATA ascii, binary or binary_compressed, got {form[:40]!r}")
    return _xyz_intensity(_read_columns(path, offset, form, points, fields))


def _ply(path: Path) -> _Columns:
    lines, offset = _text_header(path, "a PLY file", (b"ply\n", b"ply\r\n"), rb"^end_header *\r?\n")
    form, element, elements, fields = "", "", {}, []
    for words in lines:
        if words[:1] == ["format"] and len(words) == 3:
            form = words[1]
        elif words[:1] == ["element"] and len(words) == 3:
            element = words[1]
            elements[element] = _count(words[2], path, f"the number of {element[:40]!r}")
        elif words[:1] == ["property"] and element == "vertex":
            if len(words) != 3 or words[1] not in _PLY_TYPES:
                raise OcclabError(f"{path}: expected one number a property of its vertices, got {' '.join(words)[:60]!r}")
            fields.append((words[2], _PLY_TYPES[words[1]], 1))
    if form not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise OcclabError(f"{path}: expected a PLY file in ascii, binary_little_endian or binary_big_endian, got {form[:40]!r}")
    if any(n for name, n in elements.items() if name != "vertex") or "vertex" not in elements:
        raise OcclabError(f"{path}: expected a PLY file of vertices alone, got elements {str(elements)[:200]}")
    if any([dtype for name, dtype, _ in fields if name == axis] not in (["f4"], ["f8"]) for axis in "xyz"):
        names = " ".join(name for name, *_ in fields)
        raise OcclabError(f"{path}: expected vertices with float x, y and z, got {names[:80]!r}")
    order = ">" if form == "binary_big_endian" else "<"
    columns = _read_columns(path, offset, form.partition("_")[0], elements["vertex"], fields, order)
    return _xyz_intensity(columns)


def _check_chunks(path: Path, offset: int, row: int) -> None:
    """Hold the chunk table of a LAZ file against the file: the decompressor ends the process when it gets no memory for it.

    Its position is the first number at ``offset``, or the last of the file; its size is the second number there.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(offset)
        where = int.from_bytes(file.read(8), "little", signed=True)
        if where == -1:
            file.seek(size - 8)
            where = int.from_bytes(file.read(8), "little", signed=True)
        file.seek(where if offset < where <= size - 8 else 0)
        chunks = int.from_bytes(file.read(8)[4:], "little")
    if not offset < where <= size - 8 or chunks * row > size:  # the first point of a chunk is not compressed
        raise OcclabError(f"{path}: expected a LAZ file with a table of its chunks, but that does not fit the file: cut off?")


def _las(path: Path) -> _Columns:
    start = _start(path, "a LAS or LAZ file", (b"LASF",))
    if len(start) < 227:
        raise OcclabError(f"{path}: expected a LAS header of 227 bytes or more, got {len(start)}: cut off?")
    minor = start[25]
    header_size, offset, records = struct.unpack_from("<HII", start, 94)
    form, row, points = struct.unpack_from("<BHI", start, 104)
    if minor >= 4 and len(start) >= 375:
        points = struct.unpack_from("<Q", start, 247)[0]
    size = path.stat().st_size
    if not 227 <= header_size <= offset <= size or records * 54 > offset - header_size:
        raise OcclabError(f"{path}: expected a LAS header, {records} records and then points, but they do not fit the file")
    if row < 20 or points < 1 or points * row > LARGEST:
        raise OcclabError(
            f"{path}: expected from 1 point to {LARGEST >> 20} MiB of them, its header says {points} of {row} bytes"
        )
    if not form & 0xC0 and size - offset < points * row:
        raise OcclabError(f"{path}: expected {points * row} bytes for the {points} points of its header, got {size - offset}")
    if form & 0xC0:
        _check_chunks(path, offset, row)
        require("lazrs")
    laspy = require("laspy")
    try:
        # Its parallel decompressor takes as much memory as a damaged file asks for.
        with laspy.open(path, read_evlrs=False, laz_backend=laspy.LazBackend.Lazrs) as reader:
            cloud = reader.read_points(-1)
            xyz = np.column_stack([cloud.x, cloud.y, cloud.z])
            intensity = np.asarray(cloud.intensity)
    except BaseException as error:  # what its decompressor raises when it panics is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise OcclabError(f"{path}: expected a LAS or LAZ file, but laspy cannot read it: {reason}") from error
    if len(xyz) != points:
        raise OcclabError(f"{path}: expected {points} points, as its header says, got {len(xyz)}: cut off?")
    return xyz, intensity

"""The surface of a set of voxels as few rectangles, in NumPy alone.

Only faces that can be seen are kept, and faces of one colour that lie in one plane are merged: runs along one axis
first, then runs of the same length and place along the other. That is within 1 % of the triangles of the textbook's
greedy mesh ("Meshing in a Minecraft Game", M. Lysenko, 2012) without its loops.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import OcclabError

# For a face across each axis (x, y, z): the axis along which runs are made, and the one along which runs are merged.
# Streets are long in x and y and low in z, so runs along x or y are the longest.
_RUN_AND_MERGE = ((1, 2), (0, 2), (0, 1))


@dataclass(frozen=True)
class Mesh:
    """Rectangles as pairs of triangles, in cells: multiply by the voxel size and add the low corner for metres."""

    vertices: np.ndarray
    """(V, 3) int16: x, y, z of cell corners, from 0 to the number of cells along that axis."""
    triangles: np.ndarray
    """(T, 3) rows of ``vertices``, anticlockwise seen from outside; uint16 up to 65,536 vertices, int32 above.
    Triangles 2i and 2i + 1 are the halves of rectangle i."""
    value: np.ndarray
    """(T,) uint8: the colour (class) of each triangle's voxels."""

    @property
    def rectangles(self) -> int:
        return len(self.triangles) // 2

    def part(self, value: int) -> "Mesh":
        """The triangles of one colour, with the vertices that they use."""
        triangles = self.triangles[self.value == value]
        used, index = np.unique(triangles, return_inverse=True)
        return Mesh(self.vertices[used], _narrow(index.reshape(-1, 3), len(used)), self.value[self.value == value])


def exposed_mesh(volume: np.ndarray, columns: np.ndarray | None = None) -> Mesh:
    """Mesh the faces between a voxel and a neighbour of another value, empty ones (0) and the outside included.

    So the voxels of each class get a closed surface of their own, and stay whole where another class is not drawn.
    Faces are merged within their class only.

    Shape:
        volume: (Z, Y, X) bool, or whole numbers 0 (empty) to 255.
        columns: (Y, X) bool, draw the voxels of these columns only; which faces are exposed stays a matter of the whole.

    Raises:
        OcclabError: another shape or dtype.

    >>> pair = np.zeros((4, 4, 4), bool)
    >>> pair[1, 1, 1:3] = True
    >>> exposed_mesh(pair).rectangles
    6
    """
    cells_xyz = _cells(volume, "exposed_mesh")
    if columns is None:
        return _mesh(cells_xyz)
    shape = cells_xyz.shape[::-1]
    if np.shape(columns) != shape[1:]:
        raise OcclabError(f"exposed_mesh expects columns of shape (Y, X) = {shape[1:]}, got {np.shape(columns)}")
    return _mesh(cells_xyz, np.broadcast_to(np.asarray(columns, bool), shape).transpose(2, 1, 0))


def seen_from_above(volume: np.ndarray) -> Mesh:
    """Mesh only what can be seen from above with all of the volume drawn: faces towards empty cells and the outside, but
    for those that look down. That is about half as many as :func:`exposed_mesh` has.

    Shape:
        volume: (Z, Y, X) bool, or whole numbers 0 (empty) to 255.

    Raises:
        OcclabError: another shape or dtype.

    >>> pair = np.zeros((4, 4, 4), np.uint8)
    >>> pair[1, 1, 1:3] = 1, 2
    >>> seen_from_above(pair).rectangles, exposed_mesh(pair).rectangles
    (8, 12)
    """
    return _mesh(_cells(volume, "seen_from_above"), from_above=True)


def _cells(volume: np.ndarray, who: str) -> np.ndarray:
    """(Z, Y, X) of what may be drawn -> (X, Y, Z) uint8; ``who`` asks, for the sentences."""
    volume = np.asarray(volume)
    if volume.ndim != 3 or volume.dtype.kind not in "bui":
        raise OcclabError(f"{who} expects a (Z, Y, X) volume of booleans or whole numbers, got {volume.dtype} {volume.shape}")
    if volume.size and not (volume.min() >= 0 and volume.max() <= 255):
        raise OcclabError(f"{who} expects values from 0 to 255, got {volume.min()} to {volume.max()}")
    if volume.size and max(volume.shape) >= 2**15:
        raise OcclabError(f"{who} expects fewer than 32768 cells along each axis, got {volume.shape}")
    return volume.astype(np.uint8).transpose(2, 1, 0)


def _mesh(cells_xyz: np.ndarray, drawn_xyz: np.ndarray | None = None, *, from_above: bool = False) -> Mesh:
    """Faces where the value changes; ``from_above``: where empty cells begin, and none that looks down."""
    corners, values = [], []
    for axis, (run, merge) in enumerate(_RUN_AND_MERGE):
        order = (axis, merge, run)
        cells = np.ascontiguousarray(cells_xyz.transpose(order))
        solid = cells != 0
        parts = solid if from_above else cells
        step = np.ones((cells.shape[0] + 1, *cells.shape[1:]), dtype=bool)  # does the value change at this plane?
        np.not_equal(parts[1:], parts[:-1], out=step[1:-1])
        drawn = solid if drawn_xyz is None else solid & drawn_xyz.transpose(order)
        for outward in (True,) if from_above and axis == 2 else (False, True):
            seen = drawn & (step[1:] if outward else step[:-1])
            rectangles, value = _merge(np.flatnonzero(seen), cells)
            corners.append(_corners(rectangles, axis, order, outward))
            values.append(value)
    vertices, index = _weld(np.concatenate(corners).reshape(-1, 3), [n + 1 for n in cells_xyz.shape])
    triangles = index.reshape(-1, 4)[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
    return Mesh(vertices, _narrow(triangles, len(vertices)), np.repeat(np.concatenate(values), 2))


def _merge(flat: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seen cells, as sorted flat numbers into ``cells`` (plane, merge, run) -> rectangles and their colour.

    Shape:
        returns: (Q, 5) int64: plane, first and end along the merge axis, first and end along the run axis; (Q,) uint8.
    """
    _, rows, length = cells.shape
    colour = cells.reshape(-1)[flat].astype(np.int64)
    starts = np.ones(len(flat), dtype=bool)
    starts[1:] = (np.diff(flat) != 1) | (np.diff(colour) != 0) | (flat[1:] % length == 0)
    first = np.flatnonzero(starts)
    extent = np.diff(np.append(first, len(flat)))
    start, colour = flat[first], colour[first]
    plane, row, column = start // (rows * length), start // length % rows, start % length

    # Runs that can be merged differ by exactly 1 in this key. Rows are numbered up to rows + 1, so that the last row of
    # one group and the first of the next never do.
    key = (((plane * length + column) * (length + 1) + extent) * 256 + colour) * (rows + 1) + row
    order = np.argsort(key)
    opens = np.ones(len(key), dtype=bool)
    opens[1:] = np.diff(key[order]) != 1
    first = np.flatnonzero(opens)
    height = np.diff(np.append(first, len(key)))
    pick = order[first]
    row, column = row[pick], column[pick]
    rectangles = np.stack([plane[pick], row, row + height, column, column + extent[pick]], axis=1)
    return rectangles, colour[pick].astype(np.uint8)


def _corners(rectangles: np.ndarray, axis: int, order: tuple[int, int, int], outward: bool) -> np.ndarray:
    """(Q, 5) rectangles -> (Q, 4, 3) corners x, y, z, anticlockwise seen from the empty side."""
    b, c = (axis + 1) % 3, (axis + 2) % 3  # right-handed: b x c points along axis
    span = {order[1]: rectangles[:, 1:3], order[2]: rectangles[:, 3:5]}
    turn = ((0, 0), (1, 0), (1, 1), (0, 1)) if outward else ((0, 0), (0, 1), (1, 1), (1, 0))
    corners = np.empty((len(rectangles), 4, 3), dtype=np.int64)
    corners[:, :, axis] = (rectangles[:, 0] + outward)[:, None]
    corners[:, :, b] = span[b][:, [at for at, _ in turn]]
    corners[:, :, c] = span[c][:, [at for _, at in turn]]
    return corners


def _weld(points: np.ndarray, lattice: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Corners that coincide become one vertex: a rank in a table of the whole lattice, faster than sorting them."""
    flat = np.ravel_multi_index(tuple(points.T), lattice)
    used = np.zeros(int(np.prod(lattice)), dtype=bool)
    used[flat] = True
    index = np.flatnonzero(used)
    rank = np.empty(len(used), dtype=np.int32)
    rank[index] = np.arange(len(index), dtype=np.int32)
    return np.stack(np.unravel_index(index, lattice), axis=1).astype(np.int16), rank[flat]


def _narrow(index: np.ndarray, n_vertices: int) -> np.ndarray:
    """Plotly sends uint16 as two bytes, int32 as four and int64 as a list of decimal numbers."""
    return index.astype(np.uint16 if n_vertices <= 2**16 else np.int32)

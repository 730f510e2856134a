import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from occlab.errors import OcclabError
from occlab.viz.mesh import Mesh, exposed_mesh, seen_from_above

small = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)
volumes = small.flatmap(lambda shape: hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 2, 3])))


def crosses(mesh: Mesh) -> np.ndarray:
    """(T, 3) cross products: outward by the right hand, twice the area long, in square cells."""
    a, b, c = mesh.vertices[mesh.triangles].astype(int).transpose(1, 0, 2)
    return np.cross(b - a, c - a)


def cube_faces(volume: np.ndarray) -> dict[tuple[int, int], dict[int, int]]:
    """By brute force: (axis x y z, direction) -> class -> faces towards a neighbour of another value."""
    faces = {(axis, sign): {} for axis in range(3) for sign in (-1, 1)}
    padded = np.pad(volume.astype(int), 1)
    for z, y, x in np.argwhere(padded):
        for (axis, sign), counts in faces.items():
            neighbour = [z, y, x]
            neighbour[2 - axis] += sign
            if padded[tuple(neighbour)] != padded[z, y, x]:
                counts[padded[z, y, x]] = counts.get(padded[z, y, x], 0) + 1
    return faces


def test_one_voxel_has_six_faces_and_eight_corners():
    volume = np.zeros((3, 4, 5), bool)
    volume[1, 2, 3] = True
    mesh = exposed_mesh(volume)
    assert mesh.rectangles == 6
    assert sorted(map(tuple, mesh.vertices.tolist())) == [(x, y, z) for x in (3, 4) for y in (2, 3) for z in (1, 2)]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_two_adjacent_voxels_merge_into_a_box(axis):
    volume = np.zeros((4, 4, 4), bool)
    volume[1, 1, 1] = True
    volume[tuple(np.eye(3, dtype=int)[axis] + 1)] = True
    mesh = exposed_mesh(volume)
    assert mesh.rectangles == 6
    assert np.abs(crosses(mesh)).sum() / 2 == 10


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_cube_has_six_rectangles(n):
    mesh = exposed_mesh(np.ones((n, n, n), bool))
    assert (mesh.rectangles, len(mesh.vertices)) == (6, 8)
    assert np.abs(crosses(mesh)).sum() / 2 == 6 * n * n


def test_nothing_gives_an_empty_mesh():
    mesh = exposed_mesh(np.zeros((2, 3, 4), bool))
    assert (mesh.rectangles, mesh.vertices.shape, mesh.triangles.shape) == (0, (0, 3), (0, 3))


def test_two_classes_side_by_side_are_two_closed_boxes():
    mesh = exposed_mesh(np.array([[[1, 2]]], np.uint8))
    assert mesh.rectangles == 12
    for value in (1, 2):
        part = mesh.part(value)
        assert (part.rectangles, len(part.vertices)) == (6, 8)


@settings(deadline=None, max_examples=60)  # the machine may be busy
@given(volumes)
def test_area_by_direction_and_class_is_that_of_the_single_faces(volume):
    mesh = exposed_mesh(volume)
    normals = crosses(mesh)
    assert ((normals != 0).sum(axis=1) == 1).all()  # along one axis, and no triangle without an area
    for (axis, sign), counts in cube_faces(volume).items():
        towards = np.sign(normals[:, axis]) == sign
        areas = {int(v): int(np.abs(normals[towards & (mesh.value == v)]).sum()) // 2 for v in np.unique(mesh.value[towards])}
        assert areas == counts


@settings(deadline=None, max_examples=60)
@given(volumes)
def test_each_rectangle_covers_voxels_of_its_own_class_and_faces_away_from_them(volume):
    mesh = exposed_mesh(volume)
    padded = np.pad(volume, 1)
    normals = np.sign(crosses(mesh))[::2]
    covered = set()
    for corners, normal, value in zip(mesh.vertices[mesh.triangles].reshape(-1, 6, 3), normals, mesh.value[::2], strict=True):
        low, high = corners.min(axis=0), corners.max(axis=0)
        axis = int(np.flatnonzero(normal)[0])
        inside = low.astype(int)
        inside[axis] -= normal[axis] > 0  # the layer of voxels behind the face
        high = np.where(np.arange(3) == axis, inside + 1, high)
        for x, y, z in np.ndindex(*(high - inside)):
            cell = np.array([x, y, z]) + inside
            assert padded[tuple(cell[::-1] + 1)] == value
            assert padded[tuple((cell + normal)[::-1] + 1)] != value
            face = (*cell, axis, normal[axis])
            assert face not in covered  # no two rectangles over one another
            covered.add(face)


@settings(deadline=None, max_examples=60)
@given(volumes)
def test_each_class_is_a_closed_surface(volume):
    """The divergence theorem: the flux of (x, y, z) / 3 through the surface of a class is its number of voxels."""
    mesh = exposed_mesh(volume)
    first = mesh.vertices[mesh.triangles[:, 0]].astype(int)
    flux = (first * crosses(mesh)).sum(axis=1) / 6
    for value in (1, 2, 3):
        assert flux[mesh.value == value].sum() == pytest.approx((volume == value).sum())


@settings(deadline=None, max_examples=60)
@given(volumes)
def test_from_above_are_seen_the_faces_towards_nothing_that_do_not_look_down(volume):
    mesh = seen_from_above(volume)
    normals = crosses(mesh)
    padded, expected = np.pad(volume, 1), {}
    for z, y, x in np.argwhere(padded):
        for dx, dy, dz in ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, 1)):
            if not padded[z + dz, y + dy, x + dx]:
                side = (dx, dy, dz, int(padded[z, y, x]))
                expected[side] = expected.get(side, 0) + 1
    found = {}
    for normal, value in zip(normals.tolist(), mesh.value.tolist(), strict=True):
        side = (*np.sign(normal).tolist(), value)
        found[side] = found.get(side, 0) + sum(map(abs, normal)) / 2
    assert found == expected


def test_columns_draw_a_part_without_opening_it():
    volume = np.ones((2, 4, 4), bool)
    columns = np.zeros((4, 4), bool)
    columns[1:3, 1:3] = True
    mesh = exposed_mesh(volume, columns)
    assert mesh.rectangles == 2  # top and bottom; the sides stay hidden by voxels that are there, only not drawn
    assert np.abs(crosses(mesh)).sum() / 2 == 8


def test_narrow_types():
    few = exposed_mesh(np.ones((2, 2, 2), bool))
    many = exposed_mesh(np.indices((32, 90, 90)).sum(axis=0) % 2 == 0)  # a chessboard: every corner is used
    assert (few.vertices.dtype, few.triangles.dtype) == (np.int16, np.uint16)
    assert len(many.vertices) > 2**16
    assert (many.vertices.dtype, many.triangles.dtype) == (np.int16, np.int32)
    assert many.triangles.max() == len(many.vertices) - 1


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (np.zeros((4, 4), bool), r"\(4, 4\)"),
        (np.zeros((2, 2, 2), np.float32), "float32"),
        (np.full((2, 2, 2), 256), "0 to 255"),
        (np.full((2, 2, 2), -1), "0 to 255"),
        (np.zeros((1, 1, 2**15), bool), "32768"),
    ],
)
def test_bad_volumes_are_named(volume, words):
    for mesh in (exposed_mesh, seen_from_above):
        with pytest.raises(OcclabError, match=f"{mesh.__name__} expects.*{words}"):
            mesh(volume)


def test_bad_columns_are_named():
    with pytest.raises(OcclabError, match=r"\(Y, X\) = \(3, 4\)"):
        exposed_mesh(np.zeros((2, 3, 4), bool), np.zeros((4, 3), bool))

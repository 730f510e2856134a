import numpy as np
import pytest

from occlab import errors
from occlab.frames import props
from occlab.frames.meshes import Mesh, blob, box, merge, place, surface, tube


def volume(mesh):
    """Signed volume by the divergence theorem: right only if the mesh is closed and every triangle faces outwards."""
    corner = mesh.vertices[mesh.triangles].astype(float)
    return np.einsum("ij,ij->i", np.cross(corner[:, 0], corner[:, 1]), corner[:, 2]).sum() / 6


def is_closed(mesh):
    """Every edge is shared by two triangles that run along it in opposite directions."""
    edges = np.concatenate([mesh.triangles[:, [0, 1]], mesh.triangles[:, [1, 2]], mesh.triangles[:, [2, 0]]]).tolist()
    return len(set(map(tuple, edges))) == len(edges) and {(a, b) for a, b in edges} == {(b, a) for a, b in edges}


def test_shapes_are_closed_and_have_the_volume_of_their_formula():
    sides, radius, height = 8, 0.5, 3.0
    prism = sides / 2 * radius**2 * np.sin(2 * np.pi / sides) * height
    shapes = [
        (box((2, 3, 4), "car", 0.5, base=1, centre=(5, 6)), 24.0),
        (box((2, 2, 3), "car", 0.5, top=(0, 0)), 4.0),  # a pyramid
        (tube(radius, height, "pole", 0.5, sides=sides), prism),
        (tube(radius, height, "pole", 0.5, sides=sides, top=radius / 2), prism * (1 + 0.5 + 0.25) / 3),
    ]
    for mesh, expected in shapes:
        assert is_closed(mesh)
        assert volume(mesh) == pytest.approx(expected, rel=1e-5)
    sphere = blob((1, 2, 3), "foliage", 0.5, subdivisions=4)
    assert is_closed(sphere)
    assert volume(sphere) == pytest.approx(4 / 3 * np.pi * 6, rel=0.01)


def test_place_turns_left_then_moves():
    moved = place(surface([(1, 0, 2), (0, 1, 0), (0, 0, 0)], [(0, 1, 2)], "car", 0.5), (10, 20, 30), np.pi / 2)
    np.testing.assert_allclose(moved.vertices, [(10, 21, 32), (9, 20, 30), (10, 20, 30)], atol=1e-6)


def test_merge_keeps_each_triangle_where_it_was():
    parts = [box((1, 1, 1), "car", 0.2), tube(1, 1, "pole", 0.7)]
    both = merge(parts)
    corners = np.concatenate([p.vertices[p.triangles] for p in parts])
    np.testing.assert_array_equal(both.vertices[both.triangles], corners)
    assert both.kind.tolist() == [*parts[0].kind, *parts[1].kind]
    assert len(merge([]).triangles) == 0


def test_a_mesh_whose_arrays_do_not_fit_is_refused():
    good = box((1, 1, 1), "car", 0.2)
    with pytest.raises(errors.OcclabError, match="Mesh expects"):
        Mesh(good.vertices, good.triangles, good.kind[:3], good.reflectivity)
    with pytest.raises(errors.OcclabError, match="Mesh expects"):
        Mesh(good.vertices, good.triangles, good.kind, good.reflectivity[:3])


@pytest.mark.parametrize("draw", [props.vehicle, props.person, props.lamp, props.sign, props.tree])
def test_props_stand_on_the_ground_and_have_a_believable_size(draw):
    for seed in range(20):
        mesh = draw(np.random.default_rng(seed))
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        assert 0 <= low[2] < 0.4
        assert 1.2 < high[2] < 9
        assert (high - low)[:2].max() < 12
        assert 0 <= mesh.reflectivity.min() <= mesh.reflectivity.max() <= 1

"""The grid: half-open cells, one rule for both dtypes, metres and cells back and forth."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from occlab import OcclabError, VoxelGrid

GRID = VoxelGrid()


def test_shape_of_the_default_grid():
    assert GRID.shape == (32, 180, 180)
    assert GRID.n_cells == 1_036_800
    assert VoxelGrid.from_shape(GRID.point_cloud_range, (32, 180, 180)) == GRID


@given(st.integers(0, 31), st.integers(0, 179), st.integers(0, 179))
def test_a_cell_contains_its_centre(z, y, x):
    index, inside = GRID.index_of(GRID.centre_of(torch.tensor([[z, y, x]])))
    assert inside.item()
    assert index.tolist() == [[z, y, x]]


def test_cells_are_half_open():
    low, high = torch.tensor([[-54.0, -54.0, -5.0]]), torch.tensor([[54.0, 54.0, 3.0]])
    assert GRID.index_of(low)[1].item()
    assert GRID.index_of(low)[0].tolist() == [[0, 0, 0]]
    for axis in range(3):  # one coordinate on the upper face is enough to be outside
        point = low.clone()
        point[0, axis] = high[0, axis]
        assert not GRID.index_of(point)[1].item()
        point[0, axis] = torch.nextafter(low[0, axis], torch.tensor(-1e9))
        assert not GRID.index_of(point)[1].item()


@given(st.lists(st.floats(-60, 60), min_size=3, max_size=3))
def test_float64_points_get_the_answer_of_their_float32_rounding(xyz):
    wide = torch.tensor([xyz], dtype=torch.float64)
    (index64, inside64), (index32, inside32) = GRID.index_of(wide), GRID.index_of(wide.float())
    assert inside64.item() == inside32.item()
    assert index64.tolist() == index32.tolist()


@given(st.lists(st.floats(-60, 60, width=32), min_size=3, max_size=3))
def test_index_is_numpys_floor_of_the_float32_quotient(xyz):
    point = np.array(xyz, np.float32)
    expected = np.floor((point - np.array([-54, -54, -5], np.float32)) / np.array([0.6, 0.6, 0.25], np.float32))
    index, inside = GRID.index_of(torch.from_numpy(point)[None])
    assert inside.item() == bool(((expected >= 0) & (expected < [180, 180, 32])).all())
    if inside.item():
        assert index[0].tolist() == expected[::-1].astype(int).tolist()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_points_that_are_nowhere_are_outside(bad):
    for axis in range(3):
        point = torch.zeros(1, 3)
        point[0, axis] = bad
        assert not GRID.index_of(point)[1].item()


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((-54, -54, -5, 54, 54), (0.6, 0.6, 0.25)),
        ((-54, -54, -5, 54, 54, 3), (0.7, 0.6, 0.25)),  # 154.3 cells
        ((-54, -54, -5, 54, 54, 3), (0.6, 0.6, 0.0)),
        ((54, -54, -5, -54, 54, 3), (0.6, 0.6, 0.25)),
        ((-54, -54, -5, 54, 54, 3), (0.1, 0.1, 0.1)),  # more than 2^24 cells
        (("a", -54, -5, 54, 54, 3), (0.6, 0.6, 0.25)),
        (None, (0.6, 0.6, 0.25)),
    ],
)
def test_impossible_grids_are_refused(box, size):
    with pytest.raises(OcclabError, match="VoxelGrid"):
        VoxelGrid(box, size)


def test_heights_are_the_centres_of_the_channels():
    assert GRID.heights()[0] == pytest.approx(-4.875)
    assert GRID.heights()[-1] == pytest.approx(2.875)

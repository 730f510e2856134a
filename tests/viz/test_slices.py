import numpy as np
import pytest
import torch

from occlab.errors import OcclabError
from occlab.grid import VoxelGrid
from occlab.viz import bev_comparison_figure, bev_figure, height_profile_figure, height_slices_figure, heights_figure

GRID = VoxelGrid((-4.0, -6.0, -2.0, 4.0, 6.0, 2.0), (1.0, 2.0, 0.5))  # (Z, Y, X) = (8, 6, 8)


def one(z: int, y: int, x: int) -> np.ndarray:
    volume = np.zeros(GRID.shape, bool)
    volume[z, y, x] = True
    return volume


def place(trace, row: int, column: int) -> tuple[float, float]:
    """(across, up) of a heatmap's pixel in axis units."""
    return trace.x0 + column * trace.dx, trace.y0 + row * trace.dy


@pytest.mark.parametrize("colour", ["height", "count"])
def test_ahead_is_up_and_left_is_left(colour):
    figure = bev_figure(one(3, 5, 7), GRID, colour=colour)  # the last cell in y (left) and in x (ahead)
    [image, car] = figure.data
    [[row, column]] = np.argwhere(np.isfinite(image.z))
    x, y, _ = GRID.centre_of(torch.tensor([[3, 5, 7]]))[0].tolist()
    assert place(image, row, column) == (y, x)
    assert figure.layout.yaxis.range == (-4, 4)  # x grows up the page
    assert figure.layout.xaxis.range == (6, -6)  # y grows to the left
    assert figure.layout.yaxis.scaleanchor == "x"
    assert (car.x, car.y) == ((0,), (0,))
    assert [figure.layout.xaxis.title.text, figure.layout.yaxis.title.text] == ["y, left (m)", "x, forward (m)"]


def test_height_is_the_top_of_the_highest_voxel_and_count_counts():
    volume = one(1, 2, 3) | one(5, 2, 3)
    assert np.nanmax(bev_figure(volume, GRID).data[0].z) == 1.0  # cells 5: from 0.5 m to 1.0 m
    assert np.nanmax(bev_figure(volume, GRID, colour="count").data[0].z) == 2


def test_nothing_occupied_is_said():
    assert bev_figure(np.zeros(GRID.shape, bool), GRID).layout.annotations[0].text == "nothing is occupied"


def test_each_column_gets_its_outcome():
    target = one(1, 0, 0) | one(1, 1, 1) | one(1, 2, 2)
    predicted = one(1, 0, 0) | one(4, 0, 0) | one(5, 2, 2) | one(1, 3, 3)
    figure = bev_comparison_figure(predicted, target, GRID)
    image = figure.data[0].z.T
    assert [image[i, i] for i in range(4)] == [1, 2, 4, 3]
    assert np.isnan(image).sum() == image.size - 4
    names = [trace.name for trace in figure.data[1:5]]
    assert names == ["hit (1)", "miss (1)", "false alarm (1)", "wrong height (1)"]
    scale = figure.data[0].colorscale  # a value sits in the middle of its band, so that no two colours are blended
    for i, trace in enumerate(figure.data[1:5]):
        assert scale[2 * i][1] == scale[2 * i + 1][1] == trace.marker.color
        assert scale[2 * i][0] < (i + 1 - 0.5) / 4 < scale[2 * i + 1][0]
    assert (figure.data[0].zmin, figure.data[0].zmax) == (0.5, 4.5)


def test_slices_show_their_channel_and_say_its_height():
    volume = np.zeros(GRID.shape, np.float32)
    volume[2, 0, 7] = 0.25
    figure = height_slices_figure(volume, GRID, [2, 3])
    assert [note.text.split("<br>")[0] for note in figure.layout.annotations] == [
        "z −0.75 m (channel 2)",
        "z −0.25 m (channel 3)",
    ]
    assert figure.data[0].z.dtype == np.uint8
    assert figure.data[0].z[7, 0] == 25
    assert figure.data[0].z.sum() == 25
    assert figure.data[1].z.sum() == 0
    assert figure.layout.coloraxis.showscale
    assert figure.layout.xaxis2.range == (6, -6)
    assert not height_slices_figure(volume > 0, GRID, [2]).layout.coloraxis.showscale


def test_slices_default_to_the_fullest_channels_in_order():
    volume = np.zeros(GRID.shape, bool)
    for z, n in enumerate((0, 5, 1, 9, 2, 3, 4, 0)):
        volume[z].reshape(-1)[:n] = True
    figure = height_slices_figure(volume, GRID)
    assert [note.text.split("channel ")[1][0] for note in figure.layout.annotations] == ["1", "2", "3", "4", "5", "6"]


def test_profile_counts_each_channel():
    volume = one(1, 0, 0) | one(1, 1, 1) | one(4, 0, 0)
    soft = np.where(volume, 0.5, 0).astype(np.float32)
    figure = height_profile_figure({"LiDAR": torch.from_numpy(volume)[None], "expected": soft}, GRID)
    lidar, expected = figure.data
    assert lidar.x.tolist() == [0, 2, 0, 0, 1, 0, 0, 0]
    assert expected.x.tolist() == [0, 1, 0, 0, 0.5, 0, 0, 0]
    assert lidar.y.tolist() == GRID.heights()
    assert lidar.line.dash != expected.line.dash  # not by colour alone
    assert "(m)" in figure.layout.yaxis.title.text


def test_heights_without_a_score_are_gaps_at_their_place():
    scores = [None, 0.1, 0.2, float("nan"), 0.0, 0.5, None, None]
    first, second = heights_figure({"rectified": scores, "logits": np.full(8, np.nan)}, GRID).data
    np.testing.assert_allclose(first.x, [np.nan, 0.1, 0.2, np.nan, 0.0, 0.5, np.nan, np.nan])
    assert first.y.tolist() == GRID.heights()
    assert np.isnan(second.x).all()
    assert first.line.dash != second.line.dash
    assert "4 of 8 heights" in heights_figure({"a": scores}, GRID).layout.title.subtitle.text
    assert "have no score" not in heights_figure({"a": [0.0] * 8}, GRID).layout.title.subtitle.text
    assert heights_figure({"a": [None] * 8}, GRID).layout.annotations[0].text == "no height has a score"


def test_pictures_of_the_full_grid_are_light():
    volume = np.random.default_rng(0).random(VoxelGrid().shape, dtype=np.float32)
    assert len(bev_figure(volume, VoxelGrid()).to_json()) < 300_000
    assert len(height_slices_figure(volume, VoxelGrid()).to_json()) < 400_000


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bev_figure(np.zeros((2, 2), bool), GRID), "shape"),
        (lambda: bev_figure(one(0, 0, 0), GRID, colour="red"), "red"),
        (lambda: bev_comparison_figure(one(0, 0, 0), np.zeros((1, 1, 1), bool), GRID), "target"),
        (lambda: height_slices_figure(one(0, 0, 0), GRID, [8]), "0 to 7"),
        (lambda: height_slices_figure(one(0, 0, 0), GRID, []), "none"),
        (lambda: height_profile_figure({}, GRID), "at least one"),
        (lambda: heights_figure({}, GRID), "at least one"),
        (lambda: heights_figure({"a": [0.1] * 7}, GRID), "8 scores"),
        (lambda: heights_figure({"a": [-0.1] * 8}, GRID), "0 or more"),
        (lambda: height_profile_figure({"LiDAR": np.full(GRID.shape, 2.0)}, GRID), "LiDAR"),
    ],
)
def test_wrong_input_is_named(call, words):
    with pytest.raises(OcclabError, match=words):
        call()

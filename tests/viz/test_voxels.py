import base64
import json

import numpy as np
import pytest
import torch

from occlab.errors import OcclabError
from occlab.grid import VoxelGrid
from occlab.viz import comparison_figure, snapshot_figure, voxel_figure, voxels

GRID = VoxelGrid((-6.0, -6.0, -4.0, 6.0, 6.0, 4.0), (1.0, 1.0, 1.0))  # (Z, Y, X) = (8, 12, 12)


def street(grid: VoxelGrid) -> np.ndarray:
    """A road, two facades with windows, cars, poles, and a rough verge: about 30,000 voxels of the full grid."""
    rng = np.random.default_rng(0)
    volume = np.zeros(grid.shape, bool)
    volume[12, 50:130] = True  # the road
    volume[13, 40:50] = rng.random((10, 180)) < 0.7
    volume[13, 130:140] = rng.random((10, 180)) < 0.7
    for y in (40, 139):
        volume[13:31, y : y + 2] = rng.random((18, 1, 180)) < 0.95
    for x in range(6, 170, 20):
        volume[13:19, 60:63, x : x + 7] = volume[13:19, 115:118, x + 4 : x + 11] = True
        volume[13:25, 45, x] = True
    stray = rng.random(grid.shape) < 0.001
    return volume | stray


def metres(trace) -> np.ndarray:
    return np.stack([trace.x, trace.y, trace.z], axis=1) / 100


def test_a_voxel_lies_where_the_grid_says():
    volume = np.zeros(GRID.shape, bool)
    volume[6, 2, 9] = True
    [trace, *_] = voxel_figure(volume, GRID).data
    centre = GRID.centre_of(torch.tensor([[6, 2, 9]])).numpy()[0]
    assert metres(trace).min(axis=0).tolist() == (centre - 0.5).tolist()
    assert metres(trace).max(axis=0).tolist() == (centre + 0.5).tolist()
    assert np.array_equal(trace.intensity, trace.z)  # the colour is the height


def test_the_shading_survives_large_grids():
    [trace, *_] = voxel_figure(np.ones(GRID.shape, bool), GRID).data
    assert (trace.lighting.facenormalsepsilon, trace.lighting.vertexnormalsepsilon) == (0, 0)
    assert trace.flatshading
    assert trace.hoverinfo == "skip"


def test_thirty_thousand_voxels_weigh_less_than_a_megabyte():
    grid = VoxelGrid()
    volume = street(grid)
    assert 28_000 < volume.sum() < 34_000
    figure = voxel_figure(volume, grid)
    text = figure.to_json()
    assert len(text) < 1_000_000
    assert "too many faces" not in text
    trace = json.loads(text)["data"][0]
    assert (trace["x"]["dtype"], trace["i"]["dtype"]) == ("i2", "u2")
    assert len(base64.b64decode(trace["x"]["bdata"])) == 2 * len(figure.data[0].x)


def test_too_many_faces_are_cut_to_the_surroundings_and_said():
    grid = VoxelGrid()
    noise = np.random.default_rng(0).random(grid.shape) < 0.03
    figure = voxel_figure(noise, grid)
    subtitle = figure.layout.title.subtitle.text
    assert f"{noise.sum():,} of" in subtitle
    assert "too many faces: drawn within" in subtitle
    radius = float(subtitle.split("within ")[1].split(" m")[0])
    assert np.abs(metres(figure.data[0])[:, :2]).max() <= radius + 0.6
    assert 700_000 < len(figure.to_json()) < 1_000_000  # not cut further than it must be


def volumes_of_many_faces(grid: VoxelGrid) -> dict[str, np.ndarray]:
    """Noise of several densities, one noisy layer, lone bars, columns, a checkerboard; and bars just under the sensor, where a
    third of the bytes are slashes."""
    rng, (z, y, x) = np.random.default_rng(0), np.indices(grid.shape)
    found = {f"noise of {d:.0%}": rng.random(grid.shape) < d for d in (0.01, 0.03, 0.1, 0.5, 0.9)}
    found["a noisy layer"] = (z == 12) & (rng.random(grid.shape) < 0.5)
    found["bars"] = (z % 2 == 0) & (y % 2 == 0) & (x % 6 < 5)
    found["bars near z = 0"] = (z >= 16) & (z < 20) & (z % 3 == 0) & (y % 4 == 0) & (x % 2 == 0)
    found["columns"] = (y % 3 == 0) & (x % 3 == 0) & (z < 5 + (7 * x + 5 * y) % 20)
    return found | {"checkerboard": (x + y + z) % 2 == 0}


def test_no_figure_weighs_a_megabyte():
    grid = VoxelGrid()
    shapes = volumes_of_many_faces(grid) | {"everything": np.ones(grid.shape, bool), "street": street(grid)}
    for name, volume in shapes.items():
        assert len(voxel_figure(volume, grid).to_json()) < 1_000_000, name
        for other in (np.roll(volume, (3, 5), (1, 2)), shapes["noise of 3%"]):
            assert len(comparison_figure(volume, other, grid).to_json()) < 1_000_000, name
    assert len(snapshot_figure([*shapes.values()], [*shapes], grid).to_json()) < 1_000_000


def test_two_streets_of_thirty_thousand_voxels_are_compared_whole():
    grid = VoxelGrid()
    target = street(grid)
    figure = comparison_figure(np.roll(target, (3, 5), (1, 2)), target, grid)
    assert sum(len(trace.i) for trace in figure.data[:3]) > 2 * voxels.MAX_RECTANGLES  # they are light: no colours
    assert "too many faces" not in figure.layout.title.subtitle.text
    assert len(figure.to_json()) < 1_000_000


def test_comparison_names_counts_and_separates():
    predicted = torch.zeros(1, *GRID.shape)
    target = torch.zeros(1, *GRID.shape)
    predicted[0, 1, 1, 1:3] = 0.8
    target[0, 1, 1, 2:6] = 1.0
    figure = comparison_figure(predicted, target, GRID)
    by_name = {trace.name: trace for trace in figure.data}
    assert [name for name in by_name if "(" in name] == ["hit (1)", "miss (3)", "false alarm (1)"]
    assert metres(by_name["false alarm (1)"]).max(axis=0).tolist() == [-4.0, -4.0, -2.0]
    assert len(by_name["miss (3)"].i) == 12  # one closed box: it stays whole when the legend turns the others off
    assert "IoU 0.200" in figure.layout.title.subtitle.text
    assert all(by_name[name].showlegend for name in by_name if "(" in name)


def test_masked_voxels_are_not_drawn():
    volume = np.ones(GRID.shape, bool)
    mask = np.zeros(GRID.shape, bool)
    mask[3, 4, 5] = True
    figure = comparison_figure(volume, volume, GRID, mask=mask)
    assert figure.data[0].name == "hit (1)"


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (voxel_figure(np.zeros(GRID.shape, bool), GRID), "nothing is occupied"),
        (voxel_figure(np.ones(GRID.shape, bool), GRID), "every voxel is occupied"),
        (comparison_figure(np.zeros(GRID.shape), np.zeros(GRID.shape), GRID), "nothing was predicted"),
    ],
)
def test_extremes_say_so(figure, words):
    assert any(words in note.text for note in figure.layout.annotations)
    json.loads(figure.to_json())


def test_axes_title_and_view():
    figure = voxel_figure(np.ones(GRID.shape, bool), GRID, title="A cube", threshold=0.3)
    scene = figure.layout.scene
    assert figure.layout.title.text == "A cube"
    assert ["(m)" in axis.title.text for axis in (scene.xaxis, scene.yaxis, scene.zaxis)] == [True] * 3
    assert (scene.aspectmode, scene.uirevision) == ("manual", "keep")
    assert figure.layout.height == 620


def test_the_car_is_left_out_of_a_grid_that_does_not_hold_it():
    ahead = VoxelGrid((4.0, -6.0, -4.0, 16.0, 6.0, 4.0), (1.0, 1.0, 1.0))
    assert "this car" not in [t.name for t in voxel_figure(np.ones(ahead.shape, bool), ahead).data]
    assert "this car" in [t.name for t in voxel_figure(np.ones(GRID.shape, bool), GRID).data]


def test_snapshots_have_a_slider_that_shows_one_at_a_time():
    volumes = [np.random.default_rng(i).random(GRID.shape) < 0.2 for i in range(3)]
    figure = snapshot_figure(volumes, [0, 50, 150], GRID)
    assert [t.visible for t in figure.data[:3]] == [False, False, True]
    [slider] = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["0", "50", "150"]
    for i, step in enumerate(slider.steps):
        shown, relayout = step.args
        assert shown["visible"][:3] == [j == i for j in range(3)]
        assert all(shown["visible"][3:])
        assert f"{volumes[i].sum():,} voxels" in relayout["title.subtitle.text"]


def test_one_noisy_snapshot_does_not_cut_the_others(monkeypatch):
    monkeypatch.setattr(voxels, "MAX_RECTANGLES", 300)
    noise = np.random.default_rng(0).random(GRID.shape) < 0.3
    box = np.zeros(GRID.shape, bool)
    box[2:4] = True
    figure = snapshot_figure([noise, box], ["start", "end"], GRID)
    notes = [step.args[1]["title.subtitle.text"] for step in figure.layout.sliders[0].steps]
    assert ["too many faces" in note for note in notes] == [True, False]
    assert voxels._weight(figure.data[:2]) <= 300 * voxels.BYTES


def test_wrong_input_is_named():
    good = np.zeros(GRID.shape, bool)
    with pytest.raises(OcclabError, match=r"volume expects shape"):
        voxel_figure(good[0], GRID)
    with pytest.raises(OcclabError, match=r"target expects shape"):
        comparison_figure(good, good[:4], GRID)
    with pytest.raises(OcclabError, match=r"mask expects shape"):
        comparison_figure(good, good, GRID, mask=good[0])
    with pytest.raises(OcclabError, match=r"snapshot 7 expects shape"):
        snapshot_figure([good, good[0]], [3, 7], GRID)
    with pytest.raises(OcclabError, match=r"one label"):
        snapshot_figure([good], [], GRID)
    with pytest.raises(OcclabError, match=r"one label"):
        snapshot_figure([], [], GRID)

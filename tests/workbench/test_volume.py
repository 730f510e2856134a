"""The live views of a volume, without a browser: what is drawn where, what is said of it, and what is sent again."""

import json

import numpy as np
import pytest
import torch

from occlab.errors import OcclabError
from occlab.grid import VoxelGrid
from occlab.viz import dark, theme
from occlab.workbench import volume
from occlab.workbench.volume import CAMERAS, Histogram, Slice, VolumeView, blocks

GRID = VoxelGrid((-6.0, -6.0, -4.0, 6.0, 6.0, 4.0), (1.0, 1.0, 1.0))  # (Z, Y, X) = (8, 12, 12)


@pytest.fixture(scope="module")
def random():
    """A prediction and a target over the grid."""
    rng = np.random.default_rng(0)
    return rng.random(GRID.shape).astype(np.float32), rng.random(GRID.shape) < 0.3


def updates(figure):
    """What is sent to the browser from now on: the numbers of the traces, the names in the layout."""
    sent = []

    def note(change):
        if change["new"] is not None:
            sent.append((change["new"].get("style_traces"), sorted(change["new"].get("layout_data") or {})))

    figure.observe(note, names="_py2js_update")
    return sent


def metres(trace):
    return np.stack([trace.x, trace.y, trace.z], axis=1) / 100


def area_by_value(trace):
    """The area of the triangles of each colour, square metres."""
    corners = metres(trace)[np.stack([trace.i, trace.j, trace.k], axis=1)]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    return {int(k): round(float(areas[trace.intensity == k].sum()), 3) for k in np.unique(trace.intensity)}


def seen_faces(volume_zyx):
    """Faces of each value towards nothing, those that look down left out; one voxel at a time."""
    padded, counts = np.pad(volume_zyx, 1), {}
    for z, y, x in np.argwhere(padded):
        for dz, dy, dx in ((1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
            if not padded[z + dz, y + dy, x + dx]:
                value = int(padded[z, y, x])
                counts[value] = counts.get(value, 0) + 1
    return counts


def test_what_is_drawn_is_the_surface_in_the_colours_of_the_outcomes(random):
    p, target = random
    view = VolumeView(GRID)
    outcome = view.show(p, target, 0.6)
    assert np.array_equal(outcome, theme.outcomes(p, target, GRID, None, 0.6))
    assert area_by_value(view.figure.data[0]) == seen_faces(outcome)
    bands = view.figure.data[0]
    for k, (_, colour) in theme.OUTCOMES.items():  # the middle of each band
        place = (k - bands.cmin) / (bands.cmax - bands.cmin)
        below = [c for at, c in bands.colorscale if at <= place]
        assert below[-1] == colour


def test_a_voxel_lies_where_the_grid_says():
    p, target = np.zeros(GRID.shape, np.float32), np.zeros(GRID.shape, bool)
    p[6, 2, 9] = 0.9
    view = VolumeView(GRID)
    view.show(p, target)
    centre = GRID.centre_of(torch.tensor([[6, 2, 9]])).numpy()[0]
    drawn = metres(view.figure.data[0])
    assert drawn.min(axis=0).tolist() == (centre - 0.5).tolist()
    assert drawn.max(axis=0).tolist() == (centre + 0.5).tolist()
    assert set(view.figure.data[0].intensity) == {3}
    assert len(view.figure.data[1].x) == 0


def test_the_target_is_coloured_by_height_and_masked(random):
    p, target = random
    mask = np.zeros(GRID.shape, bool)
    mask[3, 4, 5] = True
    view = VolumeView(GRID)
    view.show(p, target | mask, 0.5, mask)
    trace = view.figure.data[1]
    assert len(trace.i) == 10  # one voxel, seen from above
    share = (trace.intensity - trace.cmin) / (trace.cmax - trace.cmin)
    assert np.array_equal(-4 + 8 * share, metres(trace)[:, 2])
    assert "1 of 1,152 voxels" in view.figure.layout.annotations[1].text


def test_a_moved_threshold_sends_the_prediction_alone(random):
    p, target = random
    view = VolumeView(GRID)
    view.show(p, target, 0.5)
    sent = updates(view.figure)
    view.show(p, target, 0.7)
    assert sent == [([0], ["annotations.0.text"])]
    view.show(p, ~target, 0.7)
    assert sent[1] == ([0, 1], ["annotations.0.text", "annotations.1.text"])


def test_the_lines_above_say_how_many_and_escape_names():
    p, target = torch.zeros(GRID.shape), torch.zeros(GRID.shape)
    p[1, 1, 1:3] = 0.8
    target[1, 1, 2:6] = 1.0
    view = VolumeView(GRID)
    view.show(p, target, 0.5, names=("step <b>1</b>", "<script>"))
    left, right = (line.text for line in view.figure.layout.annotations)
    assert "step &lt;b&gt;1&lt;/b&gt;, p &gt; 0.50: IoU 0.200" in left
    assert "1 hit" in left
    assert "3 miss" in left
    assert "1 false alarm" in left
    assert "&lt;script&gt;" in right


def test_an_outcome_that_is_not_drawn_is_said_to_be_hidden_and_leaves_no_hole():
    p, target = np.zeros(GRID.shape, np.float32), np.zeros(GRID.shape, bool)
    p[2, 2, 2], target[2, 2, 2:4] = 1, True  # a hit beside a miss
    view = VolumeView(GRID)
    view.show(p, target, shown=[1])
    assert area_by_value(view.figure.data[0]) == {1: 5}
    left = view.figure.layout.annotations[0].text
    assert "1 miss (hidden)" in left
    assert "1 hit (hidden)" not in left
    view.show(p, target)
    assert area_by_value(view.figure.data[0]) == {1: 4, 2: 4}
    assert "hidden" not in view.figure.layout.annotations[0].text


def test_blocks_are_what_most_of_their_voxels_are():
    fine = np.random.default_rng(1).choice(4, size=(5, 7, 6), p=(0.6, 0.1, 0.1, 0.2)).astype(np.uint8)
    coarse = blocks(fine, 2)
    assert coarse.shape == (3, 4, 3)
    for (z, y, x), found in np.ndenumerate(coarse):
        inside = fine[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        counts = [int((inside == k).sum()) for k in (1, 2, 3)]
        assert found == (1 + counts.index(max(counts)) if any(counts) else 0)


def test_a_large_volume_is_drawn_in_blocks_and_says_so():
    grid = VoxelGrid((0.0, 0.0, 0.0, 75.0, 75.0, 33.0), (1.0, 1.0, 1.0))
    p = np.full(grid.shape, 0.9, np.float32)
    view = VolumeView(grid)
    view.show(p, np.zeros(grid.shape, bool))
    line = view.figure.layout.annotations[0].text
    assert f"{p.size:,} false alarm" in line  # what is counted is counted in voxels
    assert "blocks of 2 x 2 x 2 voxels" in line
    drawn = metres(view.figure.data[0])
    assert drawn.min(axis=0).tolist() == [0, 0, 0]
    assert drawn.max(axis=0).tolist() == [75, 75, 33]  # no block reaches beyond the grid
    assert "blocks" not in view.figure.layout.annotations[1].text


def test_too_many_faces_are_drawn_in_larger_blocks(random, monkeypatch):
    p, target = random
    monkeypatch.setattr(volume, "MAX_RECTANGLES", 60)
    view = VolumeView(GRID)
    view.show(p, target, 0.6)
    assert len(view.figure.data[0].i) <= 120
    assert "blocks of 4 x 4 x 4 voxels" in view.figure.layout.annotations[0].text


def blurred(values):
    values = values.astype(np.float32)
    for axis in range(3):
        values = (np.roll(values, 1, axis) + 2 * values + np.roll(values, -1, axis)) / 4
    return values


def test_thirty_thousand_voxels_weigh_less_than_a_megabyte():
    grid, rng = VoxelGrid(), np.random.default_rng(0)
    target = np.zeros(grid.shape, bool)
    target[12, 50:130] = True  # a road, rough verges, facades with windows, and strays
    target[13, 40:50], target[13, 130:140] = rng.random((2, 10, 180)) < 0.7
    target[13:31, 40:42], target[13:31, 139:141] = rng.random((2, 18, 1, 180)) < 0.95
    target |= rng.random(grid.shape) < 0.001
    p = np.clip(blurred(target) + 0.25 * blurred(blurred(rng.standard_normal(grid.shape))), 0, 1)  # mistakes in patches
    view = VolumeView(grid)
    for threshold in (0.3, 0.4, 0.5, 0.6, 0.7):
        outcome = view.show(p, target, threshold)
        assert 29_500 < (outcome > 0).sum() < 40_000
        assert "blocks" not in view.figure.layout.annotations[0].text
        text = view.figure.to_json()
        assert len(text) < 1_000_000
    trace = json.loads(text)["data"][0]
    assert (trace["x"]["dtype"], trace["intensity"]["dtype"]) == ("i2", "u1")


def test_two_scenes_of_noise_weigh_little_more_than_those_of_a_street():
    grid, rng = VoxelGrid(), np.random.default_rng(0)
    view = VolumeView(grid)
    for density in (0.002, 0.0025, 0.003, 0.0035, 0.005, 0.01, 0.02, 0.03, 0.04, 0.1, 0.5):
        p, target = (rng.random(grid.shape) < density for _ in range(2))
        view.show(p.astype(np.float32), target)
        assert len(view.figure.to_json()) < 1_200_000, density


def test_both_scenes_have_one_camera(random):
    view = VolumeView(GRID)
    layout = view.figure.layout
    for name, camera in CAMERAS.items():
        view.look_from(name)
        assert layout.scene.camera.eye.to_plotly_json() == layout.scene2.camera.eye.to_plotly_json() == camera["eye"]
    turned = {"eye": {"x": 1.0, "y": 0.5, "z": 0.3}, "center": {"x": 0, "y": 0, "z": 0}, "up": {"x": 0, "y": 0, "z": 1}}
    view.figure.plotly_relayout({"scene2.camera": turned})  # as when the mouse has turned the right one
    assert layout.scene.camera.to_plotly_json() == turned
    view.go_nearer(2.0)
    assert (
        layout.scene.camera.eye.to_plotly_json()
        == layout.scene2.camera.eye.to_plotly_json()
        == {"x": 0.5, "y": 0.25, "z": 0.15}
    )
    before = layout.scene.camera
    view.show(*random)
    assert layout.scene.camera == before


def test_another_grid(random):
    p, target = random
    view = VolumeView(GRID)
    view.show(p, target)
    assert "this car" in [trace.name for trace in view.figure.data]
    ahead = VoxelGrid((4.0, -6.0, -4.0, 16.0, 6.0, 4.0), (1.0, 1.0, 1.0))
    view.show(p, target, grid=ahead)
    assert [trace.name for trace in view.figure.data] == ["predicted", "target"]  # no room for the car
    assert view.figure.layout.scene.xaxis.range == view.figure.layout.scene2.xaxis.range == (395, 1605)
    assert metres(view.figure.data[1])[:, 0].max() == 16
    view.show(p, target)  # the grid stays
    with pytest.raises(OcclabError, match="predicted expects shape"):
        view.show(p, target, grid=VoxelGrid())
    assert len(view.figure.data[0].x)


def test_dark_and_light_again(random):
    p, target = random
    view, histogram, flat = VolumeView(GRID, dark=True), Histogram(dark=True), Slice(GRID, dark=True)
    flat.show(view.show(p, target), 3, GRID)
    histogram.show(p, target)
    for one in (view, histogram, flat):
        assert one.figure.layout.template.layout.paper_bgcolor == dark.PAPER
    assert view.figure.data[2].color == dark.INK
    assert flat.figure.data[0].colorscale[0][1] == dark.PAPER  # where nothing is, the paper
    ahead = VoxelGrid((-12.0, -12.0, -4.0, 12.0, 12.0, 4.0), (2.0, 2.0, 1.0))
    view.show(p, target, grid=ahead)
    assert view.figure.data[2].color == dark.INK  # the new car too
    for one in (view, histogram, flat):
        one.paint(False)
        assert one.figure.layout.template.layout.paper_bgcolor == "#FFFFFF"
    assert view.figure.data[2].color == theme.INK
    assert flat.figure.data[0].colorscale[0][1] == "#FFFFFF"


def test_a_rectified_output_is_a_wall_at_one_half():
    rng = np.random.default_rng(0)
    p = np.full(GRID.shape, 127.5 / 256, np.float32)  # one half, as snapshots keep it
    p[0] = 0.5 + rng.random(GRID.shape[1:]) / 2
    target = p > 0.7
    histogram = Histogram()
    histogram.show(p, target, 0.5)
    bars, line = histogram.figure.data
    at_half = bars.x == 0.5
    assert bars.y[at_half] >= p[1:].size
    assert bars.y[bars.x < 0.5].sum() == 0
    assert bars.y.sum() == p.size
    assert np.nansum(line.y) == target.sum()
    assert np.isnan(line.y[at_half])
    assert "0.0% below" in histogram.figure.layout.title.text


def test_the_histogram_counts_what_counts_and_marks_the_threshold(random):
    p, target = random
    mask = np.random.default_rng(2).random(GRID.shape) < 0.5
    histogram = Histogram()
    histogram.show(p, target, 0.25, mask)
    bars, line = histogram.figure.data
    assert bars.y.sum() == mask.sum()
    assert np.nansum(line.y) == (mask & target).sum()
    assert histogram.figure.layout.shapes[1].x0 == histogram.figure.layout.shapes[1].x1 == 0.25
    sent = updates(histogram.figure)
    histogram.mark(0.5)
    assert [traces for traces, _ in sent] == [[0]]
    assert histogram.figure.layout.shapes[0].x0 == 0.5
    assert histogram.figure.layout.shapes[1].x0 == 0.5
    assert np.array_equal(bars.marker.color > 0, bars.x > 0.5)


def test_one_height_from_above():
    p, target = np.zeros(GRID.shape, np.float32), np.zeros(GRID.shape, bool)
    p[2, 3, 10], target[2, 5, 1] = 1, True  # a false alarm and a miss
    flat = Slice(GRID)
    flat.show(theme.outcomes(p, target, GRID), 2, GRID)
    image = flat.figure.data[0]
    assert np.argwhere(np.asarray(image.z)).tolist() == [[1, 5], [10, 3]]  # rows are x, columns y
    assert image.z[10][3] == 3
    assert (image.x0 + 3 * image.dx, image.y0 + 10 * image.dy) == (-2.5, 4.5)  # the voxel's centre
    assert flat.figure.layout.xaxis.range == (6, -6)  # left is left
    title = flat.figure.layout.title.text
    assert "z \N{MINUS SIGN}1.50 m, channel 2: IoU 0.000" in title
    assert "1 false alarm" in title

"""The live view by k3d, without a browser: what is drawn, what is said and sent again; the way there and back in Look."""

import sys

import numpy as np
import pytest

pytest.importorskip("k3d")

from occlab.grid import VoxelGrid
from occlab.viz import dark, theme
from occlab.workbench.k3d_view import K3dView, _levels
from occlab.workbench.look import Look
from occlab.workbench.volume import CAMERAS, VolumeView

GRID = VoxelGrid((-6.0, -6.0, -4.0, 6.0, 6.0, 4.0), (1.0, 1.0, 1.0))  # (Z, Y, X) = (8, 12, 12)
WIDE = VoxelGrid((-8.0, -4.0, -2.0, 8.0, 4.0, 2.0), (1.0, 1.0, 1.0))
BY_K3D = "k3d, every voxel"


@pytest.fixture(scope="module")
def random():
    """A prediction and a target over the grid."""
    rng = np.random.default_rng(0)
    return rng.random(GRID.shape).astype(np.float32), rng.random(GRID.shape) < 0.3


@pytest.fixture
def view():
    made = K3dView(GRID)
    yield made
    made.close()


def sent(of):
    """What is sent to the browser from now on: numbers of the volumes."""
    told = []
    for number, volume in enumerate(of.volumes):
        volume.observe(lambda _, number=number: told.append(number), names="voxels")
    return told


def test_every_voxel_is_drawn_in_the_colour_of_its_outcome(view, random):
    p, target = random
    mask = np.ones(GRID.shape, bool)
    mask[:, :3] = False
    outcome = view.show(p, target, 0.6, mask)
    assert np.array_equal(outcome, theme.outcomes(p, target, GRID, mask, 0.6))
    drawn = view.volumes[0]
    expected = {1: target & (p > 0.6) & mask, 2: target & (p <= 0.6) & mask, 3: ~target & (p > 0.6) & mask}
    for k, (name, colour) in theme.OUTCOMES.items():
        assert np.count_nonzero(drawn.voxels == k) == expected[k].sum() > 0
        assert np.array_equal(drawn.voxels == k, expected[k])
        assert f"#{int(drawn.color_map[k - 1]):06X}" == colour
        assert f"{expected[k].sum():,} {name}" in view.lines[0].value


def test_the_target_is_coloured_by_height(view, random):
    p, target = random
    view.show(p, target)
    drawn = view.volumes[1]
    z, y, x = np.nonzero(target)
    assert np.array_equal(drawn.voxels[z, y, x], z + 1)
    assert np.count_nonzero(drawn.voxels) == target.sum()
    assert len(set(drawn.color_map.tolist())) == GRID.shape[0]
    assert f"{target.sum():,} of 1,152 voxels" in view.lines[1].value


def test_a_volume_lies_where_the_grid_says(view):
    for volume in view.volumes:
        corners = np.array(volume.model_matrix).reshape(4, 4) @ np.array([[-0.5, -0.5, -0.5, 1], [0.5, 0.5, 0.5, 1]]).T
        assert corners[:3].T.ravel().tolist() == [*GRID.point_cloud_range]


def test_more_heights_than_colours_share_them():
    assert _levels(4).tolist() == [1, 2, 3, 4]
    many = _levels(1000).astype(int)
    assert (many[0], many[-1]) == (1, 255)
    assert set(np.diff(many)) == {0, 1}


def test_hidden_outcomes_vanish_and_are_named(view, random):
    p, target = random
    view.show(p, target, shown=(1, 2))
    assert set(np.unique(view.volumes[0].voxels)) == {0, 1, 2}
    assert "false alarm (hidden)" in view.lines[0].value
    view.show(p, target, shown=())
    assert not view.volumes[0].voxels.any()


def test_a_moved_threshold_sends_the_prediction_alone(view, random):
    p, target = random
    view.show(p, target, 0.5)
    told = sent(view)
    view.show(p, target, 0.7)
    assert told == [0]
    view.show(p, ~target, 0.7)
    assert told == [0, 0, 1]


def test_both_scenes_look_from_one_place(view):
    for name in CAMERAS:
        view.look_from(name)
        here, there = (plot.camera for plot in view.plots)
        assert here == there
    eye, aim = np.array(here[:3]), np.array(here[3:6])
    assert eye == pytest.approx([1.2 * 6, 0, 0.4 * 6])  # "front", in half the longer side of the floor
    view.go_nearer(2.0)
    assert np.array(view.plots[0].camera[:3]) - aim == pytest.approx((eye - aim) / 2)
    assert view.plots[0].camera == view.plots[1].camera


def test_names_are_escaped(view, random):
    view.show(*random, names=("<img src=x onerror=alert(1)>", "<script>"))
    assert "<img" not in view.lines[0].value
    assert "&lt;img" in view.lines[0].value
    assert "&lt;script&gt;" in view.lines[1].value


def test_another_grid_and_another_theme(view, random):
    view.show(*random)
    old = view.volumes[0]
    view.show(np.full(WIDE.shape, 0.9, np.float32), np.ones(WIDE.shape, bool), grid=WIDE)
    assert view.volumes[0].voxels.shape == WIDE.shape
    assert old.comm is None
    for plot, volume in zip(view.plots, view.volumes, strict=True):
        assert volume.id in plot.object_ids
        assert old.id not in plot.object_ids
    view.paint(True)
    assert {plot.background_color for plot in view.plots} == {int(dark.PAPER[1:], 16)}
    view.paint(False)
    assert {plot.background_color for plot in view.plots} == {0xFFFFFF}


@pytest.fixture
def tab(make_desk, config, to_the_end):
    """A finished training, looked at."""
    desk = make_desk(config=config, name="repaired", source="a test")
    desk.on("error", lambda: pytest.fail(desk.error[1]))
    made = Look(desk)
    made.show()
    to_the_end(desk.new_session())
    pump(made)
    return made


def pump(tab):
    while tab._latest.busy:
        tab.desk.pump()


def test_k3d_and_back(tab):
    assert isinstance(tab._view, VolumeView)
    tab.step.value = 10
    pump(tab)
    tab.threshold.value, tab.legend[2].value = 0.4, False
    plotly, outcome = tab._view, tab._outcome
    tab.drawn_by.value = BY_K3D
    view = tab._view
    assert tab._scene.children == (view.widget,)
    assert plotly.figure.comm is None  # closed
    expected = np.where(outcome == 2, 0, outcome)
    assert np.array_equal(view.volumes[0].voxels, expected)
    assert "after 10 steps, p &gt; 0.40" in view.lines[0].value
    assert "miss (hidden)" in view.lines[0].value
    tab.cameras["above"].click()
    assert view.plots[0].camera[2] > 2 * abs(view.plots[0].camera[0])
    tab.drawn_by.value = "Plotly"
    assert isinstance(tab._view, VolumeView)
    assert all(part.comm is None for part in (*view.plots, *view.volumes, view.widget))
    assert "after 10 steps, p &gt; 0.40" in tab._view.figure.layout.annotations[0].text
    assert (tab.step.value, tab.threshold.value, tab.legend[2].value) == (10, 0.4, False)


def test_where_k3d_is_absent_nothing_offers_it(make_desk, config, monkeypatch):
    monkeypatch.setattr("occlab.workbench.look.find_spec", lambda name: None)
    assert Look(make_desk(config=config)).drawn_by.layout.display == "none"


def test_a_k3d_that_cannot_be_imported_is_told_of(make_desk, config, to_the_end, monkeypatch):
    desk, told = make_desk(config=config), []
    desk.on("error", lambda: told.append(desk.error[0]))
    tab = Look(desk)
    tab.show()
    to_the_end(desk.new_session())
    pump(tab)
    monkeypatch.setitem(sys.modules, "k3d", None)
    tab.drawn_by.value = BY_K3D
    assert "k3d could not be imported" in told[0]
    assert tab.drawn_by.value == "Plotly"
    assert isinstance(tab._view, VolumeView)
    assert tab._scene.children == (tab._view.widget,)

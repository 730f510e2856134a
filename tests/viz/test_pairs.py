import numpy as np
import pytest
import torch

from occlab.errors import OcclabError
from occlab.grid import VoxelGrid
from occlab.viz import pairs, snapshots_pair_figure

GRID = VoxelGrid((-6.0, -6.0, -4.0, 6.0, 6.0, 4.0), (1.0, 1.0, 1.0))  # (Z, Y, X) = (8, 12, 12)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(GRID.shape, dtype=np.float32)


def snapshots(steps=(0, 50, 150)) -> dict:
    return {
        "rectified": {s: 0.5 + noise(s) / 2 for s in steps},
        "logits": {s: torch.from_numpy(noise(s + 1))[None] for s in steps},
    }


def points(figure, *, shown: bool = False) -> list:
    """The traces of voxels, without keys, cars and rings."""
    found = [t for t in figure.data if t.type == "scatter3d" and t.mode == "markers" and t.name is None]
    return [t for t in found if t.visible] if shown else found


def cells(trace) -> set:
    return set(zip(trace.z.tolist(), trace.y.tolist(), trace.x.tolist(), strict=True))


def test_one_slider_moves_both_scenes():
    figure = snapshots_pair_figure(snapshots(), GRID)
    [slider] = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["0", "50", "150"]
    for i, step in enumerate(slider.steps):
        shown, texts = step.args
        assert len(shown["visible"]) == len(figure.data)
        visible = [t for t, on in zip(figure.data, shown["visible"], strict=True) if on and t in points(figure)]
        assert [t.scene for t in visible] == ["scene", "scene2"]
        if i == 2:
            assert all(t.visible for t in visible)
        assert ["rectified" in texts["annotations[0].text"], "logits" in texts["annotations[1].text"]] == [True, True]
    assert [note.text for note in figure.layout.annotations] == list(slider.steps[-1].args[1].values())
    assert figure.layout.scene.domain.x[1] < figure.layout.scene2.domain.x[0]


def test_the_surest_voxels_are_those_of_the_highest_probability():
    given = snapshots((7,))
    figure = snapshots_pair_figure(given, GRID, surest=60)
    for name, trace in zip(given, points(figure), strict=True):
        p = np.asarray(given[name][7]).reshape(GRID.shape)
        highest = np.argsort(-p, axis=None)[:60]
        assert cells(trace) == {tuple(map(int, c)) for c in np.argwhere(np.isin(np.arange(p.size), highest).reshape(p.shape))}


def test_equal_probabilities_stay_together():
    p = np.full((2, 2, 2), 0.5, np.float32)
    p[0, 0] = 0.9, 0.7
    assert pairs._surest(p, 1).sum() == 1
    assert pairs._surest(p, 4).sum() == 2  # 2 are nearer to 4 than all 8
    assert pairs._surest(p, 6).sum() == 8
    assert pairs._surest(np.full((2, 2, 2), 0.5), 3).sum() == 0  # an output that says nothing is sure of nothing
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 5, (4, 5, 6)) / 8
    for count in range(1, 121, 7):
        found = int(pairs._surest(levels, count).sum())
        possible = [0, *(int((levels >= level).sum()) for level in np.unique(levels))]
        assert abs(found - count) == min(abs(n - count) for n in possible)


def test_a_target_splits_hits_from_false_alarms():
    predicted, target = np.zeros(GRID.shape, np.float32), np.zeros(GRID.shape, np.float32)
    predicted[1, 1, 1:3] = 0.8
    target[1, 1, 2:6] = 0.3
    both = {"rectified": {0: predicted}, "logits": {0: target}}
    figure = snapshots_pair_figure(both, GRID, target=target, threshold=0.2)
    hit, alarm, free_hit, free_alarm = points(figure, shown=True)
    assert (cells(hit), cells(alarm)) == ({(1, 1, 2)}, {(1, 1, 1)})
    assert (len(free_hit.x), len(free_alarm.x)) == (4, 0)
    assert [note.text.split("<br>")[1] for note in figure.layout.annotations] == ["2 voxels, IoU 0.200", "4 voxels, IoU 1.000"]
    named = [t.name for t in figure.data if t.showlegend]
    assert named.count("hit") == named.count("false alarm") == named.count("this car") == 1


def test_points_ticks_and_car_agree_on_where_things_are():
    volume = np.zeros(GRID.shape, bool)
    volume[6, 2, 9] = True
    figure = snapshots_pair_figure({"a": {0: volume}, "b": {0: volume}}, GRID)
    axes = figure.layout.scene
    centre = GRID.centre_of(torch.tensor([[6, 2, 9]]))[0].tolist()
    for i, axis in enumerate((axes.xaxis, axes.yaxis, axes.zaxis)):
        low, high = GRID.point_cloud_range[i] - 0.05, GRID.point_cloud_range[i + 3] + 0.05  # 5 cm to spare
        at = [figure.data[0]["xyz"[i]][0], *axis.tickvals]
        metres = [centre[i], *(float(text.replace("−", "-")) for text in axis.ticktext)]
        np.testing.assert_allclose(np.interp(at, axis.range, (low, high)), metres, atol=1e-9)
    car = next(t for t in figure.data if t.name == "this car")
    assert (car.x.min() + car.x.max()) / 2 == pytest.approx(5.5)  # the middle of twelve cells numbered from 0
    assert car.x.max() - car.x.min() == pytest.approx(4.6)


def test_hidden_voxels_are_not_drawn():
    figure = snapshots_pair_figure({"a": {0: np.ones(GRID.shape)}, "b": {0: np.zeros(GRID.shape)}}, GRID)
    full, empty = points(figure)
    assert len(full.x) == 8 * 12 * 12 - 6 * 10 * 10
    assert len(empty.x) == 0
    assert "1,152 voxels" in figure.layout.annotations[0].text


def test_what_is_too_heavy_is_cut_to_the_same_surroundings_everywhere(monkeypatch):
    monkeypatch.setattr(pairs, "MAX_PAIR_BYTES", 6 * 600)
    figure = snapshots_pair_figure(snapshots(), GRID)
    radius = float(figure.layout.title.subtitle.text.split("within ")[1].split(" m")[0])
    found = points(figure)
    assert sum(len(t.x) for t in found) <= 600
    x, y = (GRID.centre_of(torch.tensor([[0, c, c] for c in range(12)]))[:, k].numpy() for k in (0, 1))
    for trace in found:
        assert max(np.abs(x[trace.x]).max(), np.abs(y[trace.y]).max()) <= radius
    monkeypatch.undo()
    whole = snapshots_pair_figure(snapshots(), GRID)
    assert "within" not in whole.layout.title.subtitle.text
    assert figure.layout.annotations[1].text == whole.layout.annotations[1].text  # counts are of the whole


def test_ten_snapshots_of_the_full_grid_are_light():
    grid = VoxelGrid()
    volumes = {s: np.random.default_rng(s).random(grid.shape, dtype=np.float32) for s in range(5)}
    for target in (None, volumes[0] > 0.99):
        figure = snapshots_pair_figure({"a": volumes, "b": volumes}, grid, target=target, surest=9_500)
        assert len(figure.to_json()) < 400_000


def test_wrong_input_is_named():
    good = np.zeros(GRID.shape, bool)
    for given, words in [
        ({"a": {0: good}}, "two names"),
        ({"a": {0: good}, "b": {}}, "two names"),
        ({"a": {0: good}, "b": {1: good}}, r"same steps of both names, got \[0\] and \[1\]"),
        ({"a": {0: good}, "b": {0: good[0]}}, "snapshot 0 of b expects shape"),
    ]:
        with pytest.raises(OcclabError, match=words):
            snapshots_pair_figure(given, GRID)
    with pytest.raises(OcclabError, match="surest of at least 1"):
        snapshots_pair_figure({"a": {0: good}, "b": {0: good}}, GRID, surest=0)
    with pytest.raises(OcclabError, match="target expects shape"):
        snapshots_pair_figure({"a": {0: good}, "b": {0: good}}, GRID, target=good[0])

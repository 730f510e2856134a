import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab.errors import OcclabError
from occlab.viz import (
    flow_figure,
    flows_figure,
    gradient_figure,
    loss_figure,
    probability_figure,
    range_test_figure,
)
from occlab.viz.curves import _LINE, stagger

STEPS = np.arange(5)


def test_pairs_and_columns_are_the_same_curve():
    losses = np.linspace(1.35, 1.2, 5)
    pairs = loss_figure({"run": list(zip(STEPS, losses, strict=True))}).data[0]
    columns = loss_figure({"run": (STEPS, torch.from_numpy(losses))}).data[0]
    assert pairs.x.tolist() == columns.x.tolist() == STEPS.tolist()
    assert pairs.y.tolist() == columns.y.tolist() == np.float32(losses).tolist()


def test_two_pairs_in_a_list_are_two_steps():
    assert loss_figure({"run": [(0, 1.3), (10, 1.2)]}).data[0].x.tolist() == [0, 10]


def test_floors_are_lines_with_labels_inside_the_axis():
    figure = loss_figure({"run": (STEPS, np.linspace(1.35, 1.2, 5))}, {"dead head": 1.1931, "perfect": 0.32})
    assert sorted(line.y0 for line in figure.layout.shapes) == [0.32, 1.1931]
    assert [(note.text, note.y) for note in figure.layout.annotations] == [("perfect 0.32", 0.32), ("dead head 1.193", 1.1931)]
    low, high = figure.layout.yaxis.range
    assert low < 0.32 < 1.35 < high
    assert [figure.layout.xaxis.title.text, figure.layout.yaxis.title.text] == ["step", "loss"]


def test_seeds_become_a_mean_and_a_band():
    losses = np.array([[1.0, 0.8, 0.6], [1.2, 0.9, 0.7], [1.1, 1.0, 0.5]])
    low, high, mean = loss_figure({"logits": (np.arange(3), losses)}).data
    assert np.allclose(low.y, [1.0, 0.8, 0.5])
    assert np.allclose(high.y, [1.2, 1.0, 0.7])
    assert np.allclose(mean.y, [1.1, 0.9, 0.6])
    assert high.fill == "tonexty"
    assert mean.name == "logits (3 seeds)"
    assert [trace.showlegend for trace in (low, high)] == [False, False]


def test_a_loss_that_is_not_finite_leaves_a_gap():
    figure = loss_figure({"run": (STEPS, [1.0, np.inf, 0.8, np.nan, 0.7])})
    assert np.isnan(figure.data[0].y).tolist() == [False, True, False, True, False]
    assert np.isfinite(figure.layout.yaxis.range).all()


def test_no_steps_yet_is_said():
    for figure in (loss_figure({}), loss_figure({"run": []}), gradient_figure({"run": (STEPS, np.zeros(5))})):
        assert figure.layout.annotations[0].text == "no steps yet"


values = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@settings(deadline=None)
@given(values, st.integers(150, 600))
def test_labels_never_cover_each_other(values, pixels):
    placed = stagger([(f"floor {i}", v) for i, v in enumerate(values)], 0.0, 1.0, pixels)
    spans = []
    for text, value, up in placed:
        half = (text.count("<br>") + 1) * _LINE / 2
        spans.append((value * pixels + up - half, value * pixels + up + half))
    for (_, top), (bottom, _) in itertools.pairwise(spans):
        assert bottom >= top - 1e-6
    assert sorted(line for text, *_ in placed for line in text.split("<br>")) == sorted(
        f"floor {i}" for i in range(len(values))
    )


def test_labels_merge_within_a_hundredth_of_the_axis_and_stay_put_when_there_is_room():
    assert stagger([("a", 0.500), ("b", 0.509)], 0.0, 1.0, 300) == [("b<br>a", pytest.approx(0.5045), 0.0)]
    assert [up for *_, up in stagger([("a", 0.2), ("b", 0.8)], 0.0, 1.0, 300)] == [0.0, 0.0]
    below, above = stagger([("a", 0.50), ("b", 0.52)], 0.0, 1.0, 300)
    assert below[2] == pytest.approx(-above[2])  # both give way by half
    assert above[2] == pytest.approx((_LINE - 6) / 2)


def test_gradients_are_logarithmic_with_clip_and_reported_band():
    norms = np.array([0.19, 0.0, 0.05, 0.01, 0.003])
    figure = gradient_figure({"run": (STEPS, norms)}, clip=0.1, reported=(0.0026, 0.1925))
    assert figure.layout.yaxis.type == "log"
    assert np.isnan(figure.data[0].y).tolist() == [False, True, False, False, False]
    line, band = figure.layout.shapes
    assert (line.y0, line.y1) == (0.1, 0.1)
    assert (band.y0, band.y1) == (0.0026, 0.1925)
    notes = {note.text: note.y for note in figure.layout.annotations}
    assert notes["clipped at 0.1"] == pytest.approx(-1)  # annotations live in log10
    assert "reported<br>0.0026 to 0.1925" in notes
    low, high = figure.layout.yaxis.range
    assert low < np.log10(0.0026) < np.log10(0.1925) < high


def test_probabilities_of_a_dead_head_start_at_a_half():
    p = torch.full((2, 3, 4), 0.5)
    p[0, 0, 0] = 0.75
    figure = probability_figure({"dead head": p, "other": np.array([0.0, 0.2, 1.0])})
    dead, other = figure.data
    assert dead.name == "dead head: lowest 0.5, 0% under 0.5"
    assert other.name == "other: lowest 0, 67% under 0.5"
    assert {round(float(x), 3): float(y) for x, y in zip(dead.x, dead.y, strict=True) if y >= 1} == {0.505: 23, 0.755: 1}
    assert sum(y for y in other.y if y >= 1) == 3  # 0 and 1 are both counted
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.shapes[0].x0 == 0.5
    assert len(figure.to_json()) < 20_000


def test_flow_marks_layers_without_gradient():
    figure = flow_figure(["stem", "conv", "conv"], [1e-3, 0.0, 1e-5])
    line, crosses = figure.data
    assert np.isnan(line.x).tolist() == [False, True, False]
    assert list(crosses.y) == ["2  conv"]
    assert len(set(line.y)) == 3  # two layers of one name stay two rows
    low, high = figure.layout.xaxis.range
    assert low < np.log10(crosses.x[0]) < -5 < -3 < high
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the first layer on top
    assert "1 of 3" in figure.layout.title.subtitle.text


def test_flow_of_nothing_but_zeros():
    assert [len(t.y) for t in flow_figure(["a", "b"], [0.0, 0.0]).data] == [2, 2]


def test_flows_share_the_rows_that_both_have():
    figure = flows_figure(
        {"rectified": (["stem", "head", "last"], [1e-3, 0.0, 2e-3]), "logits": (["stem", "head"], [0.1, 0.0])}
    )
    dead, dead_zero, free, free_zero = figure.data
    assert list(dead.y) == list(free.y) == list(figure.layout.yaxis.categoryarray) == ["stem", "head", "last"]
    np.testing.assert_array_equal(free.x, [0.1, np.nan, np.nan])
    np.testing.assert_array_equal(dead.x, [1e-3, np.nan, 2e-3])
    assert list(dead_zero.y) == list(free_zero.y) == ["head"]
    assert dead_zero.x[0] != free_zero.x[0]  # beside each other
    assert "2 of 5" in figure.layout.title.subtitle.text
    assert figure.layout.xaxis.type == "log"


def test_a_layer_that_only_the_second_has_goes_where_it_is_called():
    figure = flows_figure({"a": (["x", "z"], [1, 2]), "b": (["v", "x", "y", "z"], [1, 2, 3, 4])}, log=False)
    assert list(figure.layout.yaxis.categoryarray) == ["v", "x", "y", "z"]
    np.testing.assert_array_equal(figure.data[0].x, [np.nan, 1, np.nan, 2])


def test_shares_are_drawn_from_zero():
    figure = flows_figure({"logits": (["stem", "head"], [0.0, 0.5])}, value_name="share of exact zeros", log=False)
    [line] = figure.data
    assert line.x.tolist() == [0.0, 0.5]  # a place on the axis, no cross at its edge
    assert (figure.layout.xaxis.type, figure.layout.xaxis.rangemode) == (None, "tozero")


def test_a_range_test_marks_the_lowest_loss_and_lets_bursts_go():
    rates = np.geomspace(1e-5, 1, 6)
    losses = [1.2, 1.1, 0.8, 0.6, 50.0, np.inf]
    figure = range_test_figure({"logits": (rates, losses), "rectified": (rates, np.full(6, 1.3))})
    line, mark = figure.data[:2]
    assert line.name == "logits: lowest 0.6 at 0.01"
    assert (mark.x[0], mark.y[0]) == (pytest.approx(1e-2), 0.6)
    assert np.isnan(line.y).tolist() == [False] * 5 + [True]
    assert figure.layout.xaxis.type == "log"
    low, high = figure.layout.yaxis.range
    assert low < 0.6 < 1.3 < high < 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: flows_figure({}), "at least one"),
        (lambda: flows_figure({"a": (["x", "x"], [1.0, 2.0])}), "each layer once"),
        (lambda: flows_figure({"a": (["x"], [np.nan])}), "flows_figure expects 1"),
        (lambda: range_test_figure({}), "at least one"),
        (lambda: range_test_figure({"a": ([0.0, 1.0], [1.0, 1.0])}), "positive rates"),
        (lambda: range_test_figure({"a": ([1.0], [np.nan])}), "finite loss"),
        (lambda: range_test_figure({"a": ([1.0, 2.0], [1.0])}), "range_test_figure expects 'a'"),
        (lambda: loss_figure({"run": (STEPS, np.zeros(4))}), "'run'"),
        (lambda: loss_figure({"run": [1.0, 2.0]}), "'run'"),
        (lambda: loss_figure({"run": (STEPS, np.zeros((2, 3, 5)))}), "seeds, S"),
        (lambda: loss_figure({}, {"floor": np.nan}), "finite"),
        (lambda: gradient_figure({}, clip=0.0), "positive"),
        (lambda: gradient_figure({}, reported=(-1.0, 1.0)), "positive"),
        (lambda: probability_figure({"logits": np.array([-3.0])}), "logits"),
        (lambda: probability_figure(np.array([np.nan])), "predicted"),
        (lambda: probability_figure([]), "predicted"),
        (lambda: flow_figure(["a"], [1.0, 2.0]), "expects 1"),
        (lambda: flow_figure(["a"], [-1.0]), "0 or more"),
    ],
)
def test_wrong_input_is_named(call, words):
    with pytest.raises(OcclabError, match=words):
        call()

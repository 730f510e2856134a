import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab.errors import OcclabError
from occlab.viz import interval_figure, theme, tradeoff_figure
from occlab.viz.intervals import _beside, _overlap

ROWS = [
    ("lr 1e-3", 0.21, 0.18, 0.24, "logits"),
    ("lr 1e-3", 0.001, -0.002, 0.003, "rectified"),
    ("clip 1", 0.0, None, None, "rectified"),
    ("clip 1", -0.004, -0.012, 0.006, "logits"),
    ("deeper", None, None, None, "logits"),
]


def by_group(figure) -> dict:
    """group -> (bars, marks) traces."""
    traces = iter(figure.data)
    return {key.name: (bars, marks) for bars, marks, key in zip(traces, traces, traces, strict=True)}


def test_bars_end_where_the_intervals_do_and_marks_sit_on_them():
    bars, marks = by_group(interval_figure(ROWS))["logits"]
    np.testing.assert_array_equal(bars.x, [0.18, 0.24, np.nan, -0.012, 0.006, np.nan])
    np.testing.assert_array_equal(marks.x, [0.21, -0.004])
    np.testing.assert_array_equal(bars.y[::3], marks.y)
    assert bars.line.color == marks.marker.color


def test_rows_of_one_label_stand_below_each_other_first_group_first():
    figure = interval_figure(ROWS)
    groups = by_group(figure)
    first, second = groups["logits"][1].y, groups["rectified"][1].y
    assert first[0] < second[0] < first[1] < second[1]  # downwards; in the second label the rows came the other way round
    assert list(figure.layout.yaxis.ticktext) == ["lr 1e-3", "clip 1", "deeper"]
    assert figure.layout.yaxis.tickvals[0] == pytest.approx((first[0] + second[0]) / 2)
    bottom, top = figure.layout.yaxis.range
    assert bottom > second[1] > top


def test_without_an_interval_there_is_a_hollow_mark_and_without_a_number_a_text():
    figure = interval_figure(ROWS)
    assert list(by_group(figure)["rectified"][1].marker.symbol) == ["square", "square-open"]
    texts = [note.text for note in figure.layout.annotations]
    assert texts == [
        "+0.210  [+0.180, +0.240]",
        "+0.001  [−0.002, +0.003]",
        "+0.000",
        "−0.004  [−0.012, +0.006]",
        "no number",
    ]


def test_verdicts_have_colours_of_their_own():
    rows = [("a", 0.1, 0.0, 0.2, "worse"), ("b", 0.1, 0.0, 0.2, "better"), ("c", 0.1, None, None, "too few seeds")]
    colours = {name: marks.marker.color for name, (_, marks) in by_group(interval_figure(rows)).items()}
    assert colours == {"worse": theme.VERMILLION, "better": theme.BLUE, "too few seeds": theme.QUIET}


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=5))
@settings(deadline=None, max_examples=20)
def test_zero_and_every_number_are_on_the_axis(differences):
    figure = interval_figure([(str(i), d, d - 0.1, d + 0.2, "a") for i, d in enumerate(differences)])
    low, high = figure.layout.xaxis.range
    assert low < min(0, *(d - 0.1 for d in differences))
    assert high > max(0, *(d + 0.2 for d in differences))
    assert any(line.x0 == line.x1 == 0 for line in figure.layout.shapes)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("a", 0.1, 0.2)],
        [("a", "much", None, None, "g")],
        [("a", 0.1, 0.2, 0.1, "g")],
        [("a", 0.1, 0.0, None, "g")],
        [("a", None, 0.0, 0.1, "g")],
        [("a", np.nan, None, None, "g")],
        [("a", 0.1, None, None, "g"), ("a", 0.2, None, None, "g")],
    ],
)
def test_what_is_not_rows_is_refused(rows):
    with pytest.raises(OcclabError, match="interval_figure expects"):
        interval_figure(rows)


def test_points_with_their_names():
    figure = tradeoff_figure({"shallow": (6.8e6, 0.41), "deep": (27e6, 0.43)}, "parameters", "IoU", log_x=True)
    [points] = figure.data
    assert list(points.text) == ["shallow", "deep"]
    assert points.x.tolist() == [6.8e6, 27e6]
    assert (figure.layout.xaxis.type, figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == (
        "log",
        "parameters",
        "IoU",
    )
    low, high = figure.layout.xaxis.range
    assert low < np.log10(6.8e6) < np.log10(27e6) < high
    assert figure.layout.title.text == "IoU over parameters"


def test_labels_of_neighbours_go_to_different_sides():
    places = _beside(np.array([[300.0, 100.0], [305.0, 100.0], [300.0, 110.0]]), ["one", "two", "three"])
    assert len(set(places)) == 3
    assert _beside(np.array([[300.0, 100.0]]), ["alone"]) == ["middle right"]
    assert _beside(np.array([[630.0, 100.0]]), ["a long name at the edge"]) == ["middle left"]


def test_overlap_is_an_area():
    assert _overlap((0, 2, 0, 2), (1, 3, 1, 4)) == 1
    assert _overlap((0, 1, 0, 1), (1, 2, 0, 1)) == 0


@pytest.mark.parametrize(
    ("points", "log_x"),
    [
        ({}, False),
        ({"a": (1.0, np.nan)}, False),
        ({"a": (0.0, 1.0)}, True),
        ({"a": (1.0, 2.0, 3.0)}, False),
        ({"a": (1.0, 2.0), "b": (1.0,)}, False),
        ({"a": (None, 2.0)}, False),
        ({"a": 3.0}, False),
    ],
)
def test_what_is_not_points_is_refused(points, log_x):
    with pytest.raises(OcclabError, match="tradeoff_figure expects"):
        tradeoff_figure(points, "x", "y", log_x=log_x)

"""Parallel axes: every run is a line through its own values, and a brush keeps those that pass through it."""

import numpy as np
import pytest

from occlab import OcclabError
from occlab.viz.parallel import brushed, parallel_figure

ROWS = [
    {"rate": 1e-3, "prior": None, "flip": True, "grid": "fine", "loss": 1.19, "IoU": 0.01},
    {"rate": 1e-4, "prior": 0.5, "flip": False, "grid": "fine", "loss": 0.60, "IoU": 0.30},
    {"rate": 1e-2, "prior": "measured", "flip": False, "grid": "fine", "loss": 0.40, "IoU": 0.41},
]


@pytest.fixture
def figure():
    return parallel_figure(ROWS, ["IoU", "loss"])


def axes(figure):
    return {axis.label: axis for axis in figure.data[0].dimensions}


def said(axis):
    """What each row says on an axis of levels."""
    return [axis.ticktext[axis.tickvals.index(value)] for value in axis.values]


def test_settings_that_differ_have_axes_and_the_first_result_stands_last(figure):
    assert list(axes(figure)) == ["rate", "prior", "flip", "loss", "IoU"]  # all runs have one grid
    np.testing.assert_allclose(axes(figure)["loss"].values, [1.19, 0.60, 0.40], rtol=1e-6)
    np.testing.assert_allclose(figure.data[0].line.color, [0.01, 0.30, 0.41], rtol=1e-6)


def test_levels_are_named_and_in_order_none_the_lowest(figure):
    assert said(axes(figure)["prior"]) == ["none", "0.5", "measured"]
    assert axes(figure)["prior"].ticktext == ("none", "0.5", "measured")
    assert said(axes(figure)["flip"]) == ["yes", "no", "no"]
    assert axes(figure)["rate"].ticktext == ("0.0001", "0.001", "0.01")
    written = parallel_figure([{"rate": text, "IoU": 0.1} for text in ("1e-3", "0.1", "1e-4")], ["IoU"])
    assert axes(written)["rate"].ticktext == ("1e-4", "1e-3", "0.1")  # numbers also where they are texts


def test_many_values_get_a_scale_that_is_logarithmic_where_they_span_factors():
    seeds = parallel_figure([{"seed": i, "IoU": i / 20} for i in range(9)], ["IoU"])
    assert axes(seeds)["seed"].values.tolist() == list(range(9))
    assert axes(seeds)["seed"].ticktext is None
    rates = [10.0**-k for k in range(9)]
    axis = axes(parallel_figure([{"rate": rate, "IoU": 0.1} for rate in rates], ["IoU"]))["rate"]
    np.testing.assert_allclose(axis.values, np.log10(rates), rtol=1e-5)
    assert dict(zip(axis.tickvals, axis.ticktext, strict=True))[-3] == "0.001"


def test_a_brush_keeps_the_lines_that_pass_through_it(figure):
    assert brushed(figure) == [0, 1, 2]
    axes(figure)["IoU"].constraintrange = [0.2, 0.35]
    assert brushed(figure) == [1]
    axes(figure)["IoU"].constraintrange = [[0.0, 0.02], [0.4, 0.5]]  # two brushes on one axis
    assert brushed(figure) == [0, 2]
    axes(figure)["flip"].constraintrange = [-0.2, 0.2]  # and another axis: "no" is the lower level
    assert brushed(figure) == [2]
    axes(figure)["rate"].constraintrange = [-0.2, 0.2]
    assert brushed(figure) == []


def test_every_line_can_be_brushed_also_the_outermost_and_where_all_are_alike(figure):
    for axis in axes(figure).values():
        assert axis.range[0] < min(axis.values)
        assert max(axis.values) < axis.range[1]
    alike = axes(parallel_figure([{"flip": flip, "IoU": 0.0} for flip in (True, False)], ["IoU"]))["IoU"]
    assert alike.range[0] < 0 < alike.range[1]


def test_bad_rows_are_one_sentence():
    with pytest.raises(OcclabError, match="at least one row and one result, got 0 and 1"):
        parallel_figure([], ["IoU"])
    with pytest.raises(OcclabError, match="the same keys in every row"):
        parallel_figure([{"IoU": 0.1}, {"loss": 0.1}], ["IoU"])
    with pytest.raises(OcclabError, match="the same keys in every row"):
        parallel_figure([{"loss": 0.1}], ["IoU"])
    for bad in (None, float("nan"), "0.1", True):
        with pytest.raises(OcclabError, match="finite numbers as the result 'IoU'"):
            parallel_figure([{"IoU": bad}, {"IoU": 0.1}], ["IoU"])

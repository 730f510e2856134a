import numpy as np
import pytest

from occlab.errors import OcclabError
from occlab.viz import bars_figure, named_figure


def test_the_first_name_is_on_top_and_each_bar_has_its_number():
    [bars] = bars_figure({"all": 0.2, "perfect": 0.47}, value_name="IoU").data
    assert bars.orientation == "h"
    assert list(bars.y) == ["all", "perfect"]
    np.testing.assert_array_equal(bars.x, [0.2, 0.47])
    assert list(bars.text) == ["0.20", "0.47"]
    low_end, high_end = bars_figure({"all": 0.2, "perfect": 0.47}).layout.yaxis.range
    assert low_end > 1 > 0 > high_end  # names are numbered from 0; the axis runs downwards


def test_a_group_a_name_one_bar_a_series():
    figure = bars_figure({"IoU": {"a": 0.1, "b": 0.2}, "from above": {"a": 0.9, "b": 1.0}})
    assert [trace.name for trace in figure.data] == ["IoU", "from above"]
    assert figure.layout.showlegend
    assert figure.layout.xaxis.range[1] > 1.0
    assert len({trace.marker.color for trace in figure.data}) == 2


def test_all_zero_still_has_an_axis():
    assert bars_figure({"a": 0.0}).layout.xaxis.range[1] > 0


@pytest.mark.parametrize(
    "values", [{}, {"a": -0.1}, {"a": np.nan}, {"x": {"a": 1.0}, "y": {"b": 1.0}}, {"x": {"a": 1.0}, "y": 1.0}, {"x": {}}]
)
def test_what_is_not_bars_is_refused(values):
    with pytest.raises(OcclabError, match="bars_figure expects"):
        bars_figure(values)


def test_a_dot_outside_its_square_is_a_miss():
    figure = named_figure({"a fault": ("clipping", "clipping"), "another": ("schedule", None)})
    planted, named = figure.data
    assert list(planted.x) == ["clipping", "schedule"]
    assert list(named.x) == ["clipping", "no alarm"]
    assert list(planted.y) == list(named.y) == ["a fault", "another"]
    with pytest.raises(OcclabError, match="at least one fault"):
        named_figure({})

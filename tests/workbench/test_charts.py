"""Live curves: what is drawn of a run, however long, and what is sent of a change."""

import math
from itertools import pairwise

import numpy as np
import pytest

from occlab.training import Step
from occlab.viz import dark, loss_figure, theme
from occlab.workbench import charts
from occlab.workbench.charts import MOST, LiveCurves, measured, thin

FLOORS = {"p = 1/2 everywhere": 1.193, "mean map, p >= 1/2": 1.19, "best constant": 1.02, "perfect prediction": 0.32}


def step(number, loss=1.2, norm=0.2, clip=0.5, ratio=1e-3, iou=0.1):
    return Step(number, loss, {}, norm, clip, ratio, 1e-4, iou, 0.1)


def steps(n):
    rng = np.random.default_rng(0)
    return [step(i + 1, loss=1.2 + 0.1 * rng.random(), norm=rng.random() + 0.01, iou=rng.random() / 9) for i in range(n)]


@pytest.fixture(autouse=True)
def _nobody_to_wait_for(monkeypatch):
    monkeypatch.setattr(charts, "PATIENCE", 0.0)


def shown(curves, name):
    trace = next(trace for trace in curves.figure.data if trace.name == name)
    return np.asarray(trace.x), np.asarray(trace.y)


def titles(curves):
    return [annotation.text for annotation in curves.figure.layout.annotations[:4]]


@pytest.mark.parametrize("n", [0, 1, MOST, MOST + 1, 5000, 77777])
def test_thinning_keeps_both_ends_and_every_extreme(n):
    values = np.random.default_rng(n).normal(size=n)
    kept = thin(values)
    assert len(kept) <= MOST
    assert (np.diff(kept) > 0).all()
    if n <= MOST:
        assert kept.tolist() == list(range(n))
        return
    assert (kept[0], kept[-1]) == (0, n - 1)
    for spike in (values.argmin(), values.argmax()):
        assert spike in kept
    for place in (17, n // 2, n - 2):  # a spike of a single step anywhere is drawn
        lifted = values.copy()
        lifted[place] = 100
        assert place in thin(lifted)


def test_points_drawn_once_stay_while_a_curve_grows():
    values = np.random.default_rng(0).normal(size=5000)
    before, after = thin(values[:4400]), thin(values[:4500])
    assert set(before[before < 4384]) <= set(after)


def test_gaps_stay_gaps_when_a_curve_is_thinned():
    values = np.ones(5000)
    values[1000:3000] = np.nan
    kept = thin(values)
    assert np.isnan(values[kept[(kept >= 1000) & (kept < 3000)]]).all()
    assert np.isfinite(values[kept[(kept < 1000) | (kept >= 3000)]]).all()


def test_a_curve_holds_what_was_measured():
    curves = LiveCurves()
    curves.of(50, 0.1, FLOORS)
    run = [step(i, loss=1.3 - 0.01 * i, norm=0.4, clip=0.25, ratio=2e-3, iou=0.01 * i) for i in range(1, 11)]
    curves.draw(run)
    for name, expected in (
        ("loss", [s.loss for s in run]),
        ("norm", [0.4] * 10),
        ("clipped", [0.1] * 10),
        ("ratio", [2e-3] * 10),
        ("iou", [s.iou for s in run]),
    ):
        x, y = shown(curves, name)
        assert x.tolist() == list(range(1, 11))
        assert np.allclose(y, expected)
    loss, norm, ratio, iou = titles(curves)
    assert "1.2000" in loss
    assert "0.4" in norm
    assert "clipped 0.1" in norm
    assert "0.002" in ratio
    assert "0.100" in iou
    for trace in curves.figure.data:  # what a long run would send is bytes, not text
        assert np.asarray(trace.y).dtype == np.float32 or not len(trace.y)


def test_a_gradient_of_zero_leaves_a_gap_on_the_logarithmic_axis():
    columns = measured([step(1), step(2, norm=0.0, ratio=0.0)])
    for name in ("norm", "clipped", "ratio"):
        assert np.isnan(columns[name]).tolist() == [False, True]
    LiveCurves().draw([step(1, norm=0.0, ratio=0.0)])


def test_every_floor_has_a_line_at_its_height_and_a_label():
    curves = LiveCurves()
    curves.of(50, 0.1, FLOORS)
    lines = [shape for shape in curves.figure.layout.shapes if shape.yref == "y"]
    assert [line.y0 for line in lines] == list(FLOORS.values())
    assert all(line.y0 == line.y1 for line in lines)
    labels = [a for a in curves.figure.layout.annotations[4:] if a.yref == "y"]
    said = " ".join(label.text.replace("<br>", " ").replace("\N{NO-BREAK SPACE}", " ") for label in labels)
    for name, value in FLOORS.items():
        assert f"{name.replace('>=', '≥')} {value:.4g}" in said
    low, high = curves.figure.layout.yaxis.range
    assert low < min(FLOORS.values()) < max(FLOORS.values()) < high
    curves.of(50, None, {})
    assert not any(shape.yref == "y" for shape in curves.figure.layout.shapes)
    assert [shape.y0 for shape in curves.figure.layout.shapes] == [1e-3], "no clipping, no line of it"


def test_labels_of_floors_do_not_cover_each_other():
    curves = LiveCurves()
    curves.of(50, 0.1, FLOORS | {"mean map": 1.0, "all empty": 1.01})
    low, high = curves.figure.layout.yaxis.range
    height = curves.figure.layout.height - curves.figure.layout.margin.t - curves.figure.layout.margin.b
    spans = []
    for label in curves.figure.layout.annotations[4:]:
        if label.yref == "y":
            middle = (label.y - low) / (high - low) * height - label.ay
            half = 9 * (1 + label.text.count("<br>"))
            spans.append((middle - half, middle + half))
    spans.sort()
    assert all(below[1] <= above[0] + 0.01 for below, above in pairwise(spans))


def test_the_axes_stay_while_the_run_is_within_them():
    curves = LiveCurves()
    curves.of(1000, 0.1, FLOORS)
    seen = set()
    run = steps(1000)
    for n in range(1, 1000, 20):
        curves.draw(run[:n])
        x, y = curves.figure.layout.xaxis.range, curves.figure.layout.yaxis.range
        assert x[1] >= n
        assert y[0] <= min(s.loss for s in run[:n])
        assert y[1] >= max(s.loss for s in run[:n])
        seen.add((tuple(x), tuple(y)))
    assert len(seen) <= 12
    assert tuple(curves.figure.layout.xaxis.range) == (0, 1000)


def test_a_zoom_stays_while_steps_come():
    curves = LiveCurves()
    curves.of(1000, 0.1, FLOORS)
    run = steps(200)
    curves.draw(run[:150])
    curves.figure.layout.yaxis.range = (1.18, 1.2)  # by hand, in the browser
    curves.draw(run[:160])
    assert curves.figure.layout.yaxis.range == (1.18, 1.2)


def test_a_loss_that_blew_up_does_not_flatten_the_rest():
    curves = LiveCurves()
    curves.of(1000, 0.1, FLOORS)
    curves.draw([*steps(100), step(101, loss=4e5), *[step(101 + i) for i in range(1, 9)]])
    assert curves.figure.layout.yaxis.range[1] < 3


def test_nothing_is_sent_where_nothing_has_changed():
    curves, run, sent = LiveCurves(), steps(40), []
    curves.of(100, 0.1, FLOORS)
    curves.draw(run)
    curves.figure.observe(
        lambda change: sent.append(change["name"]), names=["_py2js_update", "_py2js_restyle", "_py2js_relayout"]
    )
    curves.draw(run)
    assert not sent
    curves.draw(steps(41))
    assert set(sent) == {"_py2js_update"}, "one message for all that changed"


def _answer(curves):
    """What the browser sends once it has drawn a change."""
    curves.figure._js2py_traceDeltas = {"trace_deltas": [], "trace_edit_id": curves.figure._last_trace_edit_id}


def test_steps_wait_for_a_browser_that_still_draws_and_the_last_are_drawn(monkeypatch):
    monkeypatch.setattr(charts, "PATIENCE", 1e9)
    curves, run = LiveCurves(), steps(40)
    curves.of(100, 0.1, FLOORS)
    for n in (10, 20, 30):
        curves.draw(run[:n])
    assert len(shown(curves, "loss")[0]) == 10
    _answer(curves)
    assert len(shown(curves, "loss")[0]) == 30
    curves.draw(run[:35])
    assert len(shown(curves, "loss")[0]) == 30
    _answer(curves)
    assert len(shown(curves, "loss")[0]) == 35
    _answer(curves)
    curves.draw(run)
    assert len(shown(curves, "loss")[0]) == 40, "at once, where nothing is under way"


def test_another_run_lies_under_this_one_and_goes_again():
    curves, run = LiveCurves(), steps(30)
    curves.of(100, 0.1, FLOORS)
    curves.draw(run)
    curves.beside("<b>other</b>", [step(i, loss=1.1) for i in range(1, 21)])
    x, y = shown(curves, "reference loss")
    assert (x[-1], len(x)) == (20, 20)
    assert np.allclose(y, 1.1)
    assert "&lt;b&gt;other&lt;/b&gt;" in titles(curves)[0]
    names = [trace.name for trace in curves.figure.data]
    assert names.index("reference loss") < names.index("loss")
    curves.beside("", ())
    assert len(shown(curves, "reference loss")[0]) == 0
    assert "other" not in titles(curves)[0]


def test_another_run_s_later_steps_do_not_stretch_the_axes():
    curves = LiveCurves()
    curves.of(100, 0.1, FLOORS)
    curves.draw(steps(20))
    before = [curves.figure.layout[f"yaxis{n}"].range for n in ("", "2", "3", "4")]
    curves.beside("other", [*steps(20), *[step(n, loss=9.0, norm=1e-6, ratio=9.0, iou=0.9) for n in range(40, 100)]])
    assert [curves.figure.layout[f"yaxis{n}"].range for n in ("", "2", "3", "4")] == before


def test_long_runs_say_that_the_drawing_is_thinned():
    curves = LiveCurves()
    curves.draw(steps(MOST))
    assert curves.figure.layout.xaxis.title.text == "step"
    curves.draw(steps(MOST + 1))
    assert "folder has all" in curves.figure.layout.xaxis.title.text
    assert all(len(trace.x) <= MOST for trace in curves.figure.data)


def contrast(a, b):
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_dark_figure_can_be_read_and_the_light_one_comes_back():
    curves = LiveCurves(dark=True)
    curves.of(50, 0.1, FLOORS)
    curves.draw(steps(5))
    for _ in range(2):
        layout = curves.figure.layout
        paper = layout.template.layout.paper_bgcolor
        assert paper == dark.PAPER
        drawn = [layout.template.layout.font.color, *(shape.line.color for shape in layout.shapes)]
        drawn += [a.arrowcolor for a in layout.annotations if a.arrowcolor]
        assert min(contrast(colour, paper) for colour in drawn) >= 4.5
        assert min(contrast(trace.line.color, paper) for trace in curves.figure.data) >= 3
        curves.paint(False)
        assert curves.figure.layout.shapes[0].line.color == theme.INK
        assert curves.figure.layout.template.layout.paper_bgcolor == "#FFFFFF"
        curves.paint(True)
    curves.of(50, 0.1, {"new": 1.0})
    assert curves.figure.layout.shapes[0].line.color == dark.INK, "what is drawn later is dark's too"


def test_any_figure_of_the_theme_can_be_painted_dark_and_back():
    figure = theme.say(loss_figure({"a": [(1, 1.3), (2, 1.2)]}, {"floor": 1.19}), "a word")
    before = figure.to_dict()
    dark.paint(figure, True)
    assert figure.layout.template.layout.plot_bgcolor == dark.PAPER
    assert figure.layout.template.layout.scene.xaxis.backgroundcolor == dark.PAPER
    assert figure.layout.annotations[-1].bgcolor == dark.PAPER
    assert theme.INK not in figure.to_json()
    assert "#FFFFFF" not in figure.to_json()
    dark.paint(figure, False)
    assert figure.to_dict() == before


def test_decades_around_a_lone_value():
    curves = LiveCurves()
    curves.of(10, None, {})
    curves.draw([step(1, norm=1.0)])
    low, high = curves.figure.layout.yaxis2.range
    assert low <= math.log10(1.0) <= high
    assert high - low >= 1

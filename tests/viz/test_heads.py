import numpy as np
import pytest

from occlab.errors import OcclabError
from occlab.viz import heads_figure

STEPS = np.arange(1, 6)
ARMS = ("as it stood", "lr 1e-3", "clip 1", "focal", "deeper")
FLOORS = {"rectified": {"p = 1/2 everywhere": 1.193}, "logits": {"best constant": 0.56, "perfect prediction": 0.3}}


def curves(n: int) -> dict:
    return {
        head: {arm: (STEPS, np.linspace(start, end + 0.05 * i, 5)) for i, arm in enumerate(ARMS[:n])}
        for head, start, end in (("rectified", 1.35, 1.19), ("logits", 1.2, 0.6))
    }


def test_a_panel_a_head_on_one_axis_of_losses():
    layout = heads_figure(curves(2), FLOORS).layout
    assert layout.yaxis2.matches == "y"
    low, high = layout.yaxis.range
    assert low < 0.3 < 1.35 < high
    (a, b), (c, d) = layout.xaxis.domain, layout.xaxis2.domain
    assert 0 == a < b < c < d <= 1
    assert b - a == pytest.approx(d - c)
    titles = [note.text for note in layout.annotations if note.text.startswith("<b>") and not note.showarrow]
    assert titles == ["<b>rectified</b>", "<b>logits</b>"]


def test_an_arm_looks_the_same_in_both_panels_also_where_one_lacks_it():
    both = curves(3)
    del both["logits"]["as it stood"]
    figure = heads_figure(both)
    looks = {}
    for trace in figure.data:
        looks.setdefault(trace.name, set()).add((trace.line.color, trace.line.dash))
    assert all(len(look) == 1 for look in looks.values())
    assert len({*map(frozenset, looks.values())}) == 3
    assert [(t.name, t.xaxis) for t in figure.data if t.xaxis == "x2"] == [("lr 1e-3", "x2"), ("clip 1", "x2")]


def test_floors_stand_in_their_own_panel_with_labels():
    figure = heads_figure(curves(2), FLOORS)
    assert sorted((line.yref, line.y0) for line in figure.layout.shapes) == [("y", 1.193), ("y2", 0.3), ("y2", 0.56)]
    labels = {note.xref: [] for note in figure.layout.annotations}
    for note in figure.layout.annotations:
        labels[note.xref] += note.text.replace("<br>", " ").replace("\N{NO-BREAK SPACE}", " "), note.y
    assert any("p = 1/2 everywhere 1.193" in str(text) for text in labels["x domain"])
    assert not any("1.193" in str(text) for text in labels["x2 domain"])
    assert "best constant 0.56" in labels["x2 domain"]


def test_few_arms_are_labelled_where_they_end_and_many_in_one_legend():
    few, many = heads_figure(curves(4)), heads_figure(curves(5))
    assert not few.layout.showlegend
    ends = " ".join(note.text for note in few.layout.annotations).replace("\N{NO-BREAK SPACE}", " ")
    assert "lr 1e-3 1.240" in ends
    assert "lr 1e-3 0.650" in ends
    assert many.layout.showlegend
    assert not any("lr 1e-3" in note.text for note in many.layout.annotations)
    assert sorted(t.name for t in many.data if t.showlegend is not False) == sorted(ARMS)  # each once, not once a head


def test_seeds_have_a_band_in_the_panel_of_their_mean():
    losses = np.array([[1.2, 1.0, 0.8, 0.7, 0.6], [1.2, 1.1, 1.0, 0.9, 0.8]])
    figure = heads_figure({"logits": {"a": (STEPS, losses)}, "rectified": {"a": (STEPS, losses + 0.4)}})
    assert [t.xaxis for t in figure.data] == ["x"] * 3 + ["x2"] * 3
    assert "band" in figure.layout.title.subtitle.text
    assert sum("0.700" in note.text for note in figure.layout.annotations) == 1  # the mean's end, and no edge's


def test_no_steps_yet_is_said():
    assert "no steps yet" in [note.text for note in heads_figure({"logits": {}}).layout.annotations]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: heads_figure({}), "at least one head"),
        (lambda: heads_figure({"logits": (STEPS, STEPS)}), "head -> arm -> curve"),
        (lambda: heads_figure(curves(1), {"other": {"floor": 1.0}}), "'rectified', 'logits'"),
        (lambda: heads_figure(curves(1), {"logits": {"floor": np.inf}}), "finite floors"),
        (lambda: heads_figure(curves(1), {"logits": {"floor": None}}), "head -> name -> number"),
        (lambda: heads_figure(curves(1), {"logits": 1.2}), "head -> name -> number"),
        (lambda: heads_figure({"logits": {"a": [1.0, 2.0]}}), "heads_figure expects 'a'"),
    ],
)
def test_wrong_input_is_named(call, words):
    with pytest.raises(OcclabError, match=words):
        call()

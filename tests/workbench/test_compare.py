"""The Compare tab: what a person sees who chooses, pins and brushes runs."""

import html
import os

import numpy as np
import pytest
from written_runs import as_it_stood, rows_of, summary, write_run

from occlab.diagnosis import HALF
from occlab.frames import read_frames
from occlab.viz.dark import PAPER
from occlab.viz.theme import CYCLE, DASHES
from occlab.workbench import run_table
from occlab.workbench.compare import NO_RUNS, VIEWS, Compare

CURVES, TABLE, PARALLEL, _ = VIEWS
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def desk(make_desk):
    return make_desk()


@pytest.fixture
def tab(desk, seven):
    made = Compare(desk)
    made.show()
    return made


def traces(tab):
    return {trace.name: trace for trace in tab._curves.figure.data if trace.name}


def turn(tab, view, settle):
    tab.view.value = view
    settle()


def test_without_runs_it_says_so(desk, settle):
    tab = Compare(desk)
    for view in (CURVES, TABLE, PARALLEL):
        turn(tab, view, settle)
    tab.show()
    settle()
    assert tab._note.value == html.escape(NO_RUNS)
    assert tab.chosen() == []


def test_nothing_is_drawn_before_it_is_shown_then_the_last_two_configurations_are(desk, seven):
    tab = Compare(desk)
    assert tab._curves.figure is None
    tab.show()
    assert {row.name for row in tab.chosen()} == {*list(dict.fromkeys(row.name for row in rows_of(desk)))[:2]}
    assert len(traces(tab)) == 2


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        ([], ["stood"]),
        ([("again", {}, None)], ["again", "stood"]),
        ([("free", {"head": "logits"}, 0.6)], ["free", "stood"]),
        ([("free", {"head": "logits"}, 0.6), ("reset", {"head": "logits"}, None)], ["free", "stood"]),
        ([("begun", {"head": "logits"}, None)], ["begun", "stood"]),
    ],
    ids=["one run", "one configuration", "two", "the latest was begun anew", "one is not finished"],
)
def test_until_somebody_chooses_two_that_say_something_beside_each_other_are(desk, root, others, chosen):
    for at, (name, changes, settled) in enumerate([("stood", {}, 1.19), *others]):
        made = None if settled is None else summary(settled, 0.1)
        folder = write_run(root, name, as_it_stood(**changes), made=made)
        for path in folder.iterdir():
            os.utime(path, (at, at))
    tab = Compare(desk)
    tab.show()
    assert sorted(row.folder.name for row in tab.chosen()) == chosen


def test_choosing_changes_the_one_figure_there_is(tab, root):
    figure = tab._curves.figure
    tab.choose([root / "a-0", root / "b-0"])
    assert {name: trace.y.tolist() for name, trace in traces(tab).items()} == {
        "as it stood": pytest.approx([1.3, 1.2]),
        "head logits": pytest.approx([1.2, 0.6]),
    }
    assert [(t.line.color, t.line.dash) for t in tab._curves.figure.data] == list(zip(CYCLE[:2], DASHES[:2], strict=True))
    assert [note.text for note in figure.layout.annotations] == [f"{HALF} 1.19"]
    tab.curve.value = "iou"
    assert traces(tab)["as it stood"].y == pytest.approx([0.13, 0.12])
    assert (figure.layout.annotations, figure.layout.shapes) == ((), ())  # floors are losses
    tab.curve.value = "grad_norm"
    assert figure.layout.yaxis.type == "log"
    tab.curve.value = "loss"
    assert figure.layout.yaxis.type != "log"
    assert tab._curves.figure is figure


def test_seeds_of_one_configuration_are_a_mean_with_a_band(tab, root):
    tab.choose([root / f"a-{seed}" for seed in range(7)])
    low, high, mean = tab._curves.figure.data
    assert mean.name == "as it stood (7 seeds)"
    assert (low.y[1], mean.y[1], high.y[1]) == pytest.approx((1.20, 1.23, 1.26))
    assert high.fill == "tonexty"


def test_pinning_is_told_to_everybody_and_gives_the_differences(tab, desk, root, settle, seven):
    told = []
    desk.on("reference", lambda: told.append(desk.reference))
    tab.choose([root / "a-0", root / "b-0"])
    turn(tab, TABLE, settle)
    assert "Pin a run as the reference" in tab._against.value
    assert tab._differences.widget.layout.display == "none"
    tab.reference.value = root / "a-0"
    settle()
    assert told == [root / "a-0"]
    assert "<td>better</td>" in tab._judged.value
    marks = next(trace for trace in tab._differences.figure.data if trace.mode == "markers" and trace.text)
    assert marks.x == pytest.approx([np.mean(seven)])
    tab.choose([root / "b-0"])  # the reference need not be among the chosen ones
    settle()
    assert "<td>better</td>" in tab._judged.value
    tab.reference.value = ""
    settle()
    assert desk.reference is None
    assert "Pin a run" in tab._against.value


def test_another_tab_may_pin_a_run_that_is_not_chosen(tab, desk, root, settle):
    tab.choose([root / "b-0"])
    desk.reference = root / "a-3"
    desk.tell("reference")
    settle()
    assert tab.reference.value == root / "a-3"


def test_the_table_is_a_table_with_headers_of_columns(tab, root, settle):
    tab.choose([root / "a-0"])
    turn(tab, TABLE, settle)
    said = tab._table.value
    assert said.count('<th scope="col">') == 9
    assert "<td>as it stood</td>" in said
    assert f"<td>{html.escape(HALF)}</td>" in said  # what it stopped on
    assert "<td class=number>1.2</td>" in said


def test_a_name_from_a_file_becomes_no_tag(root, desk, settle):
    for seed in range(2):
        hostile = as_it_stood(seed, custom_keys={HOSTILE: {"lr_mult": 2.0}})
        write_run(root, f"x-{seed}", hostile, made=summary(1.2, 0.1, floor=HOSTILE))
    write_run(root, "a-0", as_it_stood(), made=summary(1.2, 0.1))
    tab = Compare(desk)
    tab.show()
    tab.choose(desk.runs() and [run.folder for run in desk.runs()])
    tab.reference.value = root / "a-0"
    for view in VIEWS:
        turn(tab, view, settle)
    figures = [tab._curves.figure, tab._differences.figure, tab._parallel.figure]
    for text in (tab._table.value, tab._judged.value, *(figure.to_json() for figure in figures)):
        assert "<img" not in text
    assert "&lt;img" in tab._table.value
    assert "&lt;img" in tab._curves.figure.to_json()


def test_a_training_in_hand_draws_itself_on_while_it_is_chosen_and_seen(store, desk, seven, settle, until):
    frames = read_frames(store)
    desk.set_up(config=as_it_stood(99), frames=frames[:2], held_out=frames[2:])
    tab = Compare(desk)
    tab.show()
    session = desk.new_session()
    session.step(4)
    assert session.wait(60)
    desk.pump()
    row = next(row for row in tab.chosen() if row.folder == session.folder)
    assert traces(tab)[row.name].y == pytest.approx([step.loss for step in session.steps], rel=1e-6)
    session.step(2)
    assert session.wait(60)
    desk.pump()
    assert len(traces(tab)[row.name].y) == 6
    tab.hide()
    session.step(2)
    assert session.wait(60)
    desk.pump()
    assert len(traces(tab)[row.name].y) == 6
    tab.show()
    assert len(traces(tab)[row.name].y) == 8


def test_a_choice_made_by_hand_stays_when_runs_come_and_go(tab, desk, root):
    tab.runs.value = (root / "a-1", root / "b-1")
    write_run(root, "new-0", as_it_stood(0, flip=True), made=summary(1.2, 0.1))
    desk.tell("runs")
    assert {row.folder.name for row in tab.chosen()} == {"a-1", "b-1"}
    assert len(tab.runs.options) == 15
    (root / "a-1" / "scalars.json").unlink()
    desk.tell("runs")
    assert {row.folder.name for row in tab.chosen()} == {"b-1"}


def test_a_brush_narrows_the_list_and_clearing_widens_it_again(tab, root, settle):
    turn(tab, PARALLEL, settle)
    figure = tab._parallel.figure
    axes = {axis.label: axis for axis in figure.data[0].dimensions}
    assert set(axes) == {"head", "seed", *run_table.RESULTS}
    axes["IoU, held out"].constraintrange = [0.155, 1.0]
    assert {folder.name for _, folder in tab.runs.options} == {"b-5", "b-6"}
    assert {row.folder.name for row in tab.chosen()} <= {"b-5", "b-6"}
    assert tab._parallel.figure is figure
    assert tuple(axes["IoU, held out"].constraintrange) == (0.155, 1.0)  # drawing again did not take it away
    tab.clear.click()
    assert len(tab.runs.options) == 14
    assert axes["IoU, held out"].constraintrange is None


def test_a_new_run_takes_the_brushes_away(tab, desk, root, settle):
    turn(tab, PARALLEL, settle)
    tab._parallel.figure.data[0].dimensions[-1].constraintrange = [0.155, 1.0]
    assert len(tab.runs.options) == 2
    write_run(root, "new-0", as_it_stood(0, flip=True), made=summary(1.2, 0.5))
    desk.tell("runs")
    assert len(tab.runs.options) == 15
    assert "flips" in [axis.label for axis in tab._parallel.figure.data[0].dimensions]
    tab._parallel.figure.data[0].dimensions[-1].constraintrange = [0.4, 1.0]  # and can be brushed as before
    assert [folder.name for _, folder in tab.runs.options] == ["new-0"]


def test_a_dark_page_paints_the_figures(tab, desk, root):
    light = tab._curves.figure.layout.template.layout.paper_bgcolor
    desk.dark = True
    desk.tell("theme")
    dark = tab._curves.figure.layout.template.layout.paper_bgcolor
    assert (light, dark) == ("#FFFFFF", PAPER)
    desk.dark = False
    desk.tell("theme")
    assert tab._curves.figure.layout.template.layout.paper_bgcolor == light


def test_every_control_says_what_it_is_for(tab):
    controls = [tab.runs, tab.reference, tab.measure, tab.clear]
    controls += [tab.effects.source, tab.effects.path, tab.effects.measure, tab.effects.group]
    assert all(control.tooltip for control in controls)
    assert len(tab.view.tooltips) == len(tab.view.options)
    assert len(tab.curve.tooltips) == len(tab.curve.options)

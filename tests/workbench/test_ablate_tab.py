"""The Ablate tab, used as a person does: tick, run, cancel, come back tomorrow."""

import threading

import pytest

from occlab import OcclabError
from occlab.ablation import Design, one_change, read_design, read_table
from occlab.settings import PROFILES
from occlab.training import preset
from occlab.viz.dark import PAPER
from occlab.workbench.ablate import Ablate
from occlab.workbench.latest import Latest
from occlab.workbench.levels import AS_SET_UP

LONG = 120


@pytest.fixture
def short():
    return preset("as-it-stood", PROFILES["tiny"], steps=12)


@pytest.fixture
def desk(make_desk, short):
    return make_desk(config=short, name="as it stood", source="a store")


@pytest.fixture
def open_tab(desk):
    tabs = []

    def new():
        tabs.append(Ablate(desk))
        tabs[-1].show()
        return tabs[-1]

    yield new
    for tab in tabs:
        tab.close()


@pytest.fixture
def tab(open_tab):
    return open_tab()


def weighed(tab, pump):
    pump(lambda: not tab._latest.busy)
    return tab._line.value, tab._problem.value


def tick(tab, *levels):
    for label, level in levels:
        tab.levels.boxes[label, level].value = True


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("occlab sweep")]


# --- the live line ----------------------------------------------------------------------------------------------------


def test_what_is_set_up_is_ticked_and_cannot_be_taken_away(tab, desk, short):
    boxes = tab.levels.boxes
    assert (boxes["head", "rectified"].value, boxes["head", "rectified"].disabled) == (True, True)
    assert (boxes["head", "logits"].value, boxes["head", "logits"].disabled) == (False, False)
    assert "1 is set up" in tab.levels.numbers["batch size"].placeholder
    tick(tab, ("head", "logits"), ("flips", "yes"))
    assert tab.levels.chosen() == {"head": ["logits"], "flips": ["yes"]}
    desk.set_up(config=preset("repaired", PROFILES["tiny"], steps=12))
    assert (boxes["head", "logits"].value, boxes["head", "logits"].disabled) == (True, True)
    assert (boxes["head", "rectified"].value, boxes["head", "rectified"].disabled) == (False, False)
    assert tab.levels.chosen() == {"flips": ["yes"]}


def test_the_line_counts_the_runs_and_does_not_guess_their_time(tab, pump):
    assert "tick at least one level" in weighed(tab, pump)[1]
    assert tab.run.disabled
    tick(tab, ("learning rate", "1e-3"), ("clipping norm", "10"))
    line, problem = weighed(tab, pump)
    assert line.startswith("The set-up, and each ticked level alone. 18 runs, 0 made already; ")
    assert "how long the rest takes is unknown until the first run is done." in line
    assert ("With 2 comparisons a verdict needs 7 seeds" in line, problem, tab.run.disabled) == (True, "", False)
    tab.seeds.value = 7
    tab.heads.value = True
    line, _ = weighed(tab, pump)
    assert "42 runs" in line
    assert "verdict" not in line
    tab.levels.boxes["clipping norm", "10"].value = False
    assert "28 runs" in weighed(tab, pump)[0]


def test_what_the_library_refuses_is_a_sentence(tab, pump):
    tick(tab, ("learning rate", "1e-3"), ("learning rate", "1e-2"))
    tab.kind.value = "fractional factorial"
    _, problem = weighed(tab, pump)
    assert "fractional_factorial needs factors of two levels, and &#x27;learning_rate&#x27; has 3." in problem
    assert tab.run.disabled
    tab.kind.value = "one change"
    tab.levels.numbers["turns, degrees"].value = "10, <b>"
    assert "rotation must be a number of degrees from 0 to 180, got &#x27;&lt;b&gt;&#x27;" in weighed(tab, pump)[1]
    tab.levels.numbers["turns, degrees"].value = "10"
    tick(tab, ("head", "logits"))
    tab.heads.value = True
    assert "is changed by the arm" in weighed(tab, pump)[1]
    tab.heads.value = False
    assert weighed(tab, pump)[1] == ""


def test_what_was_weighed_before_the_last_tick_counts_no_longer(tab, pump, desk):
    tick(tab, ("flips", "yes"))
    tab.levels.boxes["flips", "yes"].value = False  # before the answer
    assert "tick at least one level" in weighed(tab, pump)[1]
    assert tab.run.disabled


def test_numbers_are_typed_with_commas_between(tab):
    tab.levels.numbers["warm-up steps"].value = " 2, 4,"
    tab.levels.numbers["turns, degrees"].value = "7.5"
    assert tab.levels.chosen() == {"warm-up steps": [2, 4], "turns, degrees": [7.5]}
    tab.levels.numbers["warm-up steps"].value = ""
    assert tab.levels.chosen() == {"turns, degrees": [7.5]}


def test_of_jobs_that_wait_only_the_last_is_done(desk, pump):
    latest, go, done, told = Latest(desk, "counting"), threading.Event(), [], []

    def job(number):
        go.wait(LONG)
        done.append(number)
        return number

    for number in range(4):
        latest.ask(lambda number=number: job(number), told.append)
    go.set()
    pump(lambda: len(told) == 2)
    assert (done, told) == ([0, 3], [0, 3])

    def broken():
        raise OcclabError("no")

    latest.ask(broken, told.append, lambda error: told.append(str(error)))
    pump(lambda: told[-1] == "no")


# --- running ----------------------------------------------------------------------------------------------------------


def begin(tab, pump, seeds=2):
    tick(tab, ("head", "logits"), ("flips", "yes"))
    tab.seeds.value = seeds
    weighed(tab, pump)
    tab.run.click()
    pump(lambda: tab.sweep is not None)


def test_from_ticks_to_results(tab, pump, desk):
    told = []
    desk.on("runs", lambda: told.append(1))
    begin(tab, pump)
    assert tab.view.value == "results"
    pump(lambda: tab.sweep.state == "finished" and tab.bar.value == 1 and not tab.results._latest.busy)
    assert "Finished: 6 of 6 runs are made." in tab._status.value
    assert len(told) >= 6
    assert read_table(tab.folder / "one-change-head-flips.csv") == tab.sweep.rows
    live = tab.results.figure.figure
    drawn = [x for trace in live.data if trace.mode == "markers" and trace.text for x in trace.x]
    mean = {arm: sum(r["held_out_iou"] for r in tab.sweep.rows if r["arm"] == arm) / 2 for arm in ("head: logits", AS_SET_UP)}
    assert mean["head: logits"] - mean[AS_SET_UP] in [pytest.approx(x) for x in drawn]
    table = tab.results._table.value
    assert "2 of the 6 pairs needed" in table
    assert f"{mean[AS_SET_UP]:.4g}" in table
    assert (tab.cancel.disabled, tab.resume.disabled, threads()) == (True, True, [])


def test_the_figure_stays_the_same_widget(tab, pump, desk):
    begin(tab, pump, seeds=1)
    pump(lambda: tab.results.figure.figure is not None)
    first = tab.results.figure.figure
    pump(lambda: tab.sweep.state == "finished" and not tab.results._latest.busy)
    assert tab.results.figure.figure is first
    desk.dark = True
    desk.tell("theme")
    assert first.layout.template.layout.paper_bgcolor == PAPER


def test_cancel_and_go_on_tomorrow(tab, pump, open_tab, desk):
    begin(tab, pump)
    pump(lambda: tab.sweep.rows)
    tab.cancel.click()
    pump(lambda: tab.sweep.state == "cancelled" and tab.cancel.disabled)
    assert "Cancelled: " in tab._status.value
    made = len(tab.sweep.rows)
    assert 1 <= made < 6
    tab.close()

    tomorrow = open_tab()
    assert [name for name, _ in tomorrow.earlier.options] == ["one-change-head-flips"]
    tomorrow.open.click()
    pump(lambda: tomorrow.sweep is not None)
    assert (tomorrow.sweep.state, len(tomorrow.sweep.rows)) == ("idle", made)
    assert f"{made} of 6 runs are made; about " in tomorrow._status.value  # measured by now
    assert not tomorrow.resume.disabled
    tomorrow.resume.click()
    pump(lambda: tomorrow.sweep.state == "finished")
    assert len(tomorrow.sweep.rows) == 6
    assert threads() == []


def test_one_sweep_at_a_time_and_closing_ends_it(tab, pump):
    begin(tab, pump)
    tab._allow()
    assert (tab.run.disabled, tab.open.disabled) == (True, True)
    tab.close()
    assert threads() == []
    pump(lambda: not tab.run.disabled)


def test_nothing_goes_on_while_another_design_opens(tab, pump):
    begin(tab, pump)
    pump(lambda: tab.sweep.rows)
    tab.cancel.click()
    pump(lambda: not tab.resume.disabled)
    tab.open.click()
    assert (tab.run.disabled, tab.open.disabled, tab.resume.disabled) == (True, True, True)
    before = tab.sweep
    pump(lambda: tab.sweep is not before)
    assert not tab.resume.disabled


def test_closing_the_desk_cancels_what_runs(tab, pump, desk):
    begin(tab, pump, seeds=100)
    pump(lambda: tab.sweep.rows)
    desk.close()
    assert tab.sweep.wait(LONG)
    assert tab.sweep.state == "cancelled"


def test_a_proposed_name_that_is_taken_gets_a_number_and_a_typed_one_is_refused(tab, pump, desk):
    begin(tab, pump, seeds=1)
    pump(lambda: tab.sweep.state == "finished" and not tab.run.disabled)
    for seeds, name in ((2, "one-change-head-flips-2"), (1, "one-change-head-flips")):
        before = tab.sweep
        tab.seeds.value = seeds
        weighed(tab, pump)
        tab.run.click()
        pump(lambda before=before: tab.sweep is not before and tab.sweep.state == "finished" and not tab.run.disabled)
        assert tab.sweep.name == name
    before = tab.sweep
    tab.name.value = "one change, head, flips"
    tab.seeds.value = 3
    weighed(tab, pump)
    tab.run.click()
    pump(lambda: tab._refusal.value)
    assert "kept already; give this one another name" in tab._refusal.value
    assert not tab.run.disabled
    assert tab.sweep is before


def test_a_failed_run_is_said(tab, pump):
    tab._desk.set_up(config=preset("as-it-stood", PROFILES["tiny"], steps=12, clip_norm=None, optimizer="sgd"))
    tab.levels._order = [("learning rate", "0.1")]
    tab.seeds.value = 1
    weighed(tab, pump)
    rows = [
        {"arm": AS_SET_UP, "group": "", "seed": 0, "against": None, "status": "done", "error": None},
        {"arm": "<b>", "group": "", "seed": 0, "against": AS_SET_UP, "status": "failed", "error": "the loss is <i>nan</i>"},
    ]
    numbers = ("held_out_iou", "settled_loss", "half_floor", "floor_distance", "training_iou", "held_out_iou_running")
    more = ("held_out_iou_reestimated", "held_out_best_iou", "held_out_average_precision", "input_iou", "seconds")
    rows = [row | dict.fromkeys((*numbers, *more)) for row in rows]
    design = Design(tuple(one_change({"<b>": {"flip": True}})), (0,))
    tab.results.draw(design, rows)
    pump(lambda: tab.results._failed.value)
    assert "Failed: &lt;b&gt;, seed 0." in tab.results._failed.value
    assert "the loss is &lt;i&gt;nan&lt;/i&gt;" in tab.results._failed.value
    assert "<b></td>" not in tab.results._table.value


def test_a_design_of_other_frames_is_not_gone_on_with(tab, pump, desk, frames):
    begin(tab, pump, seeds=1)
    pump(lambda: tab.sweep.state == "finished" and not tab.open.disabled)
    before = tab.sweep
    desk.set_up(frames=frames[:1])
    tab.open.click()
    pump(lambda: "was begun with other frames (a store)" in tab._refusal.value)
    assert tab.sweep is before


def test_without_frames_nothing_can_be_run(tab, pump, desk):
    desk.set_up(frames=())
    tick(tab, ("flips", "yes"))
    weighed(tab, pump)
    assert (tab.run.disabled, "There are no frames yet" in tab.run.tooltip) == (True, True)


def test_a_hidden_tab_draws_nothing(tab, pump):
    begin(tab, pump, seeds=1)
    tab.hide()
    pump(lambda: tab.sweep.state == "finished")
    pump(lambda: not tab.results._latest.busy)
    assert "Finished" not in tab._status.value
    drawn = tab.results._table.value
    tab.show()
    pump(lambda: not tab.results._latest.busy)
    assert "Finished: 3 of 3 runs are made." in tab._status.value
    assert tab.results._table.value.count("<tr>") > drawn.count("<tr>")
    assert read_design(tab.sweep.path) == tab.sweep.design

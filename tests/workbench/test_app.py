"""The application: its tabs, what stands above them, and what stands in its place where nothing is live."""

import json
import threading

import pytest

from occlab.pages import PLOTLY_MIME, WIDGET_MIME
from occlab.workbench import Workbench, app
from occlab.workbench.app import LIVE, REPLACED

LONG = 120


@pytest.fixture
def bench(tmp_path, config, frames, monkeypatch):
    monkeypatch.setenv("OCCLAB_PROFILE", "tiny")
    made = Workbench(tmp_path / "runs")
    yield made
    made.close()


@pytest.fixture
def ready(bench, config, frames):
    """With a short training set up."""
    _pump_until(bench, lambda: bench.desk.frames)  # the tab's own come first
    bench.desk.set_up(config=config, name="briefly", frames=frames[:2], held_out=frames[2:])
    return bench


def _pump_until(bench, happened):
    for _ in range(100 * LONG):
        bench.desk.pump()
        if happened():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen")


def test_every_tab_opens_and_says_something(ready):
    for name in ready.tabs:
        ready.open(name)
        ready.desk.pump()
    assert ready.desk.error == ("", ""), ready.desk.error[1]


def test_only_the_open_tab_is_shown(bench, monkeypatch):
    calls = []
    for name, tab in bench.tabs.items():
        monkeypatch.setattr(tab, "show", lambda name=name: calls.append(name))
        monkeypatch.setattr(tab, "hide", lambda name=name: calls.append("not " + name))
    bench.open("Look")
    assert [call for call in calls if not call.startswith("not ")] == ["Look"]
    assert len(calls) == len(bench.tabs)


def test_train_this_turns_to_the_training(ready):
    ready.tabs["Set up"].on_train()
    assert ready._book.titles[ready._book.selected_index] == "Train"


def test_the_line_above_the_tabs_follows_the_training(ready):
    session = ready.desk.new_session()
    assert "briefly: idle, step 0 of 40" in ready._status.value
    session.step(3)
    _pump_until(ready, lambda: "paused, step 3 of 40, loss" in ready._status.value)


def test_a_workbench_that_is_opened_again_ends_the_one_before_and_no_other(ready, bench, tmp_path):
    session, elsewhere = ready.desk.new_session(), Workbench(tmp_path / "others")
    session.step(3)
    assert session.wait(LONG)
    session.start()
    again = Workbench(tmp_path / "runs")
    assert (session.state, bench.desk.closed, elsewhere.desk.closed) == ("stopped", True, False)
    bench.desk.tell("setup")  # as where frames come late
    assert REPLACED in bench._status.value
    assert bench._book.layout.display == "none"
    made = session.steps_made
    _pump_until(again, lambda: again.desk.frames)
    again.desk.set_up(frames=ready.desk.frames, held_out=ready.desk.held_out)
    further = again.desk.go_on(session.folder)
    further.step(1)
    assert further.wait(LONG)
    assert further.steps_made == made + 1 >= 4  # it kept every step
    again.close()
    elsewhere.close()


def test_a_workbench_whose_making_was_interrupted_is_in_nobody_s_way(tmp_path, monkeypatch):
    monkeypatch.setenv("OCCLAB_PROFILE", "tiny")
    with monkeypatch.context() as context:
        context.setattr(app, "Look", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt) as kept:  # as a notebook keeps it, and with it the half of a workbench
            Workbench(tmp_path / "runs")
    Workbench(tmp_path / "runs").close()
    del kept


def test_a_failure_that_no_tab_takes_care_of_is_a_card_that_can_be_dismissed(bench):
    bench.desk.fail(ValueError("<b>broken</b>"))
    assert "&lt;b&gt;broken" in bench._errors.value
    assert "<details>" in bench._errors.value
    assert bench._error_row.layout.display == "flex"
    bench._dismiss.click()
    assert bench._error_row.layout.display == "none"


def test_the_theme_of_the_page_reaches_the_tabs(bench):
    told = []
    bench.desk.on("theme", lambda: told.append(bench.desk.dark))
    page = next(child for child in bench.widget.children if hasattr(child, "dark"))
    page.dark = True
    assert told == [True]


def test_without_a_browser_a_picture_and_a_sentence_stand_in_its_place(ready):
    shown = ready._repr_mimebundle_()
    assert WIDGET_MIME in shown
    assert shown["text/plain"] == LIVE
    recorded = json.loads(json.dumps(shown[PLOTLY_MIME]))  # as it travels
    assert recorded["layout"]["title"]["subtitle"]["text"] == LIVE
    assert {trace["name"] for trace in recorded["data"] if trace.get("name")} >= {"full-as-it-stood-seed0"}
    session = ready.desk.new_session()
    session.step(3)
    assert session.wait(LONG)
    own = ready._repr_mimebundle_()[PLOTLY_MIME]
    assert "briefly" in {trace.get("name") for trace in own["data"]}

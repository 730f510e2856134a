"""The Train tab, as a person uses it: which buttons can be pressed when, what they do, and what the tab says."""

import threading
from dataclasses import replace

import pytest

from occlab import OcclabError
from occlab.training import Batches, load_run
from occlab.viz import dark
from occlab.workbench import charts, ui
from occlab.workbench.desk import Desk
from occlab.workbench.run_folder import hold, release
from occlab.workbench.train import Train

LONG = 120


@pytest.fixture
def desk(make_desk, config, monkeypatch):
    monkeypatch.setattr(charts, "PATIENCE", 0.0)  # there is no browser to wait for
    made = make_desk(config=config, name="repaired", source="a test")
    made.on("error", lambda: pytest.fail(made.error[1]))
    return made


@pytest.fixture
def tab(desk):
    made = Train(desk)
    made.show()
    return made


def until(tab, happened):
    for _ in range(100 * LONG):
        tab.desk.pump()
        if happened():
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"it did not happen; the tab says {words(tab)}")


def state(tab):
    return tab.desk.session.state if tab.desk.session else ""


def press(tab, name, then):
    """Press a button and wait for a state, and until the buttons are those of it."""
    assert not tab.buttons[name].disabled, name
    tab.buttons[name].click()
    until(tab, lambda: state(tab) == then and not tab._busy)
    tab.desk.pump()


def steps_made(tab, number):
    while tab.desk.session is None or tab.desk.session.steps_made < number:
        made = tab.desk.session.steps_made if tab.desk.session else 0
        tab.buttons["step"].click()
        until(tab, lambda: tab.desk.session.steps_made > made and state(tab) == "paused" and not tab.buttons["step"].disabled)  # noqa: B023


def usable(tab):
    return {name for name, button in tab.buttons.items() if not button.disabled}


def words(tab):
    return " ".join(w.value for w in (tab._state, tab._words, tab._readouts, tab._cards, tab._rate_note))


def losses(tab):
    return next(trace for trace in tab._curves.figure.data if trace.name == "loss").y


def test_before_the_first_training_one_can_start_or_make_a_step(tab):
    assert usable(tab) == {"start", "step"}
    assert tab.rate.disabled
    assert "no training yet" in words(tab)
    assert len(losses(tab)) == 0


def test_start_trains_to_the_end_and_draws_it_over_its_floors(tab, unbroken):
    press(tab, "start", "finished")
    steps = tab.desk.session.steps
    assert [s.loss for s in steps] == [s.loss for s in unbroken.steps]
    assert losses(tab).tolist() == pytest.approx([s.loss for s in steps])
    assert (tab._bar.value, tab._bar.max) == (40, 40)
    assert f"{steps[-1].loss:.4f}" in words(tab)
    until(tab, lambda: "being computed" not in words(tab))
    ladder = unbroken.summary["ladder"]
    lines = [shape.y0 for shape in tab._curves.figure.layout.shapes if shape.yref == "y"]
    assert sorted(lines) == pytest.approx(sorted(ladder.values()))
    assert unbroken.summary["floor_name"].split(" >= ")[0] in words(tab)
    assert f"{unbroken.summary['settled_loss']:.4f}" in words(tab)
    assert f"{unbroken.summary['iou']:.3f}" in words(tab)
    assert usable(tab) == {"reset"}
    assert tab.rate.disabled


def test_what_can_be_pressed_in_every_state(tab):
    steps_made(tab, 2)
    assert usable(tab) == {"step", "resume", "stop", "reset"}
    assert "paused" in words(tab)
    assert "step 2 of 40" in words(tab)
    press(tab, "stop", "stopped")
    assert usable(tab) == {"start", "step", "reset"}
    press(tab, "reset", "idle")
    assert usable(tab) == {"start", "step"}
    assert len(losses(tab)) == 0


def test_pause_holds_resume_goes_on_and_reset_repeats_the_same_losses(tab, unbroken):
    tab.buttons["start"].click()
    until(tab, lambda: len(tab.desk.session.steps) >= 2)
    assert usable(tab) <= {"pause", "stop", "reset"}
    tab.buttons["pause"].click()
    until(tab, lambda: state(tab) in ("paused", "finished"))
    if state(tab) == "paused":
        press(tab, "resume", "finished")
    assert losses(tab).tolist() == pytest.approx([s.loss for s in unbroken.steps])
    press(tab, "reset", "idle")
    steps_made(tab, 3)
    assert losses(tab).tolist() == pytest.approx([s.loss for s in unbroken.steps[:3]])


def test_a_stop_does_not_wait_for_the_step_in_progress(tab, monkeypatch):
    entered, go, frame = threading.Event(), threading.Event(), Batches.frame

    def slow(self, *arguments):
        if threading.current_thread().name == "occlab repaired":
            entered.set()
            go.wait(LONG)
        return frame(self, *arguments)

    monkeypatch.setattr(Batches, "frame", slow)
    tab.buttons["start"].click()
    try:
        assert entered.wait(LONG)
        until(tab, lambda: "stop" in usable(tab))
        tab.buttons["stop"].click()  # comes back although the step cannot end yet
        assert "stopping after the step in progress" in words(tab)
        assert usable(tab) == set()
    finally:
        go.set()
    until(tab, lambda: state(tab) == "stopped")
    until(tab, lambda: usable(tab) == {"start", "step", "reset"})


@pytest.mark.parametrize("text", ["fast", "", "0", "-1", "nan", "<b>"])
def test_a_rate_that_is_none_is_one_sentence_that_stays(tab, text):
    steps_made(tab, 1)
    tab.rate.value = text
    assert "number above 0" in tab._rate_note.value
    assert "<b>" not in tab._rate_note.value
    steps_made(tab, 2)
    assert "number above 0" in tab._rate_note.value
    assert tab.desk.session.learning_rate == 1e-3
    tab.rate.value = "0.002"
    assert "number above 0" not in tab._rate_note.value


def test_a_moved_rate_acts_and_the_tab_says_where_the_run_goes_on(tab):
    assert tab.rate.value == "0.001"
    steps_made(tab, 2)
    home = tab.desk.session.folder
    tab.rate.value = "3e-2"
    assert "folder of its own" in tab._rate_note.value
    steps_made(tab, 4)
    assert [s.learning_rate for s in tab.desk.session.steps] == [1e-3, 1e-3, 3e-2, 3e-2]
    assert f"{home.name}-2" in tab._rate_note.value
    press(tab, "reset", "idle")
    assert (tab.rate.value, tab._rate_note.value) == ("0.001", "")
    assert tab.desk.session.folder == home


def test_a_failure_is_a_card_with_a_folded_traceback_and_the_controls_stay(tab, monkeypatch, unbroken):
    def broken(*_):
        raise OcclabError("frame <script>alert(1)</script> does not fit")

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "frame", broken)
        press(tab, "start", "failed")
    card = tab._cards.value
    assert "frame &lt;script&gt;" in card
    assert "<script>" not in card
    assert "<details>" in card
    assert "Traceback" in card
    assert usable(tab) == {"start", "reset"}
    press(tab, "start", "finished")
    assert tab._cards.value == ""
    assert losses(tab).tolist() == pytest.approx([s.loss for s in unbroken.steps])


def test_without_frames_it_says_what_to_do(tab):
    tab.desk.set_up(frames=(), held_out=())
    tab.buttons["start"].click()
    assert tab.desk.session is None
    assert "no frames to train on" in tab._cards.value
    assert usable(tab) == {"start", "step"}


def test_while_somebody_else_trains_in_the_folder_it_waits_and_says_so(tab):
    lock = hold(tab.desk.new_session().folder)
    try:
        press(tab, "start", "waiting")
        assert "another session or process trains in this folder" in tab._cards.value
        assert "waiting" in tab._state.value
        assert "stop" in usable(tab)
        press(tab, "stop", "stopped")
        press(tab, "reset", "stopped")
        assert "another session or process" in tab._cards.value, "it cannot be emptied under them"
    finally:
        release(lock)
    press(tab, "start", "finished")
    assert tab._cards.value == ""


def test_a_changed_set_up_is_offered_as_a_new_run(tab, config):
    steps_made(tab, 2)
    first = tab.desk.session
    assert tab._changed_row.layout.display == "none"
    tab.desk.set_up(config=replace(config, steps=3), name="<i>brief</i>")
    assert tab._changed_row.layout.display == "flex"
    assert "&lt;i&gt;brief" in tab._changed.value
    assert tab.desk.session is first
    tab._train_new.click()
    until(tab, lambda: state(tab) == "finished")
    assert tab.desk.session is not first
    assert len(tab.desk.session.steps) == 3
    assert tab._changed_row.layout.display == "none"
    assert len(load_run(first.folder).steps) == 2, "the first keeps its folder"


def test_runs_that_were_begun_are_listed_and_go_on(tab, config, frames, unbroken):
    steps_made(tab, 4)
    press(tab, "stop", "stopped")
    folder = tab.desk.session.folder
    assert tab._unfinished_row.layout.display == "none", "the one in hand has its start button"
    later = Desk(tab.desk.root)  # as after a restart of the kernel
    try:
        later.set_up(config=replace(config, steps=3), frames=frames[:2], held_out=frames[2:])
        other = Train(later)
        other.show()
        until(other, lambda: other.unfinished.options)
        assert [of for _, of in other.unfinished.options] == [folder]
        assert "step 4 of 40" in other.unfinished.label
        other.go_on.click()
        until(other, lambda: state(other) == "finished")
        assert losses(other).tolist() == pytest.approx([s.loss for s in unbroken.steps])
        until(other, lambda: not other.unfinished.options)
    finally:
        later.close()


def test_a_run_of_other_frames_cannot_go_on_and_says_why(tab, frames):
    steps_made(tab, 1)
    press(tab, "stop", "stopped")
    later = Desk(tab.desk.root)
    try:
        later.set_up(frames=frames[2:])
        other = Train(later)
        other.show()
        until(other, lambda: other.unfinished.options)
        other.go_on.click()
        assert "needs the frames it was begun with" in other._cards.value
        assert usable(other) == {"start", "step"}
    finally:
        later.close()


def test_a_hidden_tab_draws_nothing_and_catches_up(tab, monkeypatch):
    tab.hide()
    drawn = []
    monkeypatch.setattr(tab._curves, "draw", lambda steps: drawn.append(len(steps)))
    tab.desk.new_session().start()
    assert tab.desk.session.wait(LONG)
    until(tab, lambda: not tab.desk._behind)
    assert drawn == []
    tab.show()
    assert drawn[-1] == 40


def test_an_old_session_s_floors_are_not_drawn_for_a_new_one(tab, config, unbroken):
    tab.desk.new_session()
    tab.desk.set_up(config=replace(config, targets="hard"))
    tab.desk.new_session()  # before the floors of the first have come
    for thread in tab.desk._threads:
        thread.join(LONG)
    tab.desk.pump()
    assert tab._ladder is not None
    assert sorted(tab._ladder.rungs.values()) != pytest.approx(sorted(unbroken.summary["ladder"].values()))


def test_the_pinned_run_is_drawn_under_this_one(tab, unbroken):
    steps_made(tab, 1)
    tab.desk.reference = unbroken.folder
    tab.desk.tell("reference")
    beside = next(trace for trace in tab._curves.figure.data if trace.name == "reference loss")
    until(tab, lambda: len(beside.y))
    assert beside.y.tolist() == pytest.approx([s.loss for s in unbroken.steps])
    tab.desk.reference = None
    tab.desk.tell("reference")
    assert len(beside.y) == 0


def test_the_curves_follow_the_theme(tab):
    tab.desk.dark = True
    tab.desk.tell("theme")
    assert tab._curves.figure.layout.template.layout.paper_bgcolor == dark.PAPER


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "1 s"), (42.4, "42 s"), (150, "2 min"), (9000, "2.5 h")])
def test_times_in_words(seconds, said):
    assert ui.duration(seconds) == said


def test_every_control_says_what_it_is(tab):
    controls = [*tab.buttons.values(), tab.rate, tab.unfinished, tab.go_on, tab._train_new]
    for control in controls:
        assert control.tooltip
        assert control.description

"""Controls that come while a step is being made, and a pause that is given back."""

import threading
from types import SimpleNamespace

import pytest

from occlab.workbench.open_run import OpenRun
from occlab.workbench.session import Session

LONG = 120


@pytest.fixture
def gate(monkeypatch):
    """Every step says that it has begun (``inside``), and waits until it may be made (``go``)."""
    made, make_step = SimpleNamespace(inside=threading.Event(), go=threading.Event()), OpenRun.make_step

    def waiting(run):
        made.inside.set()
        assert made.go.wait(LONG)
        return make_step(run)

    monkeypatch.setattr(OpenRun, "make_step", waiting)
    yield made
    made.go.set()


@pytest.fixture
def held(gate):
    """Has a session begun, and held while it makes its first step; what gives the pause back is returned after that step."""

    def hold(session, begin):
        begin()
        assert gate.inside.wait(LONG)
        give_back = session.hold()
        gate.go.set()
        assert session.wait(LONG)
        return give_back

    return hold


def test_a_network_that_is_asked_for_within_a_step_is_named_by_the_steps_it_has_made(make, gate, until):
    session, found = make(steps=4), []
    session.start()
    assert gate.inside.wait(LONG)
    asker = threading.Thread(target=lambda: found.append(session.model()[0]))
    asker.start()
    until(lambda: len(session._questions) == 1)
    assert session.steps_made == 0
    gate.go.set()
    asker.join()
    assert found == [1]


def test_a_rate_that_comes_after_the_last_step_does_not_train_a_finished_run_again(make, gate, tmp_path):
    session = make(steps=1)
    session.start()
    assert gate.inside.wait(LONG)
    session.learning_rate = 0.02
    gate.go.set()
    assert session.wait(LONG)
    assert (session.state, session.learning_rate) == ("finished", session.steps[0].learning_rate)
    session.start()
    assert session.wait(LONG)
    assert [path.parent for path in tmp_path.glob("*/config.json")] == [session.folder]


def test_a_rate_that_is_turned_within_a_step_is_that_of_the_next(make, gate):
    session = make(steps=4)
    before = session.learning_rate
    session.start()
    assert gate.inside.wait(LONG)
    session.learning_rate = 0.02
    gate.go.set()
    assert session.wait(LONG)
    assert session.state == "finished"
    assert [step.learning_rate for step in session.steps] == [before, 0.02, 0.02, 0.02]


def test_steps_that_a_stop_or_the_end_left_are_not_made_later(make, gate, steps_to):
    session = make(steps=4)
    session.step(3)
    assert gate.inside.wait(LONG)
    session.stop(wait=False)
    gate.go.set()
    session.stop()
    steps_to(session, 2)
    session.step(9)
    assert session.wait(LONG)
    assert session.state == "finished"
    session.reset()
    steps_to(session, 1)


# --- a pause that is given back ---------------------------------------------------------------------------------------


def test_a_pause_that_is_given_back_before_it_holds_never_holds(make, gate):
    session, states = make(steps=4), []
    session.listen(lambda s: states.append(s.state))
    session.start()
    assert gate.inside.wait(LONG)
    session.hold()()
    gate.go.set()
    assert session.wait(LONG)
    assert session.state == "finished"
    assert "paused" not in states


def test_a_training_that_is_held_goes_on_when_it_is_given_back(make, held):
    session = make(steps=4)
    give_back = held(session, session.start)
    assert (session.state, session.steps_made) == ("paused", 1)
    give_back()
    assert session.wait(LONG)
    assert session.state == "finished"


@pytest.mark.parametrize(
    ("press", "state", "made"),
    [(Session.stop, "stopped", 1), (Session.pause, "paused", 1), (Session.step, "paused", 2), (Session.start, "finished", 4)],
)
def test_what_a_person_does_while_it_is_held_stays_done(make, held, press, state, made):
    session = make(steps=4)
    give_back = held(session, session.start)
    press(session)
    give_back()
    assert session.wait(LONG)
    assert (session.state, session.steps_made) == (state, made)


def test_steps_that_were_asked_for_before_are_made_after_and_no_more(make, held):
    session = make(steps=40)
    give_back = held(session, lambda: session.step(3))
    assert session.steps_made == 1
    give_back()
    assert session.wait(LONG)
    assert (session.state, session.steps_made) == ("paused", 3)


def test_giving_back_starts_nothing_that_has_ended(make, held):
    session = make(steps=1)
    give_back = held(session, lambda: session.step(3))
    assert session.state == "finished"  # before the pause took effect
    thread = session._thread
    give_back()
    assert (session.state, session._thread) == ("finished", thread)
    assert (session._pausing, session._singles) == (None, 0)

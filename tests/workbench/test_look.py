"""The Look tab, as a person uses it: what there is to look at, and that what is shown is what was predicted."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from occlab.training import Batches, make_fabric, predict
from occlab.viz import theme
from occlab.workbench import look
from occlab.workbench.look import NOW, Look
from occlab.workbench.run_folder import hold, release
from occlab.workbench.session import Session

LONG = 120


@pytest.fixture
def desk(make_desk, config):
    made = make_desk(config=config, name="repaired", source="a test")
    made.on("error", lambda: pytest.fail(made.error[1]))
    return made


@pytest.fixture
def tab(desk):
    made = Look(desk)
    made.show()
    return made


def until(tab, happened):
    for _ in range(100 * LONG):
        tab.desk.pump()
        if happened():
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"it did not happen; the tab says {tab.note.value!r}")


def settle(tab):
    """Wait until nothing is being fetched."""
    until(tab, lambda: not tab._latest.busy)
    return tab


def trained(tab, to_the_end):
    to_the_end(tab.desk.new_session())
    return settle(tab)


def left(tab):
    return tab._view.figure.layout.annotations[0].text


def counts_say(tab, outcome):
    return all(
        f"{n:,} {name}" in left(tab) for n, (name, _) in zip(theme.score(outcome), theme.OUTCOMES.values(), strict=False)
    )


def test_before_a_training_it_says_what_to_do(tab):
    assert "Set up" in tab.note.value
    assert tab._view is None
    assert tab._body.layout.display == "none"
    for button in tab.cameras.values():  # and nothing breaks
        button.click()
    tab.threshold.value = 0.3


def test_a_finished_training_shows_its_last_prediction_beside_the_target(tab, to_the_end, frames):
    trained(tab, to_the_end)
    session = tab.desk.session
    assert tab.step.options == (0, 10, 40, NOW)
    assert tab.step.value == NOW
    assert "after 40 steps, p &gt; 0.50" in left(tab)
    target = Batches(frames[:1], session.config).frame(0).target[0]
    outcome = theme.outcomes(session.snapshots[40], target, session.config.grid)
    assert counts_say(tab, outcome)
    assert f"IoU {theme.score(outcome)[3]:.3f}" in left(tab)
    assert f"{int((target > 0).sum()):,} of {target.numel():,} voxels" in tab._view.figure.layout.annotations[1].text
    assert frames[0].name in tab.note.value


def test_sliders_change_the_picture(tab, to_the_end):
    trained(tab, to_the_end)
    session, target = tab.desk.session, tab.picture.target
    tab.step.value = 10
    settle(tab)
    assert not tab.follow.value
    assert "after 10 steps" in left(tab)
    assert torch.equal(tab.picture.p, session.snapshots[10])
    tab.threshold.value = 0.25
    outcome = theme.outcomes(session.snapshots[10], target, session.config.grid, None, 0.25)
    assert counts_say(tab, outcome)
    assert tab._histogram.figure.layout.shapes[1].x0 == 0.25
    tab.height.value = 13
    assert np.array_equal(np.asarray(tab._plan.figure.data[0].z).T, outcome[13])
    tab.follow.value = True
    settle(tab)
    assert tab.step.value == NOW
    assert "after 40 steps" in left(tab)


def test_the_height_begins_where_the_target_holds_most(tab, to_the_end):
    trained(tab, to_the_end)
    assert tab.height.max == tab.picture.target.shape[0] - 1
    assert tab.height.value == int(tab.picture.target.sum(dim=(1, 2)).argmax())


def test_other_frames_are_predicted_by_the_network_as_it_stands_and_say_so(tab, to_the_end, frames):
    trained(tab, to_the_end)
    session = tab.desk.session
    names = [label for label, _ in tab.frame.options]
    assert names == [f"{frames[0].name} (trained on)", f"{frames[1].name} (trained on)", f"{frames[2].name} (held out)"]
    tab.frame.value = 2
    settle(tab)
    assert tab.step.disabled
    assert "the first frame only" in tab.note.value
    batch = Batches(frames[2:], session.config).frame(0)
    expected = predict(session.model()[1], batch, make_fabric(session.config), running_statistics=False)[0]
    assert torch.equal(tab.picture.p, expected)
    assert torch.equal(tab.picture.target, batch.target[0] > 0)
    tab.frame.value = 0
    settle(tab)
    assert not tab.step.disabled
    assert "the first frame only" not in tab.note.value
    assert torch.equal(tab.picture.p, session.snapshots[40])


def test_the_legend_hides_what_it_names(tab, to_the_end):
    trained(tab, to_the_end)
    tab.step.value = 10
    settle(tab)
    tab.threshold.value = 0.4
    drawn = set(tab._view.figure.data[0].intensity)
    assert drawn == {1, 2, 3}
    tab.legend[3].value = False
    assert set(tab._view.figure.data[0].intensity) == {1, 2}
    assert "false alarm (hidden)" in left(tab)
    for k, (name, colour) in theme.OUTCOMES.items():
        assert name in tab.legend[k].description
        assert colour in tab.legend[k].description


def test_camera_buttons(tab, to_the_end):
    trained(tab, to_the_end)
    scene = tab._view.figure.layout.scene2
    tab.cameras["above"].click()
    above = scene.camera.eye.z
    tab.cameras["nearer"].click()
    assert scene.camera.eye.z < above
    tab.cameras["farther"].click()
    assert scene.camera.eye.z == pytest.approx(above)


def test_a_paused_training_is_followed_and_kept(tab, steps_to):
    session = tab.desk.new_session()
    steps_to(session, 3)
    settle(tab)
    until(tab, lambda: tab.picture is not None and tab.picture.step == 3)
    assert 3 in session.snapshots  # what was looked at can be looked at again
    assert 3 in tab.step.options
    assert torch.equal(tab.picture.p, session.snapshots[3])
    tab.follow.value = False
    steps_to(session, 5)
    settle(tab)
    assert tab.picture.step == 3
    tab.follow.value = True
    settle(tab)
    assert tab.picture.step == 5


def test_steps_stay_out_of_reach_while_another_frame_is_shown(tab, steps_to):
    session = tab.desk.new_session()
    steps_to(session, 3)
    settle(tab)
    tab.frame.value = 1
    settle(tab)
    assert tab.step.disabled
    steps_to(session, 12)  # a snapshot on the way
    settle(tab)
    until(tab, lambda: tab.picture.step == 12)
    assert tab.picture.frame == 1
    assert 10 in tab.step.options
    assert tab.step.disabled


def test_the_step_is_that_of_the_weights_however_fast_it_trains(tab, steps_to, monkeypatch):
    session, model = tab.desk.new_session(), Session.model
    steps_to(session, 3)
    settle(tab)
    until(tab, lambda: tab.picture is not None and tab.picture.step == 3)
    tab.follow.value = False

    def and_steps_after(session):
        found = model(session)
        steps_to(session, 5)
        return found

    monkeypatch.setattr(Session, "model", and_steps_after)
    tab.frame.value = 1
    settle(tab)
    assert (tab.picture.frame, tab.picture.step) == (1, 3)
    assert "after 3 steps" in left(tab)


@pytest.mark.parametrize("frame", [0, 1])
def test_of_a_stopped_network_the_weights_of_its_checkpoint_are_shown_and_named(tab, steps_to, monkeypatch, frame):
    monkeypatch.setattr("occlab.workbench.open_run.QUICK_SAVE", 0.0)  # as of a network that is large
    session = tab.desk.new_session()
    steps_to(session, 4)
    session.stop()
    settle(tab)
    tab.frame.value = frame
    settle(tab)
    until(tab, lambda: tab.picture.frame == frame and tab.picture.step == 0)
    assert "after 0 steps" in left(tab)


def test_a_reset_while_a_snapshot_is_fetched_breaks_nothing(tab, to_the_end, monkeypatch):
    trained(tab, to_the_end)
    session, snapshots, here = tab.desk.session, Session.snapshots, threading.current_thread()
    resets = [session.reset]

    def overtaken(session):
        found = snapshots.fget(session)
        if threading.current_thread() is not here and resets:
            resets.pop()()
        return found

    monkeypatch.setattr(Session, "snapshots", property(overtaken))
    tab.step.value = 10
    until(tab, lambda: not resets)
    settle(tab)
    assert tab.desk.error == ("", "")


def test_following_keeps_few_looks_and_never_misses_the_end(tab, monkeypatch):
    monkeypatch.setattr(look, "FOLLOW_EVERY", 0.0)
    monkeypatch.setattr(look, "MOST_LOOKS", 4)
    session = tab.desk.new_session()
    session.start()
    until(tab, lambda: session.state == "finished" and tab.picture is not None and tab.picture.step == 40)
    assert len(session.snapshots) <= 3 + 4 + 1  # those of the configuration, and what following added


def test_a_hidden_tab_fetches_nothing_and_catches_up(tab, to_the_end):
    tab.hide()
    to_the_end(tab.desk.new_session())
    tab.desk.pump()
    assert tab.picture is None
    assert not tab._latest.busy
    tab.show()
    settle(tab)
    assert tab.picture.step == 40


def test_another_training_replaces_the_picture(tab, to_the_end, config):
    trained(tab, to_the_end)
    tab.frame.value = 1
    settle(tab)
    coarse = replace(config, steps=4, snapshot_steps=(0, 4))
    tab.desk.set_up(config=coarse, name="other")
    tab.desk.new_session()
    assert tab._body.layout.display == "none"
    to_the_end(tab.desk.session)
    settle(tab)
    until(tab, lambda: tab.picture is not None and tab.picture.step == 4)
    assert tab.picture.session is tab.desk.session
    assert tab.frame.value == 1
    assert tab.step.options == (0, 4, NOW)


def test_a_run_that_is_taken_says_what_it_waits_for(tab):
    session = tab.desk.new_session()
    lock = hold(session.folder)
    try:
        session.start()
        until(tab, lambda: session.state == "waiting")
        until(tab, lambda: "Nothing can be predicted" in tab.note.value)
    finally:
        session.stop()
        release(lock)


def test_names_are_escaped(tab, to_the_end, frames):
    wild = [replace(frame, name=f"<img src=x onerror=alert({i})>") for i, frame in enumerate(frames[:2])]
    tab.desk.set_up(frames=wild, held_out=())
    trained(tab, to_the_end)
    assert "<img" not in tab.note.value
    assert "&lt;img" in tab.note.value


def test_it_follows_the_theme(tab, to_the_end):
    trained(tab, to_the_end)
    light = tab._view.figure.layout.template.layout.paper_bgcolor
    tab.hide()
    tab.desk.dark = True
    tab.desk.tell("theme")
    tab.show()
    for view in (tab._view, tab._histogram, tab._plan):
        assert view.figure.layout.template.layout.paper_bgcolor != light

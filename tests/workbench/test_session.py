"""Steering a training: what the hand does must not change what comes out, nor lose any of it."""

import json
from dataclasses import replace

import pytest
import torch

from occlab import OcclabError
from occlab.training import Batches, build_model, load_run, train
from occlab.workbench.open_run import OpenRun
from occlab.workbench.run_folder import checkpoint_step
from occlab.workbench.session import Session

LONG = 120


def losses(steps):
    return [step.loss for step in steps]


def content(folder):
    """The files of a run, without what a clock wrote."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*") if p.is_file() and p.name != ".lock"}
    rows = [json.loads(line) for line in found.pop("scalars.json").splitlines()]
    summary = json.loads(found.pop("summary.json"))
    return found, [{k: v for k, v in row.items() if k != "time"} for row in rows], summary | {"seconds": None}


def test_a_run_steered_by_hand_is_the_unbroken_one_byte_for_byte(session, unbroken, steps_to, to_the_end, until):
    assert session.state == "idle"
    steps_to(session, 3)  # a start with single steps
    session.look()
    steps_to(session, 7)
    session.resume()
    until(lambda: session.steps_made >= 9)
    session.pause()
    assert session.wait(LONG)
    assert session.state in ("paused", "finished")
    session.model()
    to_the_end(session)
    for path in (session.folder / "snapshots").iterdir():
        if path.stem not in ("000000", "000010", "000040"):
            path.unlink()  # those that were asked for by hand
    assert content(session.folder) == content(unbroken.folder)


def test_stop_keeps_the_run_and_start_goes_on_to_the_same_losses(session, unbroken, steps_to, to_the_end):
    steps_to(session, 6)
    session.stop()
    assert (session.state, len(session.steps)) == ("stopped", 6)
    assert losses(load_run(session.folder).steps) == losses(unbroken.steps[:6])
    (session.folder / "checkpoint.safetensors").unlink()  # as if there had been no time for it: all is repeated
    to_the_end(session)
    assert losses(session.steps) == losses(unbroken.steps)
    for a, b in zip(load_run(session.folder).model().parameters(), unbroken.model().parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_command_line_goes_on_with_what_a_session_left(session, config, frames, unbroken, tmp_path, steps_to):
    steps_to(session, 6)
    session.stop()
    run = train(config, frames[:2], frames[2:], root=tmp_path, progress=False)
    assert run.folder == session.folder
    assert losses(run.steps) == losses(unbroken.steps)


def test_a_finished_run_is_found_and_not_trained_again(make, unbroken, config, frames, to_the_end):
    session = Session(config, frames[:2], frames[2:], root=unbroken.folder.parent, name="another name")
    stamp = (unbroken.folder / "scalars.json").stat().st_mtime_ns
    to_the_end(session)
    assert session.folder == unbroken.folder
    assert losses(session.steps) == losses(unbroken.steps)
    assert (session.steps_made, session.remaining_seconds) == (40, 0.0)
    assert list(session.snapshots) == [0, 10, 40]
    for step, p in unbroken.snapshots().items():
        assert torch.equal(session.snapshots[step], p)
    assert (unbroken.folder / "scalars.json").stat().st_mtime_ns == stamp
    with pytest.raises(OcclabError, match="reset it first"):
        session.learning_rate = 1.0


def test_reset_goes_back_to_the_same_weights(session, config, frames, steps_to):
    first = session.model()[1].state_dict()
    expected = build_model(config, Batches(frames[:2], config)).state_dict()
    assert all(torch.equal(first[name], value) for name, value in expected.items())
    steps_to(session, 3)
    moved, before = session.model()[1].state_dict(), losses(session.steps)
    assert not all(torch.equal(moved[name], value) for name, value in first.items())
    session.reset()
    assert (session.state, session.steps, len(session.snapshots), session.steps_made) == ("idle", [], 0, 0)
    again = session.model()[1].state_dict()
    assert all(torch.equal(again[name], value) for name, value in first.items())
    steps_to(session, 3)
    assert losses(session.steps) == before


def test_a_finished_run_stays_when_it_is_reset(make, to_the_end):
    session = make(steps=4)
    to_the_end(session)
    finished, before = session.folder, losses(session.steps)
    session.reset()
    to_the_end(session)
    assert losses(session.steps) == before
    assert session.folder != finished
    assert load_run(finished).summary is not None
    second = session.folder
    session.reset()  # nothing is lost here: the same run lies in the first folder
    assert (session.folder, session.steps) == (second, [])
    other = make(steps=4)
    to_the_end(other)
    assert other.folder == finished


def test_a_moved_rate_acts_at_the_next_step_and_is_recorded(session, unbroken, steps_to):
    assert session.learning_rate == unbroken.config.learning_rate
    steps_to(session, 12)
    session.learning_rate = 0.01
    assert session.learning_rate == 0.01
    steps_to(session, 13)
    home, own = unbroken.folder.name, session.folder
    assert own.name == f"{home}-2"
    assert [s.learning_rate for s in session.steps[11:]] == [1e-3, 0.01]
    assert session.steps[12].loss == unbroken.steps[12].loss  # made before the first update at the new rate
    steps_to(session, 14)
    assert session.steps[13].loss != unbroken.steps[13].loss
    session.learning_rate = 0.02
    steps_to(session, 15)
    assert session.folder == own  # one folder for one history
    stored = json.loads((own / "config.json").read_text())
    by_hand = [{"after_step": 12, "learning_rate": 0.01}, {"after_step": 14, "learning_rate": 0.02}]
    assert stored["rates_by_hand"] == by_hand
    assert stored["run"] == home.rpartition("-")[2]
    assert losses(load_run(own).steps) == losses(session.steps)
    assert list(session.snapshots) == list(load_run(own).snapshots()) == [0, 10]
    assert losses(load_run(own.with_name(home)).steps) == losses(unbroken.steps[:12])  # intact beside it
    kept = losses(session.steps)
    session.reset()
    assert (session.folder.name, session.learning_rate) == (home, 1e-3)
    assert losses(load_run(own).steps) == kept


def test_a_run_with_moved_rates_is_not_found_by_its_configuration(session, make, unbroken, to_the_end):
    session.learning_rate = 0.01  # before the first step
    to_the_end(session)
    assert {s.learning_rate for s in session.steps} == {0.01}
    assert load_run(session.folder).summary is not None
    other = make()
    to_the_end(other)
    assert other.folder.name == unbroken.folder.name
    assert losses(other.steps) == losses(unbroken.steps)
    third = make()
    third.learning_rate = 0.02  # the finished run was made at another rate
    to_the_end(third)
    assert third.folder not in (session.folder, other.folder)
    assert {s.learning_rate for s in third.steps} == {0.02}


def test_a_rate_moved_while_a_killed_run_repeats_its_steps_leaves_them_out(session, unbroken, steps_to):
    steps_to(session, 9)
    session.stop()
    (session.folder / "checkpoint.safetensors").unlink()
    session.step(4)
    assert session.wait(LONG)
    assert session.steps_made == 4
    assert len(session.steps) == 9
    session.learning_rate = 0.01
    steps_to(session, 6)
    assert [s.learning_rate for s in load_run(session.folder).steps] == [1e-3] * 4 + [0.01] * 2


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), "fast"])
def test_a_rate_that_is_none_is_one_sentence(session, rate):
    with pytest.raises(OcclabError, match="learning_rate must be a finite number above 0"):
        session.learning_rate = rate
    assert session.learning_rate == 1e-3


def test_a_loss_that_is_no_number_is_a_state_and_the_session_goes_on(make, monkeypatch, steps_to):
    session = make()
    steps_to(session, 3)
    session.stop()
    first, frame = losses(session.steps), Batches.frame

    def poisoned(self, i, *rest):
        batch = frame(self, i, *rest)
        return replace(batch, target=batch.target * torch.nan)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "frame", poisoned)
        session.start()
        assert session.wait(LONG)
    assert session.state == "failed"
    assert session.message == str(session.error)
    assert session.message.startswith("training stopped at step 4: the loss is nan")
    assert "NotFiniteError" in session.traceback
    assert losses(load_run(session.folder).steps) == first
    session.reset()
    assert (session.state, session.error, session.message) == ("idle", None, "")
    steps_to(session, 3)
    assert losses(session.steps) == first


def test_bad_frames_and_damaged_files_fail_in_one_sentence_and_leave_the_controls_usable(session, tmp_path, steps_to):
    empty = Session(session.config, [], root=tmp_path)
    empty.start()
    empty.wait(LONG)
    assert (empty.state, empty.message) == ("failed", "training needs at least one frame, got none")
    steps_to(session, 2)
    session.stop()
    (session.folder / "scalars.json").write_text("not json\n")
    session.start()
    session.wait(LONG)
    assert session.state == "failed"
    assert "scalars.json, line 1" in session.message
    session.reset()
    steps_to(session, 1)
    session.stop()
    (session.folder / "checkpoint.safetensors").write_bytes(b"half")
    session.start()
    session.wait(LONG)
    assert session.state == "failed"
    assert "checkpoint.safetensors: expected a whole checkpoint" in session.message


def test_look_shows_the_present_prediction_in_every_state(session, unbroken, steps_to):

    def shows(step):
        made, p = session.look()
        return made == step and torch.equal(p, unbroken.snapshots()[step])

    assert shows(0)  # idle: the initial weights
    steps_to(session, 10)
    assert shows(10)
    session.stop()
    assert shows(10)
    session.start()
    made, seen = session.look()
    assert torch.equal(seen, session.snapshots[made])
    assert 0 <= seen.min() < seen.max() <= 1
    assert session.wait(LONG)
    assert shows(40)
    assert sorted(load_run(session.folder).snapshots()) == list(session.snapshots)


def test_what_no_checkpoint_has_is_gone_with_the_network_and_nothing_says_otherwise(session, unbroken, steps_to, monkeypatch):
    monkeypatch.setattr("occlab.workbench.open_run.QUICK_SAVE", 0.0)  # as of a network that is large
    steps_to(session, 27)
    made, model = session.model()
    assert made == 27
    session.stop()
    assert (len(session.steps), session.steps_made, checkpoint_step(session.folder)) == (27, 25, 25)
    step, of_checkpoint = session.model()
    assert step == 25
    expected = load_run(session.folder).model().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in of_checkpoint.state_dict().items())
    assert not all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert session.look()[0] == 25
    steps_to(session, 28)  # and it goes on from there
    assert losses(session.steps) == losses(unbroken.steps[:28])


def test_a_training_that_failed_names_the_step_of_its_checkpoint_too(session, steps_to, monkeypatch):
    steps_to(session, 3)
    monkeypatch.setattr(OpenRun, "make_step", lambda _: 1 / 0)
    session.start()
    assert session.wait(LONG)
    assert (session.state, session.steps_made, session.model()[0]) == ("failed", 0, 0)


def test_a_look_that_a_reset_overtakes_is_no_snapshot_of_the_new_run(session, steps_to, monkeypatch):
    steps_to(session, 3)
    session.stop()
    look = OpenRun.look

    def overtaken(run):
        found = look(run)
        session.reset()
        return found

    monkeypatch.setattr(OpenRun, "look", overtaken)
    assert session.look()[0] == 3
    assert list(session.snapshots) == []

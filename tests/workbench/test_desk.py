"""The desk: who is told of what, on which thread; trainings taken in hand, and runs found on the disk."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from occlab.errors import OcclabError
from occlab.training import load_run
from occlab.workbench import desk as desks
from occlab.workbench.desk import Desk

LONG = 120


@pytest.fixture
def desk(make_desk, config):
    return make_desk(config=config, name="repaired, briefly", source="a test")


def test_everybody_is_told_in_order_and_one_that_fails_keeps_nobody_from_it(desk):
    told = []

    def fail():
        raise ValueError("of a <tab>")

    desk.on("setup", lambda: told.append(1))
    desk.on("setup", fail)
    desk.on("setup", lambda: told.append(2))
    desk.on("error", lambda: told.append(desk.error[0]))
    desk.set_up(name="other")
    assert told == [1, "ValueError: of a <tab>", 2]
    assert desk.name == "other"
    assert "Traceback" in desk.error[1]


def test_what_is_posted_is_called_by_whoever_pumps_and_by_nobody_else(desk):
    called = []
    thread = threading.Thread(target=lambda: desk.post(lambda: called.append(threading.current_thread())))
    thread.start()
    thread.join()
    assert called == []
    desk.pump()
    assert called == [threading.current_thread()]


def test_nothing_is_trained_at_a_desk_that_was_closed(desk):
    desk.close()
    with pytest.raises(OcclabError, match="this workbench has ended"):
        desk.new_session()
    assert desk.session is None


def test_a_message_of_the_browser_and_what_was_posted_wait_for_each_other(tmp_path, monkeypatch):
    """As in JupyterLab, which has messages handled on another thread than cells."""
    at_work, go, seen = threading.Event(), threading.Event(), []

    def comm_msg(*message):
        at_work.set()
        assert go.wait(LONG)
        seen.append(message)
        return "handled"

    kernel = SimpleNamespace(shell_handlers={"comm_msg": comm_msg, "execute_request": print})
    monkeypatch.setattr(desks, "get_ipython", lambda: SimpleNamespace(kernel=kernel))
    made = [Desk(tmp_path), Desk(tmp_path)]  # the second adds nothing
    assert kernel.shell_handlers["execute_request"] is print
    answers = []
    message = threading.Thread(target=lambda: answers.append(kernel.shell_handlers["comm_msg"](1, 2, 3)))
    message.start()
    assert at_work.wait(LONG)
    made[0].post(lambda: seen.append("posted"))
    pump = threading.Thread(target=made[0].pump)
    pump.start()
    pump.join(0.2)
    assert (pump.is_alive(), seen) == (True, [])
    go.set()
    for thread in (message, pump):
        thread.join(LONG)
    assert (answers, seen) == (["handled"], [(1, 2, 3), "posted"])


def test_in_a_kernel_the_event_loop_pumps(tmp_path, monkeypatch):
    monkeypatch.setenv("OCCLAB_PROFILE", "tiny")

    async def kernel():
        desk, done, here = Desk(tmp_path), asyncio.Event(), threading.current_thread()

        def then(there):
            seen.extend((there, threading.current_thread()))
            done.set()

        desk.work(threading.current_thread, then, what="a job")
        await asyncio.wait_for(done.wait(), LONG)
        desk.close()
        return here

    seen = []
    here = asyncio.run(kernel())
    assert seen[0] is not here, "a long job does not hold the widgets up"
    assert seen[1] is here, "widgets are touched on their own thread"


def test_a_job_that_fails_is_taken_by_whom_it_concerns_else_told_of(desk, pump):
    failures, results = [], []

    def job():
        raise OcclabError("no such thing")

    desk.work(job, results.append, failures.append, what="failing")
    pump(lambda: failures)
    assert str(failures[0]) == "no such thing"
    desk.on("error", lambda: results.append(desk.error[0]))
    desk.work(job, results.append, what="failing")
    pump(lambda: results)
    assert results == ["no such thing"]


def test_a_training_tells_of_its_progress_and_becomes_a_run(desk, pump):
    told = []
    for event in ("session", "progress", "runs"):
        desk.on(event, lambda event=event: told.append(event))
    assert desk.runs() == []
    session = desk.new_session()
    assert told == ["session"]
    assert session.folder.name.startswith("repaired-briefly-")
    session.start()
    pump(lambda: session.state == "finished" and told[-1] == "runs")
    assert "progress" in told
    (run,) = desk.runs()
    assert run.folder == session.folder
    assert run.summary == load_run(session.folder).summary is not None
    assert desk.runs()[0] is run, "what has not changed is not read again"


def test_another_training_stops_the_one_before_and_only_it_is_heard(desk, pump):
    first = desk.new_session()
    first.step(3)
    assert first.wait(LONG)
    second = desk.new_session()
    assert desk.session is second
    assert first.wait(LONG)
    second.step(2)
    pump(lambda: second.state == "paused")
    assert first.state == "stopped"
    assert len(second.steps) == 5, "it goes on in the same folder"


def test_a_run_of_the_disk_is_gone_on_with(desk):
    session = desk.new_session()
    session.step(4)
    assert session.wait(LONG)
    session.stop()
    again = desk.go_on(session.folder)
    assert (again.state, len(again.steps)) == ("stopped", 4)
    with pytest.raises(OcclabError, match="expected"):
        desk.go_on(desk.root / "absent")
    assert desk.session is again, "a run that cannot be taken leaves the one in hand"


def test_without_frames_nothing_is_trained(tmp_path, monkeypatch):
    monkeypatch.setenv("OCCLAB_PROFILE", "tiny")
    with pytest.raises(OcclabError, match="no frames"):
        Desk(tmp_path).new_session()


def test_a_damaged_run_is_left_out(desk):
    session = desk.new_session()
    session.step(2)
    assert session.wait(LONG)
    session.stop()
    broken = desk.root / "broken-0123456789ab"
    broken.mkdir()
    (broken / "scalars.json").write_text("{}\n")
    (broken / "config.json").write_text("[")
    assert [run.folder for run in desk.runs()] == [session.folder]


def test_closing_leaves_no_thread(desk):
    before = set(threading.enumerate())
    desk.new_session().start()
    desk.work(lambda: threading.Event().wait(0.2), lambda _: None, what="something")
    desk.close()
    assert set(threading.enumerate()) <= before

"""A session beside others: a main thread, listeners, other sessions and processes, and a kill."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from pathlib import Path

import pytest
import torch

from occlab import OcclabError
from occlab.training.checkpoint import save_tensors
from occlab.workbench import open_run, run_folder
from occlab.workbench.open_run import OpenRun
from occlab.workbench.run_folder import hold, release, unfinished
from occlab.workbench.session import Session

LONG = 120


def losses(steps):
    return [step.loss for step in steps]


_CHILD = """
import sys, time
from pathlib import Path
import torch
from occlab.frames import read_frames
from occlab.settings import PROFILES
from occlab.training import preset
from occlab.workbench.session import Session
torch.set_num_threads(1)
frames = read_frames(Path(sys.argv[1]))
config = preset("repaired", PROFILES["tiny"], steps=40, snapshot_steps=(0, 10, 40))
session = Session(config, frames[:2], frames[2:], root=Path(sys.argv[2]))
session.step(12)
session.wait()
session.learning_rate = 0.01
session.step(18)
session.wait()
print(len(session.steps), session.state, flush=True)
time.sleep(600)
"""


def test_after_a_kill_the_run_is_listed_and_goes_on(session, make, frames, store, tmp_path, steps_to, to_the_end):
    steps_to(session, 12)  # the same by the same hand, unbroken
    session.learning_rate = 0.01
    to_the_end(session)
    root = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", _CHILD, str(store), str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().split() == ["30", "paused"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    runs = unfinished(root)
    assert sorted(len(run.steps) for run in runs) == [12, 30]  # what was flushed is there: with the rate moved, and before
    (moved,) = (run for run in runs if len(run.steps) == 30)
    assert losses(moved.steps) == losses(session.steps[:30])
    resumed = Session.of(moved.folder, [*reversed(frames)])
    assert (resumed.state, len(resumed.steps), resumed.steps_made) == ("stopped", 30, 25)
    assert resumed.learning_rate == 0.01
    to_the_end(resumed)
    assert resumed.folder == moved.folder
    assert losses(resumed.steps) == losses(session.steps)
    assert [len(run.steps) for run in unfinished(root)] == [12]
    with pytest.raises(OcclabError, match="needs the frames it was begun with; 1 of them not given"):
        Session.of(moved.folder, frames[1:])


def test_of_two_sessions_on_one_run_the_second_waits_and_finds_it(make, unbroken, steps_to, to_the_end, until):
    first, second = make(), make()
    steps_to(first, 2)
    second.start()
    until(lambda: second.state == "waiting")
    assert "another session or process trains in this folder" in second.message
    assert "\n" not in second.message
    second.stop()
    assert (second.state, second.message) == ("stopped", "")
    with pytest.raises(OcclabError, match="another session or process trains"):
        second.reset()
    assert len(first.steps) == 2
    second.start()
    until(lambda: second.state == "waiting")
    to_the_end(first)
    assert second.wait(LONG)
    assert second.state == "finished"
    assert losses(second.steps) == losses(first.steps) == losses(unbroken.steps)


def test_a_session_waits_for_another_process(session, unbroken, tmp_path, until):
    folder = tmp_path / unbroken.folder.name
    folder.mkdir()
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder / ".lock")], stdout=subprocess.PIPE)
    process.stdout.readline()
    session.start()
    until(lambda: session.state == "waiting")
    process.kill()
    process.communicate()
    until(lambda: session.steps_made)
    session.stop()


def test_a_folder_is_free_again_though_a_process_was_forked_meanwhile(tmp_path):
    file = hold(tmp_path)
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    release(file)
    release(hold(tmp_path))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_listeners_hear_every_change_of_state_and_little_else(make, steps_to, until):
    session, heard = make(steps=200), []
    forget = session.listen(lambda s: heard.append((time.monotonic(), s.state, s.steps_made, threading.current_thread())))
    began = time.monotonic()
    steps_to(session, 3)
    assert heard[0][0] - began < 1
    session.resume()
    until(lambda: session.steps_made > 30)
    session.stop()
    took = time.monotonic() - began
    states = [state for _, state, _, _ in heard]
    assert [s for i, s in enumerate(states) if i == 0 or states[i - 1] != s] == ["running", "paused", "running", "stopped"]
    assert len(heard) <= 5 + 5 * took
    assert all(thread is not threading.current_thread() for *_, thread in heard)
    forget()
    before = len(heard)
    session.step()
    session.wait(LONG)
    assert len(heard) == before


def test_a_listener_that_fails_is_warned_of_once_and_training_goes_on(make, to_the_end):
    session, heard = make(steps=3), []
    session.listen(lambda s: heard.append(1 / 0))
    session.listen(lambda s: heard.append(s.state))
    with pytest.warns(RuntimeWarning, match="a listener failed: ZeroDivisionError") as warned:
        to_the_end(session)
    assert len([w for w in warned if w.category is RuntimeWarning]) == 1
    assert isinstance(session.error_of_listener, ZeroDivisionError)
    assert heard[-1] == "finished"


def test_a_listener_may_use_the_controls(make, until):
    session, answers = make(steps=200), []

    def listener(s):
        if s.state == "paused" and not answers:
            answers.extend([s.look(), s.model()])
            with pytest.raises(OcclabError, match="a listener cannot reset"):
                s.reset()
            s.stop()

    session.listen(listener)
    session.step(2)
    until(lambda: session.state == "stopped")
    assert session.error_of_listener is None
    assert list(session.snapshots) == [0, 2]


def test_the_main_thread_gets_on_while_it_trains(make, steps_to):
    session = make(steps=400, snapshot_steps=())
    steps_to(session, 1)
    session.resume()
    first, longest, turns, last = session.steps_made, 0.0, 0, time.monotonic()
    while session.steps_made < first + 40 and session.state != "failed":
        time.sleep(0.001)
        now = time.monotonic()
        longest, turns, last = max(longest, now - last), turns + 1, now
    assert turns > 40  # more turns than steps
    assert longest < 1
    began = time.process_time()
    session.stop()
    assert time.process_time() - began < 1
    assert session.remaining_seconds > 0


def _resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _system_threads():
    return len(list(Path("/proc/self/task").iterdir()))


def test_ten_starts_and_stops_leave_no_thread_and_no_memory(make, until):
    session = make(steps=400, snapshot_steps=(0,))
    levels = []
    for _ in range(10):
        session.start()
        made = session.steps_made
        until(lambda made=made: session.steps_made > made + 1)
        session.look()
        session.stop()
        session.reset()
        levels.append((threading.active_count(), _system_threads(), _resident()))
    (threads, system, memory), (threads_last, system_last, memory_last) = levels[0], levels[-1]
    assert threads_last <= threads
    assert system_last <= system
    assert memory_last <= 1.05 * memory, [level[2] // 2**20 for level in levels]


def test_a_program_that_ends_while_it_trains_ends_in_order(store, tmp_path):
    code = _CHILD[: _CHILD.index("session.wait()")].replace("session.step(12)", "session.start(); time.sleep(0.5)")
    done = subprocess.run([sys.executable, "-c", code, str(store), str(tmp_path)], capture_output=True, text=True, timeout=LONG)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_stop_while_a_start_waits_for_the_thread_before_is_the_later_of_the_two(session, steps_to, until, monkeypatch):
    leaving, go, leave = threading.Event(), threading.Event(), OpenRun.leave

    def slowly(run):
        leaving.set()
        assert go.wait(LONG)
        leave(run)

    monkeypatch.setattr(OpenRun, "leave", slowly)
    steps_to(session, 1)
    session.stop(wait=False)
    assert leaving.wait(LONG)
    before, waits = session._thread, threading.Event()
    join = before.join
    monkeypatch.setattr(before, "join", lambda *timeout: (waits.set(), join(*timeout)))
    starter = threading.Thread(target=session.start)
    starter.start()
    assert waits.wait(LONG)
    session.stop(wait=False)
    go.set()
    starter.join()
    assert session.wait(LONG)
    assert (session.state, session._thread) == ("stopped", before)


def test_a_log_on_a_full_disk_does_not_keep_the_folder_taken(session, steps_to):
    steps_to(session, 1)
    session._run._log.close()
    session._run._log = Path("/dev/full").open("w")  # noqa: SIM115
    session.start()
    assert session.wait(LONG)
    assert (session.state, "No space left" in session.message) == ("failed", True)
    release(hold(session.folder))
    steps_to(session, 2)


def test_what_a_training_failed_of_does_not_keep_its_network(session, steps_to, monkeypatch):
    networks, build = [], open_run.build_model

    def built(*args):
        model = build(*args)
        networks.append(weakref.ref(model))
        return model

    monkeypatch.setattr(open_run, "build_model", built)
    session.folder.mkdir(parents=True)
    save_tensors(session.folder / "checkpoint.safetensors", {"model.other": torch.zeros(1)}, {"step": "1"})
    session.start()
    assert session.wait(LONG)
    assert "expected a checkpoint of this network" in str(session.error)
    assert session.error.__cause__ is not None
    assert "load_state_dict" in session.traceback
    assert [network() for network in networks] == [None]


def test_runs_that_vanish_while_they_are_listed_are_left_out(session, make, tmp_path, steps_to, monkeypatch):
    other, load = make(steps=39), run_folder.load_run
    for each in (session, other):
        steps_to(each, 1)
        each.stop()

    def reset_meanwhile(folder):
        run = load(folder)
        if folder == other.folder:
            other.reset()
        return run

    monkeypatch.setattr(run_folder, "load_run", reset_meanwhile)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [run.folder for run in unfinished(tmp_path)] == [session.folder]


def test_what_cannot_be_read_is_warned_of_and_left_out(session, tmp_path, steps_to):
    assert unfinished(tmp_path / "nowhere") == []
    steps_to(session, 2)
    session.stop()
    bad = tmp_path / "bad-000000000000"
    bad.mkdir()
    (bad / "config.json").write_text("{}")
    (bad / "scalars.json").write_text("")
    no_log = tmp_path / "no-log-000000000000"
    shutil.copytree(session.folder, no_log)
    (no_log / "scalars.json").unlink()
    (no_log / "scalars.json").mkdir()
    with (
        pytest.warns(UserWarning, match="expected an object with the key 'config'"),
        pytest.warns(UserWarning, match="no-log-000000000000"),
    ):
        (run,) = unfinished(tmp_path)
    assert run.folder == session.folder
    renamed = session.folder.rename(tmp_path / "mine")
    with pytest.raises(OcclabError, match="renamed since"):
        Session.of(renamed, session._plan.frames + session._plan.held_out)

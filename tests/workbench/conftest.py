"""Sessions to steer, and the run they are compared with."""

import time
from dataclasses import replace

import pytest
from written_runs import as_it_stood, summary, write_run

from occlab.diagnosis import HALF
from occlab.frames import read_frames
from occlab.settings import PROFILES
from occlab.training import preset, train
from occlab.workbench.desk import Desk
from occlab.workbench.session import Session

LONG = 120
"""Seconds after which a wait has failed; a busy machine may take its time."""


@pytest.fixture(scope="module")
def frames(store):
    return read_frames(store)


@pytest.fixture(scope="module")
def config():
    return preset("repaired", PROFILES["tiny"], steps=40, snapshot_steps=(0, 10, 40))


@pytest.fixture(scope="module")
def unbroken(config, frames, tmp_path_factory):
    """The same run, made by nobody's hand."""
    return train(config, frames[:2], frames[2:], root=tmp_path_factory.mktemp("unbroken"), progress=False)


@pytest.fixture
def make(config, frames, tmp_path):
    """Sessions of the same run, all in one root; with changes to its configuration."""
    made = []

    def new(**changes):
        made.append(Session(replace(config, **changes), frames[:2], frames[2:], root=tmp_path))
        return made[-1]

    yield new
    for session in made:
        session.close()


@pytest.fixture
def root(tmp_path):
    """Where the runs of a test's desk lie."""
    return tmp_path / "runs"


@pytest.fixture
def make_desk(frames, root, monkeypatch):
    """(changes of ``Desk.set_up``): a desk over frames and a root of its own, at profile tiny."""
    made = []

    def new(**changes):
        monkeypatch.setenv("OCCLAB_PROFILE", "tiny")
        made.append(Desk(root))
        made[-1].set_up(frames=frames[:2], held_out=frames[2:], **changes)
        return made[-1]

    yield new
    for desk in made:
        desk.close()


@pytest.fixture
def pump(desk):
    """(condition): do what was posted to the test's desk until it is so."""

    def until(condition):
        for _ in range(100 * LONG):
            desk.pump()
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError("it did not happen")

    return until


@pytest.fixture
def settle(desk):
    """(): let the threads of the test's desk end, and take what they found."""

    def all_of_them():
        for thread in list(desk._threads):
            thread.join(60)
        desk.pump()
        assert desk.error == ("", ""), desk.error[1]

    return all_of_them


@pytest.fixture
def seven(root):
    """Two configurations with seven seeds each; with logits the IoU is higher by 0.1 and a little more."""
    gains = [0.1 + 0.01 * seed for seed in range(7)]
    for seed, gain in enumerate(gains):
        plain, logits = as_it_stood(seed), as_it_stood(seed, head="logits")
        write_run(root, f"a-{seed}", plain, (1.3, 1.2 + seed / 100), made=summary(1.2, 0.01, floor=HALF))
        write_run(root, f"b-{seed}", logits, (1.2, 0.6), made=summary(0.6 + seed / 100, 0.01 + gain))
    return gains


@pytest.fixture
def session(make):
    return make()


def _steps_to(session, number):
    session.step(number - session.steps_made)
    assert session.wait(LONG)
    assert (session.state, session.steps_made) == ("paused", number), session.traceback


def _to_the_end(session):
    session.start()
    assert session.wait(LONG)
    assert session.state == "finished", session.traceback


def _until(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture(scope="session")
def steps_to():
    """(session, number): make steps until there are so many, then be paused."""
    return _steps_to


@pytest.fixture(scope="session")
def to_the_end():
    """(session): train on until the run is finished."""
    return _to_the_end


@pytest.fixture(scope="session")
def until():
    """(condition): wait for it, but not for ever."""
    return _until

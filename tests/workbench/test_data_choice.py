"""Choosing what a training gets to see. What takes long happens on another thread, and its answer may come too late."""

import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from occlab import OcclabError
from occlab.frames import Frame, write_frame
from occlab.settings import PROFILES
from occlab.workbench import data_choice
from occlab.workbench.data_choice import FOLDER, SAMPLE, STREETS, DataChoice, make_streets
from occlab.workbench.desk import Desk

LONG = 120
TINY = PROFILES["tiny"]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setenv("OCCLAB_PROFILE", "tiny")
    monkeypatch.setenv("OCCLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OCCLAB_REAL_DATA", raising=False)
    made = Desk(tmp_path / "runs")
    yield made
    made.close()


@pytest.fixture
def data(desk):
    return DataChoice(desk, TINY)


def open_folder(data, folder, pump):
    data._kind.value = FOLDER
    data._picker._field.value = str(folder)
    pump(lambda: not data._picker._note.value.endswith("..."))


def test_it_begins_with_the_sample_frames_where_no_streets_are_made(data, desk, pump):
    data.begin()
    assert data._kind.value == SAMPLE
    assert "reading the sample frames" in data._note.value
    pump(lambda: desk.frames)
    assert (len(desk.frames), len(desk.held_out), desk.source) == (3, 1, "sample frames")
    assert data._note.value == "sample frames: 3 to train on, 1 held out"
    before = desk.frames
    data.begin()  # the tab is opened again
    assert desk.frames is before


def test_more_streets_are_offered_where_the_size_wants_more(data, desk, pump):
    data.begin()
    pump(lambda: desk.frames)
    assert (data._more.layout.display, data._more.description) == ("", "take 5 streets, as this set-up wants")
    data.want(replace(TINY, train_frames=2))
    assert data._more.layout.display == "none"
    data.want(TINY.for_recipe())
    assert data._more.description == "take 15 streets, as this set-up wants"


def test_streets_are_made_under_a_word_of_how_far_it_is_and_then_taken(data, desk, pump, frames, monkeypatch):
    said, wait = [], threading.Event()

    def make(count):
        assert count == 5
        yield from ((1, 4), (2, 4))
        wait.wait(LONG)

    monkeypatch.setattr(data_choice, "make_streets", make)
    monkeypatch.setattr(data_choice, "split_frames", lambda where, size: (frames[:2], frames[2:]))
    data._note.observe(lambda change: said.append(change["new"]), names="value")
    data._kind.value = STREETS
    pump(lambda: len(said) > 2)
    assert [text for text in said if "making streets: 2 of 4 done" in text]
    assert desk.frames == ()
    wait.set()
    pump(lambda: desk.frames)
    assert (desk.source, data._note.value) == (STREETS, "simulated streets: 2 to train on, 1 held out")


def test_an_answer_that_comes_after_the_next_question_is_dropped(data, desk, pump, frames, monkeypatch):
    wait, stopped = threading.Event(), []

    def make(count):
        try:
            wait.wait(LONG)
            yield 1, 5
            yield 2, 5
        finally:
            stopped.append(True)

    monkeypatch.setattr(data_choice, "make_streets", make)
    data._kind.value = STREETS
    data._kind.value = SAMPLE
    pump(lambda: desk.frames)
    wait.set()
    for thread in desk._threads:
        thread.join()
    desk.pump()
    assert stopped == [True]
    assert desk.source == SAMPLE
    assert data._note.value == "sample frames: 3 to train on, 1 held out"


def test_streets_are_made_no_longer_than_the_workbench_is_open(data, desk, monkeypatch):
    begun, stopped, read = threading.Event(), [], []

    def make(count):
        try:
            for done in range(2_000):
                begun.set()
                yield done, 2_000
                time.sleep(0.01)
        finally:
            stopped.append(done)

    monkeypatch.setattr(data_choice, "make_streets", make)
    monkeypatch.setattr(data_choice, "split_frames", lambda *_: read.append(True) or ([], []))
    data._kind.value = STREETS
    said = data._note.value
    assert begun.wait(LONG)
    desk.close()  # waits for the thread
    desk.pump()
    assert (len(stopped), read) == (1, [])
    assert stopped[0] < 1_999
    assert (desk.frames, desk.source, data._note.value) == ((), "", said)


def test_the_process_that_makes_streets_is_read_and_stopped(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\nprintf '\\rsimulated streets, seed 0:  33%%|###   | 1/3 [00:01<00:02, 1.0s/frame]' >&2\n"
        "printf '\\rsimulated streets, seed 0:  67%%|###   | 2/3 [00:01<00:02, 1.0s/frame]' >&2\nprintf '\\n' >&2\n"
        f"touch {tmp_path}/end\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert list(make_streets(3)) == [(1, 3), (2, 3)]
    assert (tmp_path / "end").exists()
    python.write_text("#!/bin/sh\nprintf '\\ra: 1/3 [0\\n' >&2\nexec sleep 600\n")
    running = make_streets(3)
    assert next(running) == (1, 3)
    running.close()  # returns at once: the process is gone
    python.write_text("#!/bin/sh\necho 'Traceback' >&2\necho 'occlab.errors.OcclabError: open3d is not there' >&2\nexit 1\n")
    with pytest.raises(OcclabError, match=r"^open3d is not there$"):
        list(make_streets(3))


def test_a_failure_is_a_card_and_what_was_in_use_stays(data, desk, pump, monkeypatch):
    data.begin()
    pump(lambda: desk.frames)
    before = desk.frames

    def fail(count):
        raise OcclabError("open3d could not be imported <b>")
        yield

    monkeypatch.setattr(data_choice, "make_streets", fail)
    data._kind.value = STREETS
    pump(lambda: data._found.value)
    assert "open3d could not be imported &lt;b&gt;" in data._found.value
    assert data._note.value == "still in use: sample frames"
    assert desk.frames is before
    assert not data._more.disabled


def test_a_folder_is_opened_said_read_and_its_alignment_looked_at(data, desk, pump, hall, tmp_path):
    folder = tmp_path / "<i>mine"
    folder.mkdir()
    for i in range(3):
        clouds = [hall(seed, 10, 0.02) for seed in (i, i + 10)]
        clouds = [np.c_[cloud, np.full(len(cloud), 0.5)].astype(np.float32) for cloud in clouds]
        write_frame(folder / f"{i}.npz", Frame(clouds[0] + np.float32([0, 0, 0.5, 0]), clouds[1], f"hall-{i}"))
    open_folder(data, folder, pump)
    assert data._picker._note.value == "&lt;i&gt;mine: occlab frames, 3 in all"
    assert desk.frames == ()
    data._use.click()
    assert data._use.disabled
    pump(lambda: desk.frames)
    assert (len(desk.frames), len(desk.held_out), desk.source) == (2, 1, "folder <i>mine")
    assert "looking at 2 of the frames" in data._found.value
    pump(lambda: "not ok" in data._found.value)
    assert "too high" in data._found.value
    assert "<i>" not in data._found.value + data._note.value
    assert not data._use.disabled
    assert data._more.layout.display == "none", "streets are no answer to a folder with few frames"


def test_a_folder_can_be_used_though_another_answer_is_still_to_come(data, desk, pump, tmp_path, monkeypatch):
    held = threading.Event()
    monkeypatch.setattr(data_choice, "split_frames", lambda *_: held.wait(LONG) and ([], []))
    data._kind.value = SAMPLE
    assert data._use.disabled
    open_folder(data, tmp_path, pump)
    held.set()
    assert not data._use.disabled


def test_a_folder_that_holds_nothing_is_said_in_a_sentence(data, desk, pump, tmp_path):
    (tmp_path / "empty").mkdir()
    open_folder(data, tmp_path / "empty", pump)
    assert data._picker._note.value.startswith("empty: cannot tell what this is; expected a nuScenes root")
    data._use.click()
    pump(lambda: data._found.value)
    assert 'role="alert"' in data._found.value
    assert "cannot tell what this is" in data._found.value
    assert data._note.value == "still in use: no frames"
    data._kind.value = SAMPLE
    assert data._place.children == ()
    pump(lambda: desk.frames)
    assert data._found.value == ""


def test_a_data_folder_that_is_not_there_is_said(data, monkeypatch, tmp_path):
    monkeypatch.setenv("OCCLAB_REAL_DATA", str(tmp_path / "nowhere"))
    data._kind.value = FOLDER
    assert "OCCLAB_REAL_DATA names" in data._found.value
    assert data._picker.path.is_dir()

"""Sweeps in the background: the runs are those of ``occlab ablate``, and neither a cancel nor a failure costs any of them."""

import threading
from dataclasses import replace

import pytest

from occlab import OcclabError
from occlab.ablation import one_change, read_design, read_table, run_design
from occlab.settings import PROFILES
from occlab.training import PRESETS, load_run, preset
from occlab.workbench import sweep as sweep_
from occlab.workbench.kept_designs import as_design, document, keep, kept
from occlab.workbench.open_run import BUILDING
from occlab.workbench.run_folder import hold, release
from occlab.workbench.sweep import Pace, Sweep, made_runs

LONG = 120
FACTORS = {"higher rate": {"learning_rate": 1e-3}, "logits": {"head": "logits"}}
ABSURD = {"absurd rate": {"learning_rate": 1e30, "clip_norm": None}}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setenv("OCCLAB_PROFILE", "tiny")


@pytest.fixture
def short():
    return preset("as-it-stood", PROFILES["tiny"], steps=12)


@pytest.fixture
def make(frames, tmp_path):
    """Sweeps of one configuration, kept and run under one folder."""
    made = []

    def new(config, factors=FACTORS, seeds=(0, 1), design="one change", name="rates", **more):
        path = tmp_path / "designs" / f"{name}.yaml"
        keep(document(config, seeds, {"design": design, "factors": factors, **more}), path)
        made.append(Sweep(path, frames[:2], frames[2:], root=tmp_path / "runs", source="a store"))
        return made[-1]

    yield new
    for each in made:
        each.close()


def to_the_end(sweep):
    sweep.start()
    assert sweep.wait(LONG)
    assert sweep.state == "finished", sweep.traceback or sweep.message


def numbers(rows):
    return [{name: value for name, value in row.items() if name not in ("seconds", "threads")} for row in rows]


def sweep_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("occlab sweep")]


# --- designs and their files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_kept_design_reads_back_to_the_same_trainings(name, tmp_path):
    start = preset(name, PROFILES["small"].for_sweeps(), precision="bf16-mixed", custom_keys={"refine": {"lr_mult": 10.0}})
    for factors in (
        {"rate": {"learning_rate": 2e-3}},
        {"clip_norm": [0.1, None, 1e-5]},
        {"1e-4": {"learning_rate": 1e-4, "loss.dice": 2.0}},
    ):
        path = tmp_path / f"{name}-{len(str(factors))}.yaml"
        keep(document(start, (3, 5), {"design": "one change", "factors": factors}), path)
        design = read_design(path)
        assert list(design.arms) == one_change(factors)
        assert design.seeds == (3, 5)
        first = design.arms[0].changes  # a list's first level is said, and not the set-up's
        assert design.config(replace(design.arms[0], changes={}), 3) == replace(start, seed=3)
        assert design.config(design.arms[0], 3).clip_norm == first.get("clip_norm", start.clip_norm)


def test_arms_one_by_one_and_both_heads_are_kept_too(short, tmp_path):
    arms = {"as it stood": {}, "cosine: on": {"schedule": "cosine", "model.channels": [64, 128]}}
    values = document(short, (0,), {"for_each": {"head": ["rectified", "logits"]}, "arms": arms})
    keep(values, tmp_path / "both.yaml")
    design = read_design(tmp_path / "both.yaml")
    assert design == as_design(values)
    assert [arm.name for arm in design.arms][2:] == ["head=logits: as it stood", "head=logits: cosine: on"]
    assert design.config(design.arms[3], 0).model.channels == (64, 128)


def test_another_design_of_the_same_name_is_refused(short, tmp_path):
    path = tmp_path / "rates.yaml"
    values = document(short, (0,), {"design": "one change", "factors": FACTORS})
    keep(values, path)
    stamp = path.stat().st_mtime_ns
    keep(values, path)
    with pytest.raises(OcclabError, match="another design named 'rates' is kept already"):
        keep(values | {"seeds": [1]}, path)
    with pytest.raises(OcclabError, match="needs factors of two levels"):
        keep(values | {"design": "fractional factorial", "factors": {"clip_norm": [0.1, 1, 10]}}, tmp_path / "new.yaml")
    assert (path.stat().st_mtime_ns, kept(tmp_path)) == (stamp, [path])


def test_a_design_goes_on_with_its_own_frames_only(make, short, frames):
    first = make(short)
    with pytest.raises(OcclabError, match=r"'rates' was begun with other frames \(a store\); choose those under Set up"):
        Sweep(first.path, frames[:1], frames[1:], root=first.root)
    first.path.with_suffix(".data.json").write_text("{}")
    with pytest.raises(OcclabError, match="expected the source and the fingerprints"):
        Sweep(first.path, frames[:2], frames[2:], root=first.root)


# --- what is made already, and how long the rest will take ---------------------------------------------------------------


def test_the_time_left_is_measured_and_not_known_before(make, short, unbroken):
    sweep = make(short)
    assert sweep.seconds_left(Pace([])) is None
    other = replace(unbroken, config=replace(unbroken.config, batch_size=2))
    assert sweep.seconds_left(Pace([other])) is None
    assert sweep.seconds_left(Pace([replace(unbroken, summary=None)])) is None
    elsewhere = replace(unbroken, summary=unbroken.summary | {"device": "another kind"})
    assert sweep.seconds_left(Pace([elsewhere])) is None
    steps = sorted(step.seconds for step in unbroken.steps)
    middle = (steps[19] + steps[20]) / 2
    assert sweep.seconds_left(Pace([unbroken])) == pytest.approx(6 * 12 * middle)
    deeper = replace(unbroken, config=replace(unbroken.config, model=replace(unbroken.config.model, block="residual")))
    slow = replace(deeper, steps=[replace(step, seconds=10 * step.seconds) for step in unbroken.steps])
    assert sweep.seconds_left(Pace([unbroken, slow])) == pytest.approx(6 * 12 * middle)  # its own network's counts
    to_the_end(sweep)
    assert sweep.seconds_left(Pace([])) == 0


# --- making them ------------------------------------------------------------------------------------------------------


def test_the_runs_are_those_of_the_command_line(make, short, frames, store, tmp_path):
    sweep = make(short)
    assert (sweep.state, sweep.rows) == ("idle", [])
    to_the_end(sweep)
    rows = run_design(sweep.design, data=store, threads=1, root=tmp_path / "elsewhere", progress=False)
    assert numbers(sweep.rows) == numbers(rows)
    assert read_table(sweep.path.with_suffix(".csv")) == sweep.rows
    assert run_design(sweep.design, data=store, root=sweep.root, progress=False) == sweep.rows  # found, not made again
    assert sweep_threads() == []


def test_what_is_made_is_found_tomorrow_and_not_made_again(make, short, monkeypatch):
    to_the_end(make(short))
    monkeypatch.setattr(sweep_.OpenRun, "make_step", lambda _: pytest.fail("trained again"))
    again = make(short)
    assert (len(again.rows), again.seconds_left(Pace([]))) == (6, 0)
    to_the_end(again)


def test_a_cancelled_sweep_keeps_its_steps_and_goes_on_to_the_same_rows(make, short, tmp_path, monkeypatch):
    whole = make(short, name="whole")
    to_the_end(whole)
    rows = numbers(whole.rows)
    for folder in made_runs(whole.root).values():
        folder.rename(tmp_path / folder.name)

    sweep = make(short)
    seen = []

    def stop(sweep):
        seen.append((len(sweep.rows), sweep.step))
        if len(sweep.rows) == 2 and sweep.step >= 5:
            sweep.cancel()

    monkeypatch.setattr(sweep_, "TELL_EVERY", 0.0)
    sweep.listen(stop)
    sweep.start()
    assert sweep.wait(LONG)
    assert (sweep.state, len(sweep.rows), sweep.task) == ("cancelled", 2, None)
    assert max(seen) == (2, 5)  # the step at which it was told, and none after
    assert len(read_table(sweep.path.with_suffix(".csv"))) == 2
    [begun] = {path.parent for path in sweep.root.glob("*/scalars.json")} - {*made_runs(sweep.root).values()}
    assert len(load_run(begun).steps) == 5
    assert sweep_threads() == []

    tomorrow, first = make(short), []
    tomorrow.listen(lambda sweep: first.append(sweep.step) if sweep.task else None)
    to_the_end(tomorrow)
    assert first[0] == 5
    assert numbers(tomorrow.rows) == rows
    assert [step.step for step in load_run(begun).steps] == list(range(1, 13))


def test_a_cancelled_sweep_counts_only_steps_that_a_checkpoint_has(make, short, monkeypatch):
    monkeypatch.setattr(sweep_, "TELL_EVERY", 0.0)

    def cancelled_at(step):
        sweep = make(short, seeds=(0,))
        sweep.listen(lambda sweep: sweep.cancel() if sweep.task and sweep.step >= step else None)
        sweep.start()
        assert sweep.wait(LONG)
        assert sweep.state == "cancelled"
        assert sweep.steps_made == make(short, seeds=(0,)).steps_made  # as one says that reads the disk
        return sweep.steps_made

    assert cancelled_at(3) == 3
    with BUILDING:  # so that it is cancelled before the network is there
        assert cancelled_at(0) == 3
    monkeypatch.setattr("occlab.workbench.open_run.QUICK_SAVE", 0.0)  # as of a network that is large
    assert cancelled_at(5) == 3


def test_closing_leaves_no_thread_and_a_cancelled_one_starts_again(make, short, until):
    sweep = make(short)
    sweep.start()
    sweep.start()
    assert len(sweep_threads()) == 1
    sweep.cancel()
    sweep.start()
    assert len(sweep_threads()) == 1
    until(lambda: sweep.rows)
    sweep.close()
    assert sweep_threads() == []
    assert sweep.state in ("cancelled", "finished")


def test_a_failed_run_is_a_row_with_its_sentence_and_is_tried_again(make, short):
    sweep = make(short, factors=ABSURD, seeds=(0,))
    to_the_end(sweep)
    assert [(row["arm"], row["status"]) for row in sweep.rows] == [("base", "done"), ("absurd rate", "failed")]
    assert "gradient norm" in sweep.rows[1]["error"]
    assert read_table(sweep.path.with_suffix(".csv")) == sweep.rows
    again = make(short, factors=ABSURD, seeds=(0,))
    assert [row["arm"] for row in again.rows] == ["base"]


def test_a_folder_that_somebody_has_comes_last_and_is_waited_for(make, short, until, monkeypatch):
    monkeypatch.setattr(sweep_, "ASK_AGAIN", 0.02)
    sweep = make(short, seeds=(0,))
    taken = hold(sweep.root / f"somebody-{sweep.tasks[0].hash}")
    try:
        sweep.start()
        until(lambda: sweep.state == "waiting")
        assert [row["arm"] for row in sweep.rows] == ["higher rate", "logits"]
        assert "another session or process trains in this folder" in sweep.message
    finally:
        release(taken)
    assert sweep.wait(LONG)
    assert (sweep.state, sweep.message, len(sweep.rows)) == ("finished", "", 3)


def test_waiting_for_a_folder_can_be_cancelled(make, short, until):
    sweep = make(short, factors={"higher rate": {"learning_rate": 1e-3}}, seeds=(0,))
    locks = [hold(sweep.root / f"somebody-{task.hash}") for task in sweep.tasks]
    try:
        sweep.start()
        until(lambda: sweep.state == "waiting")
        sweep.close()
        assert (sweep.state, sweep.rows) == ("cancelled", [])
    finally:
        for lock in locks:
            release(lock)


def test_a_table_that_cannot_be_written_ends_the_sweep_with_a_sentence(make, short):
    sweep = make(short, seeds=(0,))
    sweep.path.with_suffix(".csv").mkdir()
    sweep.start()
    assert sweep.wait(LONG)
    assert sweep.state == "failed"
    assert "rates.csv: cannot be written" in sweep.message
    sweep.path.with_suffix(".csv").rmdir()
    to_the_end(sweep)


def test_a_damaged_run_is_a_row_that_says_so(make, short):
    sweep = make(short, seeds=(0,))
    to_the_end(sweep)
    (sweep.root / sweep.rows[0]["run"] / "summary.json").write_text("{}")
    again = make(short, seeds=(0,))
    assert [row["status"] for row in again.rows] == ["failed", "done", "done"]
    assert "expected the whole summary" in again.rows[0]["error"]

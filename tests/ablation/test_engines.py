"""Sweeps: the rows, that every engine gives the same, and that neither a kill nor a failure costs the others."""

import json
import shutil
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from fragile import Dead, Fragile

from occlab import OcclabError
from occlab.ablation import COLUMNS, Arm, Design, engines, one_change, run_design
from occlab.ablation.job import Job
from occlab.ablation.processes import _devices, _Worker, run_in_processes
from occlab.ablation.rows import Task, parameters
from occlab.settings import PROFILES
from occlab.training import Batches, load_run, preset, run_hash, run_ladder, split_frames

UNEQUAL = {"seconds", "attempts"}
"""What differs between engines."""


def numbers(rows):
    return [{name: value for name, value in row.items() if name not in UNEQUAL} for row in rows]


def attempts(rows):
    return {(row["arm"], row["seed"]): row["attempts"] for row in rows if row["attempts"] != 1}


@pytest.fixture(scope="module")
def here(design, store, tmp_path_factory):
    """The design in this process: rows and the folder of the runs."""
    root = tmp_path_factory.mktemp("runs")
    return run_design(design, data=store, threads=1, root=root, progress=False), root


def test_a_row_a_run_seed_by_seed(design, here):
    rows, _ = here
    names = ["base", "logits", "higher rate", "higher rate + logits"]
    assert [(row["arm"], row["seed"]) for row in rows] == [(name, seed) for seed in (0, 1) for name in names]
    assert all(list(row) == list(COLUMNS) for row in rows)
    assert all(value is None or type(value) is COLUMNS[name] for row in rows for name, value in row.items())
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_a_row_says_what_its_run_says(design, store, here):
    rows, root = here
    for row in rows:
        run = load_run(root / row["run"])
        assert row["hash"] == run_hash(run.config, *split_frames(store, PROFILES["tiny"]))
        assert run.config.seed == row["seed"]
        assert {"learning_rate": 1e-3, "model.head": "logits"}.items() >= json.loads(row["changes"]).items()
        assert (row["head"] == "logits") == ("logits" in row["arm"])
        assert run.config.learning_rate == (1e-3 if "higher rate" in row["arm"] else 1e-4)
        assert row["first_loss"] == run.steps[0].loss
        assert row["settled_loss"] == pytest.approx(sum(step.loss for step in run.steps[-10:]) / 10, rel=1e-12)
        assert row["gradient_norm_min"] <= row["gradient_norm_median"] <= row["gradient_norm_max"]
        assert row["held_out_iou"] == run.summary["held_out"]["batch_statistics"]["iou"]
        assert row["held_out_iou_running"] == run.summary["held_out"]["running_statistics"]["iou"]
        floors = run_ladder(run.config, Batches(split_frames(store, PROFILES["tiny"])[0], run.config))
        assert row["half_floor"] == pytest.approx(floors["p = 1/2 everywhere"])
        assert row["floor_distance"] == pytest.approx(row["settled_loss"] / row["half_floor"] - 1)
        assert (row["lowest_p"] >= 0.5) == (row["head"] == "rectified")
        assert row["parameters"] == sum(p.numel() for p in run.model().parameters())
        assert (row["status"], row["error"], row["attempts"], row["threads"]) == ("done", None, 1, 1)


def test_parameters_of_the_network_as_it_stood():
    assert parameters(preset("as-it-stood", PROFILES["full"]).model) == 6_832_928


def test_a_second_call_trains_nothing(design, store, here, monkeypatch):
    rows, root = here
    monkeypatch.setattr(Job, "do", lambda *_: pytest.fail("trained again"))
    assert run_design(design, data=store, threads=2, root=root, progress=False) == rows  # threads too: those it was made with
    assert run_design(design, data=store, engine="ray", root=root, progress=False) == rows  # and no cluster is started
    some = run_design(design, data=store, root=root, progress=False, only_seeds=[1])
    assert some == [row for row in rows if row["seed"] == 1]


def test_a_stopped_sweep_is_balanced_and_goes_on(design, store, here, tmp_path, monkeypatch):
    do, made = Job.do, []

    def stopped(self, task, *rest):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append((task.config.seed, task.arm.name))
        return do(self, task, *rest)

    monkeypatch.setattr(Job, "do", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_design(design, data=store, threads=1, root=tmp_path, progress=False)
    assert [seed for seed, _ in made] == [0, 0, 0, 0, 1]
    made.clear()
    rows = run_design(design, data=store, threads=1, root=tmp_path, progress=False)
    assert len(made) == 3
    assert numbers(rows) == numbers(here[0])


def test_threads_are_given_back(store, tmp_path):
    before = torch.get_num_threads()
    arms = (Arm("base"),)
    rows = run_design(
        Design(arms, (0,), base={"steps": 1}, profile="tiny"), data=store, threads=2, root=tmp_path, progress=False
    )
    assert (rows[0]["threads"], torch.get_num_threads()) == (2, before)


def test_a_failed_run_is_a_row_and_the_others_go_on(store, tmp_path):
    arms = one_change({"absurd rate": {"learning_rate": 1e30}})
    sweep = Design(tuple(arms), (0,), preset="repaired", base={"steps": 12, "clip_norm": None}, profile="tiny")
    done, failed = sorted(run_design(sweep, data=store, root=tmp_path, progress=False), key=lambda row: row["status"])
    assert (done["arm"], done["status"]) == ("base", "done")
    assert (failed["arm"], failed["status"]) == ("absurd rate", "failed")
    assert failed["error"].startswith("training stopped at step")
    assert failed["settled_loss"] is failed["held_out_iou"] is failed["run"] is None


def test_precision_is_the_fast_one_unless_the_design_says_otherwise(design, store, monkeypatch):
    monkeypatch.setattr(engines, "fast_precision", lambda: "bf16-mixed")
    frames = split_frames(store, PROFILES["tiny"])
    assert {task.config.precision for task in engines.plan(design, *frames)} == {"bf16-mixed"}
    set_ = replace(design, base={"steps": 12, "precision": "32-true"})
    assert {task.config.precision for task in engines.plan(set_, *frames)} == {"32-true"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"engine": "spark"}, "here, processes or ray"),
        ({"workers": 0}, "workers must be a whole number of at least 1"),
        ({"threads": 1.5}, "threads must be a whole number"),
        ({"address": "auto"}, "the engine is here"),
        ({"workers": 2}, "one run after another, got workers=2"),
        ({"only_seeds": [5]}, "no seed 5"),
    ],
)
def test_bad_settings(design, store, tmp_path, settings, says):
    with pytest.raises(OcclabError, match=says):
        run_design(design, data=store, root=tmp_path, progress=False, **settings)


def test_a_folders_name_is_one(design):
    task = Task(Arm("head=logits: ../x/y " + "z" * 300), design.config(design.arms[0], 1), "0" * 12)
    assert "/" not in task.name
    assert len(task.name) < 100
    assert task.name.startswith("head=logits")
    assert len(replace(task, arm=Arm("\N{CJK UNIFIED IDEOGRAPH-6C34}" * 100)).name.encode()) < 100


@pytest.mark.parametrize("summary", ["{}", "[]", '{"ladder": 3}'])
def test_a_run_with_half_a_summary_is_one_sentence(design, store, here, tmp_path, summary):
    root = tmp_path / "runs"
    shutil.copytree(here[1], root)
    (root / here[0][0]["run"] / "summary.json").write_text(summary)
    with pytest.raises(OcclabError, match=r"summary\.json: expected the whole summary of a run"):
        run_design(design, data=store, root=root, progress=False)


def test_a_run_made_by_other_code_is_no_result(design, store, tmp_path):
    task = Task(design.arms[0], replace(design.config(design.arms[0], 0), steps=1), "0" * 12)
    row = Job(*split_frames(store, PROFILES["tiny"]), tmp_path).do(task)
    assert row["status"] == "failed"
    assert "another version" in row["error"]
    assert not list(tmp_path.iterdir())  # nothing was trained


# --- processes ------------------------------------------------------------------------------------------------------


def left_behind(before):
    """Processes of this one that are still there."""
    end = time.monotonic() + 10
    while (left := set(psutil.Process().children(recursive=True)) - before) and time.monotonic() < end:
        time.sleep(0.1)
    return {process for process in left if "resource_tracker" not in " ".join(process.cmdline())}


@pytest.mark.slow
def test_processes_give_the_same_rows_also_when_one_is_killed(design, store, here, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "Job", Fragile)
    before = set(psutil.Process().children(recursive=True))
    rows = run_design(design, data=store, engine="processes", workers=2, threads=1, root=tmp_path, progress=False)
    assert numbers(rows) == numbers(here[0])
    assert attempts(rows) == {("logits", 1): 2}
    assert run_design(design, data=store, engine="processes", root=tmp_path, progress=False) == rows
    assert not left_behind(before)


@pytest.mark.slow
def test_a_run_that_always_dies_is_given_up(design, store, tmp_path):
    tasks = engines.plan(design, *split_frames(store, PROFILES["tiny"]))[:1]
    ((task, row),) = run_in_processes(Dead([], [], tmp_path), deque(tasks), 1, 1)
    assert task is tasks[0]
    assert (row["status"], row["attempts"]) == ("failed", 3)
    assert row["error"] == "the worker died 3 times, the last time with exit code 7"


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_starts_is_replaced(design, store, tmp_path, monkeypatch):
    start, started = _Worker.__init__, []

    def killed_once(self, *arguments):
        start(self, *arguments)
        if not started:
            self.process.kill()
        started.append(self)

    monkeypatch.setattr(_Worker, "__init__", killed_once)
    frames, held_out = split_frames(store, PROFILES["tiny"])
    tasks = [replace(task, config=replace(task.config, steps=1)) for task in engines.plan(design, frames, held_out)[:1]]
    tasks = [replace(task, hash=run_hash(task.config, frames, held_out)) for task in tasks]
    ((_, row),) = run_in_processes(Job(frames, held_out, tmp_path), deque(tasks), 1, 1)
    assert (row["status"], row["attempts"], len(started)) == ("done", 2, 2)


@pytest.mark.slow
def test_a_script_without_its_guard_is_one_sentence(store, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom occlab.ablation import Arm, Design, run_design\n"
        "design = Design((Arm('base'),), (0,), base={'steps': 1}, profile='tiny')\n"
        f"run_design(design, data=Path({str(store)!r}), root=Path({str(tmp_path)!r}), engine='processes', progress=False)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    says = 'a worker could not start: a script that runs a design in processes needs its if __name__ == "__main__":'
    assert says in done.stderr.splitlines()[-1]


def test_each_cuda_device_gets_its_own_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _devices() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8a1b")  # as a batch system hands them out
    assert _devices() == ["3", "GPU-8a1b"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert _devices() == [None]


# --- Ray ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ray_gives_the_same_rows_also_when_a_worker_is_killed(design, store, here, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where Ray's workers find Fragile
    monkeypatch.setattr(engines, "Job", Fragile)
    before = set(psutil.Process().children(recursive=True))
    rows = run_design(design, data=store, engine="ray", workers=2, threads=1, root=tmp_path, progress=False)
    assert numbers(rows) == numbers(here[0])
    assert attempts(rows) == {("logits", 1): 2}
    assert not left_behind(before)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere"])
def test_no_cluster_at_an_address_is_one_sentence(design, store, tmp_path, address):
    pytest.importorskip("ray")
    with pytest.raises(OcclabError, match=f"expected a Ray cluster at '{address}'") as caught:
        run_design(design, data=store, engine="ray", address=address, root=tmp_path, progress=False)
    assert "\n" not in str(caught.value)


class FakeRay:
    """A cluster of one node of two processors, which this process has joined."""

    @staticmethod
    def is_initialized():
        return True

    @staticmethod
    def nodes():
        return [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 64.0}}]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"threads": 3}, "expected a node with 3 processors for the threads of a run, the largest has 2"),
        ({"address": "auto"}, "has joined a Ray cluster already: expected no address"),
    ],
)
def test_what_a_cluster_cannot_do_is_one_sentence(design, store, tmp_path, monkeypatch, settings, says):
    monkeypatch.setitem(sys.modules, "ray", FakeRay)
    with pytest.raises(OcclabError, match=says):
        run_design(design, data=store, engine="ray", root=tmp_path, progress=False, **settings)


def test_a_missing_ray_is_one_sentence(design, store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OcclabError, match=r"pip install 'occlab\[sweep\]'"):
        run_design(design, data=store, engine="ray", root=tmp_path, progress=False)

"""The doctor on logs: a zoo of synthetic ones, and real ones that are healthy."""

import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_zoo import Plan, curve, falls, faults, healthy, log, noisy

from occlab.diagnosis.finding import CAUSES
from occlab.diagnosis.log_doctor.doctor import diagnose_log
from occlab.diagnosis.log_doctor.steps import clipped_share
from occlab.diagnosis.logs import LogSettings, read_log
from occlab.diagnosis.report import as_html, as_text
from occlab.errors import OcclabError
from occlab.settings import real_data

SEEDS = range(3)


@pytest.fixture(scope="module")
def zoo():
    """(name, seed, plan, report) of every log; those without an expected finding are healthy."""
    made = [(name, seed, plan) for make in (faults, healthy) for seed in SEEDS for name, plan in make(seed).items()]
    return [(name, seed, plan, report(plan)) for name, seed, plan in made]


def report(plan: Plan):
    one = log(plan, seed=0)
    if plan.expected == "silent-option" and plan.others:
        others = [log(plan, name="other.json", seed=0, weight_decay=0.1)]
    else:
        others = [with_noise(plan, seed) for seed in range(1, plan.others + 1)]
    return diagnose_log(one, others=others, **plan.said)


def with_noise(plan, seed):
    rng = np.random.default_rng(seed)
    return log(Plan(**{**vars(plan), "loss": plan.loss * rng.uniform(0.99, 1.01, len(plan.loss))}), seed=seed)


def told(plan, found):
    if plan.verdict != "alarm":
        return found[plan.expected].verdict == plan.verdict and found.cause is None
    return found.cause == plan.expected


def test_the_planted_fault_is_named(zoo):
    planted = [entry for entry in zoo if entry[2].expected]
    missed = [
        (name, seed, found.cause, found[plan.expected].title) for name, seed, plan, found in planted if not told(plan, found)
    ]
    recall = 1 - len(missed) / len(planted)
    print(f"log zoo: {len(faults(0))} faults x {len(SEEDS)} seeds, recall {recall:.1%}; missed {missed}")
    assert len(faults(0)) >= 20
    assert recall >= 0.95, missed


def test_no_healthy_log_gives_an_alarm(zoo):
    alarms = [
        (name, seed, f.id, f.title)
        for name, seed, plan, found in zoo
        if not plan.expected
        for f in found.findings
        if f.alarming
    ]
    print(f"log zoo: {len(healthy(0))} healthy logs x {len(SEEDS)} seeds, {len(alarms)} alarms {alarms}")
    assert len(healthy(0)) >= 20
    assert not alarms


def test_every_check_gives_one_finding_and_an_alarm_has_all_its_parts(zoo):
    for *_, found in zoo:
        assert sorted(f.id for f in found.findings) == sorted(CAUSES)
        json.loads(found.to_json())
        for f in found.findings:
            assert f.title.endswith(".")
            if f.alarming:
                assert "cutoff" in f.evidence
                assert "source" in f.evidence
                assert f.why
                compile(f.fix, f.id, "exec")
                assert f.fix
                assert f.next_experiment is not None or f.id == "silent-option"


def test_the_plateau_of_the_stalled_network_is_read_as_a_dead_head_among_others():
    rng = np.random.default_rng(0)
    found = diagnose_log(log(Plan(noisy(rng, falls(300, 1.35, 1.193, 0.03), 0.002))))
    plateau = found["plateau-at-floor"]
    assert plateau.verdict == "note"
    assert found.cause is None
    dead = plateau.evidence["readings"][0]
    assert "ln 2 + 0.5 x 1" in dead["reading"]
    assert "Dice weight 0.5" in dead["assumes"]
    assert dead["value"] == pytest.approx(math.log(2) + 0.5, abs=2e-3)
    base = [
        r for r in plateau.evidence["readings"] if "base rate" in r["reading"] and r["assumes"].startswith("Dice weight 1, 8")
    ]
    assert len(base) == 1  # 7.9 to 8.1 % occupied, Dice weight 1
    assert any("spread of p" in measurement for measurement in plateau.evidence["decide_by"])
    assert found.curves["floors"]


def test_a_given_rate_decides_between_the_readings():
    rng = np.random.default_rng(0)
    stuck = log(Plan(noisy(rng, falls(300, 1.6, 1.19, 0.03), 0.002)))
    assert "base rate" in diagnose_log(stuck, positive_rate=0.079, loss="bce+dice", dice_weight=1.0)["plateau-at-floor"].title
    assert "1/2" in diagnose_log(stuck, positive_rate=0.005, loss="bce+dice", dice_weight=0.5)["plateau-at-floor"].title


def test_means_bound_the_clipped_share():
    """On simulated norms, the bounds hold what was clipped in truth."""
    rng = np.random.default_rng(0)
    for limit in (0.3, 1.0, 3.0):
        each = rng.lognormal(0.0, 1.0, (100, 50))
        truth = (each > limit).mean()
        least, most, _ = clipped_share(each.mean(1), limit, 50)
        assert least <= truth <= most
        assert clipped_share(each.ravel(), limit, 1)[:2] == pytest.approx((truth, truth))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=0, max_size=60),
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=60),
    st.sampled_from([None, 1, 50]),
)
def test_any_numbers_give_a_report(loss, other, window):
    training = {"gradient_norm": np.array(other), "learning_rate": np.array(other[::-1]), "loss_dice": np.array(other)}
    plan = Plan(np.array(loss), window=window, training=training, settings=LogSettings(optimizer="SGD", clip_norm=1.0))
    plan.validation = {"val_loss": np.array(other), "acc": np.array(other), "iou": np.array(other)}
    found = diagnose_log(log(plan), positive_rate=0.01)
    assert len(found.findings) == len(CAUSES)
    json.loads(found.to_json())


def test_long_logs_are_diagnosed_at_once():
    rng, n = np.random.default_rng(0), 200_000
    norms = noisy(rng, np.full(n, 3.0), 0.4)
    plan = Plan(noisy(rng, falls(n, 1.35, 1.19, 0.03), 0.1), window=1, settings=LogSettings(optimizer="SGD", clip_norm=35.0))
    plan.training = {"gradient_norm": norms, "learning_rate": np.full(n, 1e-3), "loss_a": norms, "loss_b": norms}
    began = time.process_time()
    found = diagnose_log(log(plan))
    assert time.process_time() - began < 2
    assert len(found.curves["loss"][0]) <= 2000


def test_names_from_a_log_lose_their_control_characters():
    plan = faults(0)["one term is all"]
    plan.training = {"loss_\x1b[31mred\x07": plan.training["loss_depth"], "loss_b": plan.training["loss_occ"]}
    title = diagnose_log(log(plan))["loss-term-dominance"].title
    assert title.isprintable()
    assert "red" in title


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"positive_rate": 5.0}, "positive rate"),
        ({"positive_rate": math.nan}, "positive rate"),
        ({"dice_weight": -1.0}, "dice_weight"),
        ({"pos_weight": 0.0}, "pos_weight"),
        ({"loss": "mse"}, "focal or dice"),
        ({"loss": "focal", "dice_weight": 0.5}, "does not go with"),
    ],
)
def test_numbers_out_of_range_are_refused(said, sentence):
    with pytest.raises(OcclabError, match=sentence):
        diagnose_log(log(Plan(np.ones(30))), **said)


def test_curves_of_other_lengths_than_the_loss():
    plan = Plan(falls(200, 1.2, 0.4))
    made = log(plan)
    made.training["gradient_norm"] = curve(np.full(37, 2.0), 9000, 50)
    assert diagnose_log(made).cause is None


def real_logs():
    folder = real_data() and real_data() / "logs"
    if folder is None or not folder.is_dir():
        pytest.skip("no real logs here (OCCLAB_REAL_DATA)")
    return folder


def test_real_healthy_logs_give_no_alarm():
    paths = [p for p in real_logs().rglob("*") if p.suffix in (".json", ".csv") or "tfevents" in p.name]
    assert len(paths) >= 5
    for path in paths:
        assert not [f for f in diagnose_log(read_log(path)).findings if f.alarming], path


def test_the_plateau_of_the_real_dice_network_is_found():
    path = next(real_logs().rglob("*metrics.csv"))
    plateau = diagnose_log(read_log(path))["plateau-at-floor"]
    assert plateau.verdict == "note"
    assert plateau.evidence["level"] == pytest.approx(0.53, abs=0.03)  # last quarter of train_loss_step
    ones = plateau.evidence["readings"][0]
    assert "everything occupied" in ones["reading"]
    assert "occupied" in ones["assumes"]


def test_a_report_says_how_its_log_was_read_and_how_long_the_run_was():
    rng = np.random.default_rng(0)
    made = log(Plan(noisy(rng, falls(3000, 1.35, 1.193, 0.03), 0.002), window=50))
    found = diagnose_log(replace(made, notes=("2 files of a run that was resumed are read as one.",)))
    for said in (as_text(found), as_html(found)):
        said = " ".join(said.split())
        assert "over 150,000 steps" in said  # not over as many as there are rows, nor as there are points of the curve
        assert "steps 50 to 150,000" in said
        assert "2 files of a run that was resumed are read as one." in said


def test_the_ladder_of_a_known_loss_is_drawn_and_one_line_for_what_cannot_be_told_apart():
    rng = np.random.default_rng(0)
    stuck = log(Plan(noisy(rng, falls(300, 1.35, 1.193, 0.03), 0.002)))
    told = diagnose_log(stuck, positive_rate=0.01, loss="bce+dice", dice_weight=0.5)
    assert told.curves["floors"].keys() == {"p = 1/2", "the base rate"}
    assert "decide_by" not in told["plateau-at-floor"].evidence
    untold = diagnose_log(stuck)
    others = len(untold["plateau-at-floor"].evidence["readings"]) - 1
    assert list(untold.curves["floors"]) == [f"p = 1/2 or {others} others"]


def test_what_the_log_or_its_reader_has_said_is_not_asked_for_again():
    rng = np.random.default_rng(0)
    plan = Plan(noisy(rng, falls(300, 1.35, 1.193, 0.03), 0.002))
    plan.training = {"loss_dice": np.full(300, 0.5), "loss_occ": plan.loss - 0.5}
    asked = diagnose_log(log(plan))["plateau-at-floor"].evidence["decide_by"]
    assert any("loss_dice settled at 0.5" in measurement for measurement in asked)
    told = diagnose_log(log(Plan(plan.loss)), positive_rate=0.079)["plateau-at-floor"].evidence
    assert not any("--positive-rate" in measurement for measurement in told.get("decide_by", ()))

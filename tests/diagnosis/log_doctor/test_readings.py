"""The closed forms against the losses themselves, and the trend against what was put in."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress

from occlab import OccupancyLoss
from occlab.diagnosis.log_doctor.readings import CLASSES, Stated, readings, readings_at, rungs, tolerance
from occlab.diagnosis.log_doctor.trend import change_with_error, thinned, trend
from occlab.errors import OcclabError

rates = st.floats(0.002, 0.4)
probabilities = st.floats(0.01, 0.99)


def target(rate, cells=10_000):
    """One channel, so that Dice over all cells and Dice per channel are the same."""
    occupied = torch.zeros(cells)
    occupied[: round(rate * cells)] = 1
    return occupied.reshape(1, 1, 100, cells // 100), round(rate * cells) / cells


@settings(max_examples=40, deadline=None)
@given(rates, probabilities, st.sampled_from([0.0, 0.5, 2.0]))
def test_the_cost_of_a_constant_is_that_of_the_loss(rate, p, weight):
    cells, rate = target(rate)
    said = Stated(loss="bce+dice", dice_weight=weight)
    assert said.cost(p, rate) == pytest.approx(OccupancyLoss(dice=weight).of_constant(p, cells), rel=1e-4)
    focal = OccupancyLoss(bce=0, dice=0, focal=1)
    assert Stated(loss="focal").cost(p, rate) == pytest.approx(focal.of_constant(p, cells), rel=1e-4)
    assert Stated(loss="dice").cost(p, rate) == pytest.approx(OccupancyLoss(bce=0, dice=1).of_constant(p, cells), rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(rates, probabilities, st.floats(0.5, 50))
def test_the_cost_with_a_pos_weight_is_that_of_torch(rate, p, weight):
    cells, rate = target(rate)
    logits = torch.full_like(cells, math.log(p / (1 - p)), dtype=torch.float64)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, cells.double(), pos_weight=torch.tensor(weight).double()
    )
    assert Stated(loss="bce", pos_weight=weight).cost(p, rate) == pytest.approx(float(loss), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(rates, st.floats(0.5, 50))
def test_the_best_constant_is_the_closed_form(rate, weight):
    p, value = Stated(loss="bce", pos_weight=weight).best_constant(rate)
    best = weight * rate / (weight * rate + 1 - rate)
    assert value == pytest.approx(-weight * rate * math.log(best) - (1 - rate) * math.log(1 - best), rel=1e-5)
    assert p == pytest.approx(best, rel=0.02)


@pytest.mark.parametrize(
    ("said", "rate", "value"),
    [
        (Stated(loss="bce"), 0.01, 0.0560),
        (Stated(loss="bce"), 0.05, 0.1985),
        (Stated(loss="bce", pos_weight=10.0), 0.05, 0.9341),
        (Stated(loss="bce", pos_weight=99.0), 0.01, 2 * 0.99 * math.log(2)),  # balanced: p* = 1/2
        (Stated(loss="focal"), 0.05, 0.01899),
        (Stated(loss="focal", alpha=0.75), 0.05, 0.02901),
        (Stated(loss="bce+dice", dice_weight=1.0), 0.079, 1.190),
        (Stated(loss="dice"), 0.05, 1 - 0.1 / 1.05),  # all ones
    ],
)
def test_best_constants_measured_elsewhere(said, rate, value):
    assert said.best_constant(rate)[1] == pytest.approx(value, rel=6e-4)


def test_behind_a_relu_the_best_constant_is_one_half():
    p, value = Stated(loss="bce").best_constant(0.02, lowest=0.5)
    assert p == 0.5
    assert value == pytest.approx(math.log(2))
    assert Stated(loss="bce").best_constant(0.8, lowest=0.5)[0] == pytest.approx(0.8, rel=0.01)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.001, 0.08), st.sampled_from([0.5, 1.0, 2.0]))
def test_a_plateau_made_from_a_rate_is_read_back_with_it(rate, weight):
    value = Stated(loss="bce+dice", dice_weight=weight).best_constant(rate)[1]
    found = [r for r in readings(Stated(), value, 1e-4) if "base rate" in r.reading]
    mine = [
        r
        for r in found
        if r.assumes.startswith(f"Dice weight {weight:g}, {100 * rate:.3g}"[:-1]) and "pos_weight" not in r.assumes
    ]
    assert len(mine) == 1
    assert mine[0].value == pytest.approx(value, rel=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 5.0), st.floats(0, 0.1))
def test_every_reading_is_within_the_tolerance(level, error):
    for r in readings(Stated(), level, error):
        assert abs(r.value - level) <= tolerance(r.value, error) + 1e-9


def test_the_readings_of_other_numbers():
    def first(level, said=None):
        return readings(said or Stated(), level, 1e-4)[0]

    assert first(math.log(2)).reading.endswith("(ln 2)")
    assert first(0.75 * 0.25 * math.log(2)).reading.endswith("(0.75 x 0.25 x ln 2)")
    classes = [r.assumes for r in readings(Stated(), math.log(20), 1e-4) if r.reading == "softmax that says nothing, ln 20"]
    assert classes == ["cross-entropy over 20 classes"]
    assert 20 in CLASSES
    assert "two sigmoids" in first(-math.log(1 - 1 / (1 + math.exp(-0.5))), Stated(loss="bce")).reading
    ones = first(0.5, Stated(loss="dice"))
    assert "everything occupied" in ones.reading
    assert "33.3 %" in ones.assumes


@settings(max_examples=30, deadline=None)
@given(st.floats(0.001, 0.3), st.sampled_from(["bce", "bce+dice", "focal", "dice"]))
def test_a_level_far_from_every_rung_matches_none(rate, loss):
    said = Stated(loss=loss, dice_weight=0.5 if loss == "bce+dice" else None)
    lowest = min(low for _, low, _, _ in rungs(said, rate))
    assert readings_at(said, 0.9 * lowest, 1e-5, rate) == []


def test_a_prediction_that_is_right_on_the_occupied_cells_is_not_called_trivial():
    rate = 0.2
    cells, _ = target(rate)
    loss = OccupancyLoss().of_probabilities(cells.double().clamp(min=0.5), cells)
    found = readings_at(Stated(loss="bce+dice", dice_weight=0.5), loss, 1e-5, rate)
    assert found
    assert not any(r.trivial for r in found)


def test_stated_refuses_what_cannot_be():
    with pytest.raises(OcclabError, match="between 0 and 1"):
        Stated(positive_rate=0.0)
    with pytest.raises(OcclabError, match="does not go with"):
        Stated(loss="dice", pos_weight=2.0)


# --- the trend ------------------------------------------------------------------------------------------------------------


def test_a_line_is_measured_with_its_error():
    """The error covers the truth as often as it should, against ordinary least squares."""
    rng, inside = np.random.default_rng(0), 0
    x = np.arange(100.0)
    for _ in range(100):
        y = 2 - 0.01 * x + 0.1 * rng.standard_normal(100)
        change, error = change_with_error(x, y)
        inside += abs(change + 0.99) <= 2 * error
        assert error == pytest.approx(linregress(x, y).stderr * 99, rel=0.6)
    assert inside >= 88


def test_settled_falling_rising_and_too_noisy():
    rng, n = np.random.default_rng(1), 400
    x, t = np.arange(n), np.linspace(0, 1, n)

    def state(mean, scatter):
        return trend(x, mean * (1 + scatter * rng.standard_normal(n))).state

    assert state(1.2 + 0.2 * np.exp(-20 * t), 0.005) == "settled"
    assert state(np.ones(n), 0.05) == "settled"
    assert state(1 - 0.5 * t, 0.02) == "falling"
    assert state(1.19 - 0.03 * t, 0.004) == "falling"  # 0.6 % in the last quarter, but as much as in the others
    assert state(0.5 + 0.5 * t, 0.02) == "rising"
    assert state(np.ones(n), 2.0) == "unclear"


def test_outliers_and_rows_that_are_no_numbers_do_not_move_a_level():
    rng, n = np.random.default_rng(2), 400
    value = 1 + 0.01 * rng.standard_normal(n)
    plain = trend(np.arange(n), value)
    value[::50] = 1e6
    value[1::50] = np.nan
    spoilt = trend(np.arange(n), value)
    assert spoilt.level == pytest.approx(plain.level, abs=5e-3)
    assert spoilt.state == "settled"
    assert spoilt.rows == n - 8
    assert trend(np.arange(n), np.where(np.arange(n) < 19, 1.0, np.nan)) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 300))
def test_thinning_keeps_the_ends_near_and_the_mean(n, points):
    value = np.linspace(0, 1, n)
    step, means = thinned(np.arange(n), value, points)
    assert len(step) == len(means) == min(n, points)
    assert np.average(means, weights=np.diff(np.linspace(0, n, len(means) + 1).astype(int))) == pytest.approx(
        value.mean(), abs=1e-9
    )
    assert (np.diff(step) > 0).all()

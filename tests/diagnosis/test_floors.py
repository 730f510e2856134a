"""The ladder against closed forms and brute force."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab import OccupancyLoss
from occlab.diagnosis import HALF, ladder

LOSS = OccupancyLoss()


def targets(rate=0.05, shape=(3, 4, 20, 20), seed=0, soft=False):
    generator = torch.Generator().manual_seed(seed)
    target = (torch.rand(shape, generator=generator) < rate).float()
    return target * torch.rand(shape, generator=generator) if soft else target


def test_the_plateaus_number():
    """With 0.7 % of each channel occupied: ln 2 + 0.5 (1 - 2 pi / (1 + 2 pi))."""
    target = torch.zeros(1, 2, 10, 100)
    target[:, :, 0, :7] = 1
    pi = 0.007
    assert ladder(LOSS, target)[HALF] == pytest.approx(math.log(2) + 0.5 * (1 - 2 * pi / (1 + 2 * pi)), abs=1e-6)


def test_best_constant_is_the_best_of_a_fine_search():
    target = targets(0.2)
    found = ladder(LOSS, target)
    grid = torch.linspace(0.001, 0.999, 999).tolist()
    searched = {p: LOSS.of_constant(p, target) for p in grid}
    assert found["best constant"] <= min(searched.values()) + 1e-6
    assert found.best_constant == pytest.approx(min(searched, key=searched.get), abs=0.002)


def test_best_constant_of_cross_entropy_is_the_base_rate():
    target = targets(0.03)
    assert ladder(OccupancyLoss(dice=0), target).best_constant == pytest.approx(target.mean().item(), rel=0.01)


def test_rungs_are_in_order():
    for soft in (False, True):
        found = ladder(LOSS, targets(soft=soft))
        by_name = {floor.name: floor for floor in found.floors}
        assert by_name["all empty"].free == math.inf
        assert by_name["all empty"].bounded == by_name[HALF].free
        assert (
            by_name[HALF].free
            >= by_name["best constant"].free
            >= by_name["mean map"].free
            >= by_name["perfect prediction"].free
        )
        for floor in found.floors:
            assert floor.bounded >= by_name["perfect prediction"].bounded - 1e-9
            if floor.name not in ("all empty", HALF):
                assert floor.bounded >= floor.free


def test_a_perfect_prediction_costs_nothing_on_hard_targets_only():
    assert ladder(LOSS, targets())["perfect prediction"] == pytest.approx(0, abs=1e-9)
    soft = targets(soft=True)
    t = soft.double()
    entropy = -(torch.xlogy(t, t) + torch.xlogy(1 - t, 1 - t)).mean().item()
    dice = (1 - (2 * (t * t).sum((2, 3)) + 1e-6) / (2 * t.sum((2, 3)) + 1e-6)).mean().item()
    assert ladder(LOSS, soft)["perfect prediction"] == pytest.approx(entropy + 0.5 * dice, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 1.0))
def test_no_constant_of_a_bounded_output_is_below_its_floor(seed, p):
    target = targets(0.6, shape=(1, 2, 8, 8), seed=seed)  # mostly occupied: here the best bounded constant is above 1/2
    found = ladder(LOSS, target)
    bounded = next(floor.bounded for floor in found.floors if floor.name == "best constant")
    assert LOSS.of_constant(p, target) >= bounded - 1e-6


def test_masked_cells_do_not_count():
    target = targets(shape=(2, 3, 10, 20))
    mask = torch.zeros(1, 1, 10, 20, dtype=torch.bool)
    mask[..., :10] = True
    inside, masked = ladder(LOSS, target[..., :10]), ladder(LOSS, target, mask)
    assert masked.rungs.keys() == inside.rungs.keys()
    for name, value in inside.rungs.items():
        assert masked[name] == pytest.approx(value, rel=1e-6), name
    assert masked.occupied == pytest.approx(inside.occupied)


def test_naming_a_plateau():
    found = ladder(LOSS, targets(0.01))
    assert found.stopped_at(found[HALF] + 0.004) == HALF
    assert found.matches(found[HALF] + 0.004)[0] == HALF
    assert found.stopped_at(found["best constant"]) == found.matches(found["best constant"])[0] == "best constant"
    assert found.matches(0.9) == []
    assert found.stopped_at(0.9) in found.rungs


def test_among_rungs_too_close_to_tell_a_falling_loss_stops_at_the_highest():
    found = ladder(LOSS, targets(0.01))
    lowest = found["perfect prediction, p >= 1/2"]
    assert found.matches(lowest)[0] == "perfect prediction, p >= 1/2"
    assert found.stopped_at(lowest, tolerance=0.02) == HALF
    assert found.stopped_at(lowest, tolerance=1e-6) == "perfect prediction, p >= 1/2"


def test_other_losses_have_their_own_ladder():
    focal = ladder(OccupancyLoss(bce=0, dice=0, focal=1), torch.zeros(1, 2, 10, 10))
    assert focal[HALF] == pytest.approx(0.1300, abs=1e-4)


def test_targets_that_nearly_reach_one_leave_the_mean_map_finite():
    target = torch.full((8, 1, 2, 2), 1.0)
    target[0] = 1 - 2**-24  # the largest float32 below 1
    assert ladder(LOSS, target)["mean map"] == pytest.approx(0, abs=1e-5)

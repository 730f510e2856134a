"""Losses against closed forms, against MONAI and kornia, and by ordering."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.losses import binary_focal_loss_with_logits
from monai.losses import DiceLoss, FocalLoss

from occlab import OcclabError, OccupancyLoss

BCE, DICE = OccupancyLoss(bce=1, dice=0), OccupancyLoss(bce=0, dice=1)
FOCAL = OccupancyLoss(bce=0, dice=0, focal=1)
BOTH = OccupancyLoss()


def sample(seed=0, shape=(2, 4, 12, 10), rate=0.1, soft=False):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, requires_grad=True)
    target = (torch.rand(shape, generator=generator) < rate).float()
    if soft:
        target = target * torch.rand(shape, generator=generator)
    mask = torch.rand(shape[0], 1, *shape[2:], generator=generator) < 0.6
    return logits, target, mask


def test_the_plateau_in_closed_form():
    """A dead head on empty channels: ln 2 of cross-entropy and half a Dice of 1."""
    assert BOTH.of_constant(0.5, torch.zeros(1, 32, 18, 18)) == pytest.approx(math.log(2) + 0.5, abs=1e-5)


def test_focal_loss_of_the_same_dead_head():
    assert FOCAL.of_constant(0.5, torch.zeros(1, 4, 8, 8)) == pytest.approx(0.75 * 0.25 * math.log(2))


@given(st.floats(0.001, 0.999), st.floats(0.01, 0.99))
def test_constant_on_one_rate_in_closed_form(p, rate):
    n = 1000
    target = torch.zeros(1, 1, 1, n)
    target[..., : max(1, round(rate * n))] = 1
    pi = target.mean().item()
    bce = -(pi * math.log(p) + (1 - pi) * math.log(1 - p))
    dice = 1 - 2 * p * pi / (p + pi)
    assert BCE.of_constant(p, target) == pytest.approx(bce, rel=1e-6)
    assert DICE.of_constant(p, target) == pytest.approx(dice, abs=1e-6)
    assert BOTH.of_constant(p, target) == pytest.approx(bce + 0.5 * dice, rel=1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_dice_is_monais(soft):
    logits, target, _ = sample(soft=soft)
    monai = DiceLoss(sigmoid=True, smooth_nr=1e-6, smooth_dr=1e-6)(logits, target)
    torch.testing.assert_close(DICE(logits, target), monai)


def test_focal_is_monais_and_kornias():
    logits, target, _ = sample()
    torch.testing.assert_close(FOCAL(logits, target), FocalLoss(alpha=0.25, gamma=2.0)(logits, target))
    kornia = binary_focal_loss_with_logits(logits, target, alpha=0.25, gamma=2.0, reduction="mean")
    torch.testing.assert_close(FOCAL(logits, target), kornia)


@pytest.mark.parametrize("soft", [False, True])
def test_bce_is_torchs(soft):
    logits, target, _ = sample(soft=soft)
    torch.testing.assert_close(BCE(logits, target), F.binary_cross_entropy_with_logits(logits, target))
    torch.testing.assert_close(BOTH(logits, target), BCE(logits, target) + 0.5 * DICE(logits, target))


@settings(deadline=None)
@given(st.integers(0, 1000), st.booleans(), st.booleans(), st.booleans())
def test_value_of_probabilities_is_the_value_of_their_logits(seed, soft, masked, weighted):
    logits, target, mask = sample(seed, soft=soft)
    loss = OccupancyLoss(bce=0.7, dice=0.4, focal=2.0, height_weights=(1, 2, 0, 5) if weighted else None)
    mask = mask if masked else None
    expected = loss(logits.double(), target, mask).item()
    assert loss.of_probabilities(torch.sigmoid(logits), target, mask) == pytest.approx(expected, rel=1e-4)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 1.0), st.booleans(), st.booleans(), st.booleans())
def test_the_constant_curve_is_the_loss_of_a_full_volume(seed, p, soft, masked, weighted):
    _, target, mask = sample(seed, soft=soft)
    loss = OccupancyLoss(bce=0.7, dice=0.4, focal=2.0, height_weights=(1, 2, 0, 5) if weighted else None)
    mask = mask if masked else None
    whole = loss.of_probabilities(torch.full_like(target, p, dtype=torch.float64), target, mask)
    assert loss.constant_curve(target, mask)(p) == pytest.approx(whole, rel=1e-6)


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_a_mask_is_as_if_the_other_cells_were_not_there(seed):
    logits, target, _ = sample(seed)
    mask = torch.zeros_like(target, dtype=torch.bool)
    mask[..., :7] = True
    loss = OccupancyLoss(bce=1, dice=1, focal=1)
    inside = loss(logits[..., :7], target[..., :7])
    torch.testing.assert_close(loss(logits, target, mask), inside)
    (gradient,) = torch.autograd.grad(loss(logits, target, mask), logits)
    assert (gradient[..., 7:] == 0).all()


def test_a_channel_without_a_valid_cell_has_no_dice():
    logits, target, _ = sample()
    mask = torch.ones_like(target, dtype=torch.bool)
    mask[:, 2] = False
    kept = [0, 1, 3]
    torch.testing.assert_close(DICE(logits, target, mask), DICE(logits[:, kept], target[:, kept]))


def test_height_weights_choose_channels():
    logits, target, _ = sample()
    loss = OccupancyLoss(bce=1, dice=1, focal=1, height_weights=(0, 3, 0, 0))
    torch.testing.assert_close(loss(logits, target), OccupancyLoss(bce=1, dice=1, focal=1)(logits[:, 1:2], target[:, 1:2]))
    assert OccupancyLoss(height_weights=(2, 2, 2, 2))(logits, target).item() == pytest.approx(
        BOTH(logits, target).item(), rel=1e-6
    )


@pytest.mark.parametrize("loss", [BCE, DICE, FOCAL, BOTH])
def test_better_logits_cost_less(loss):
    _, target, _ = sample()
    sign = 2 * target - 1
    values = [loss(confidence * sign, target).item() for confidence in (-3.0, 0.0, 3.0, 9.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.02


def test_extreme_logits_stay_finite():
    _, target, _ = sample()
    logits = (1e4 * torch.randn_like(target)).requires_grad_()
    value = OccupancyLoss(bce=1, dice=1, focal=1)(logits, target)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


def test_probability_zero_on_an_occupied_cell_is_infinite_and_a_mask_hides_it():
    target = torch.zeros(1, 1, 2, 2)
    target[0, 0, 0, 0] = 1
    mask = target == 0
    assert BCE.of_constant(0.0, target) == math.inf
    assert BCE.of_probabilities(torch.zeros_like(target), target, mask) == 0


def test_dice_of_a_perfect_soft_prediction_is_not_zero():
    """Linear Dice is minimal at hard predictions: on soft targets p = t does not reach 0."""
    target = torch.rand(1, 1, 50, 50)
    expected = 1 - (target**2).sum().item() / target.sum().item()
    assert DICE.of_probabilities(target, target) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [{"bce": -1}, {"bce": 0, "dice": 0}, {"height_weights": (0, 0)}, {"height_weights": (1, -1)}],
)
def test_impossible_losses_are_refused(arguments):
    with pytest.raises(OcclabError):
        OccupancyLoss(**arguments)


def test_shapes_are_checked():
    with pytest.raises(OcclabError, match=r"one shape \(B, Z, Y, X\)"):
        BOTH(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 5))
    with pytest.raises(OcclabError, match="height"):
        OccupancyLoss(height_weights=(1, 2, 3))(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))

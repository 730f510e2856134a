"""Losses against closed forms, against MONAI and kornia, against their definitions, and by ordering."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.losses import binary_focal_loss_with_logits
from monai.losses import DiceLoss, FocalLoss, TverskyLoss

from occlab import OcclabError, OccupancyLoss
from occlab.losses import lovasz

BCE, DICE = OccupancyLoss(bce=1, dice=0), OccupancyLoss(bce=0, dice=1)
FOCAL = OccupancyLoss(bce=0, dice=0, focal=1)
TVERSKY = OccupancyLoss(bce=0, dice=0, tversky=1)
LOVASZ = OccupancyLoss(bce=0, dice=0, lovasz=1)
BOTH = OccupancyLoss()
ALL = OccupancyLoss(bce=0.7, dice=0.4, focal=2.0, tversky=0.8, lovasz=0.3)


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
    pi = target.double().mean().item()
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


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (0.5, 0.5), (1.0, 1.0), (0.0, 2.0), (0.9, 0.0)])
def test_tversky_is_monais(alpha, beta, soft):
    logits, target, _ = sample(soft=soft)
    monai = TverskyLoss(sigmoid=True, alpha=alpha, beta=beta, smooth_nr=0.5e-6, smooth_dr=0.5e-6)(logits, target)
    torch.testing.assert_close(replace(TVERSKY, tversky_alpha=alpha, tversky_beta=beta)(logits, target), monai)


@pytest.mark.parametrize("smooth", [1e-6, 1.0])
@pytest.mark.parametrize("soft", [False, True])
def test_tversky_of_equal_halves_is_dice(soft, smooth):
    logits, target, mask = sample(soft=soft)
    halves = replace(TVERSKY, tversky_alpha=0.5, tversky_beta=0.5, dice_smooth=smooth)
    dice, p = replace(DICE, dice_smooth=smooth), torch.sigmoid(logits)
    assert halves.of_probabilities(p, target, mask) == pytest.approx(dice.of_probabilities(p, target, mask), rel=1e-12)
    assert halves.of_constant(0.2, target, mask) == pytest.approx(dice.of_constant(0.2, target, mask), rel=1e-12)


def test_tversky_weighs_false_alarms_by_alpha_and_misses_by_beta():
    target = torch.zeros(1, 1, 1, 10)
    target[..., :4] = 1
    alarms, misses = target.clone(), target.clone()
    alarms[..., 4:6] = 1
    misses[..., :2] = 0
    assert TVERSKY.of_probabilities(alarms, target) == pytest.approx(1 - 4 / (4 + 0.3 * 2), abs=1e-6)
    assert TVERSKY.of_probabilities(misses, target) == pytest.approx(1 - 2 / (2 + 0.7 * 2), abs=1e-6)


def jaccard_loss(wrong, occupied):
    """1 - IoU of the prediction that is wrong on exactly these cells."""
    predicted = occupied ^ wrong
    union = (predicted | occupied).sum()
    return 1 - (predicted & occupied).sum() / union if union else 0.0


def lovasz_by_definition(p, target):
    """The set function, integrated over the levels of the errors: the largest cells go wrong first."""
    occupied = target > 0
    errors = np.abs(occupied - p)
    levels = np.unique(np.append(errors, 0.0))
    return sum((high - low) * jaccard_loss(errors > low, occupied) for low, high in pairwise(levels))


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.1, 0.6, 1.0]), st.booleans(), st.booleans())
def test_lovasz_is_the_extension_of_the_jaccard_loss(seed, rate, masked, tied):
    logits, target, mask = sample(seed, (3, 2, 4, 5), rate, soft=seed % 2 == 0)
    mask[1] = False
    p = torch.sigmoid(logits.detach()).double()
    if tied:
        p = (5 * p).round() / 5
    if masked:  # the second frame has no valid cell and drops out
        cells = [mask[i].expand_as(p[i]) for i in (0, 2)]
        frames = [(p[i][cells[i // 2]], target[i][cells[i // 2]]) for i in (0, 2)]
    else:
        frames = list(zip(p, target, strict=True))
    expected = np.mean([lovasz_by_definition(q.numpy().ravel(), t.numpy().ravel()) for q, t in frames])
    mask = mask if masked else None
    assert LOVASZ.of_probabilities(p, target, mask) == pytest.approx(expected, abs=1e-12)
    for q in (0.0, 0.3, 0.5, 0.8, 1.0):
        flat = np.mean([lovasz_by_definition(np.full(t.numel(), q), t.numpy().ravel()) for _, t in frames])
        assert LOVASZ.of_constant(q, target, mask) == pytest.approx(flat, abs=1e-12)


def test_lovasz_of_every_hard_prediction_is_its_jaccard_loss():
    for bits in range(1 << 8):
        cells = torch.tensor([bits >> i & 1 for i in range(8)], dtype=torch.float64)
        p, target = cells[:4].view(1, 1, 2, 2), cells[4:].view(1, 1, 2, 2)
        union = ((p + target) > 0).sum().item()
        expected = 1 - (p * target).sum().item() / union if union else 0.0
        assert LOVASZ.of_probabilities(p, target) == pytest.approx(expected, abs=1e-15)


def test_lovasz_of_an_empty_frame_is_its_worst_false_alarm():
    logits, target, _ = sample(rate=0)
    worst = torch.sigmoid(logits).amax((1, 2, 3)).mean()
    torch.testing.assert_close(LOVASZ(logits, target), worst)
    assert LOVASZ.of_constant(0.3, target) == pytest.approx(0.3)


def test_lovasz_of_a_dead_head_is_one_half_whatever_the_scene():
    """No constant is better than 1/2 as long as less than half of the cells is occupied."""
    for rate in (0.01, 0.1, 0.4):
        curve = LOVASZ.constant_curve(sample(rate=rate)[1])
        assert curve(0.5) == pytest.approx(0.5)
        assert min(curve(i / 100) for i in range(101)) == pytest.approx(0.5)


def test_lovasz_keeps_its_digits_on_a_large_frame():
    """In float32 the differences of neighbouring IoUs, here down to 1e-10, would be rounding noise."""
    _, target, _ = sample(shape=(1, 8, 100, 100), rate=0.001)
    # No two errors are equal, also after rounding: 2^18 p is odd on empty cells and even on occupied ones.
    p = (2 * torch.randperm(target.numel()).view_as(target) + 1 - target) / 2**18
    gradients = []
    for dtype in (torch.float32, torch.float64):
        leaf = p.to(dtype).requires_grad_()
        gradients.append(torch.autograd.grad(lovasz(leaf, target), leaf)[0])
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_tversky_and_lovasz(masked):
    logits, target, mask = sample(shape=(2, 2, 3, 4), rate=0.3, soft=True)
    weights = mask.expand_as(target).double() if masked else None
    p = torch.sigmoid(logits.detach()).double().requires_grad_()
    target = target.double()
    assert torch.autograd.gradcheck(lambda p: TVERSKY._tversky(p, target, weights), p)
    assert torch.autograd.gradcheck(lambda p: lovasz(p, target, weights), p)


def test_terms_are_the_ones_in_use():
    logits, target, mask = sample()
    terms = ALL.terms(logits, target, mask)
    assert list(terms) == ["bce", "dice", "focal", "tversky", "lovasz"]
    torch.testing.assert_close(ALL(logits, target, mask), sum(getattr(ALL, name) * term for name, term in terms.items()))
    assert list(BOTH.terms(logits, target)) == ["bce", "dice"]
    assert list(TVERSKY.terms(logits, target)) == ["tversky"]
    assert list(LOVASZ.terms(logits, target)) == ["lovasz"]


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
    loss = replace(ALL, lovasz=0, height_weights=(1, 2, 0, 5)) if weighted else ALL
    mask = mask if masked else None
    expected = loss(logits.double(), target, mask).item()
    assert loss.of_probabilities(torch.sigmoid(logits), target, mask) == pytest.approx(expected, rel=1e-4)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 1.0), st.booleans(), st.booleans(), st.booleans())
def test_the_constant_curve_is_the_loss_of_a_full_volume(seed, p, soft, masked, weighted):
    _, target, mask = sample(seed, soft=soft)
    loss = replace(ALL, lovasz=0, height_weights=(1, 2, 0, 5)) if weighted else ALL
    mask = mask if masked else None
    whole = loss.of_probabilities(torch.full_like(target, p, dtype=torch.float64), target, mask)
    assert loss.constant_curve(target, mask)(p) == pytest.approx(whole, rel=1e-6)


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_a_mask_is_as_if_the_other_cells_were_not_there(seed):
    logits, target, _ = sample(seed)
    mask = torch.zeros_like(target, dtype=torch.bool)
    mask[..., :7] = True
    torch.testing.assert_close(ALL(logits, target, mask), ALL(logits[..., :7], target[..., :7]))
    (gradient,) = torch.autograd.grad(ALL(logits, target, mask), logits)
    assert (gradient[..., 7:] == 0).all()


@pytest.mark.parametrize("loss", [DICE, TVERSKY])
def test_a_channel_without_a_valid_cell_has_no_dice(loss):
    logits, target, _ = sample()
    mask = torch.ones_like(target, dtype=torch.bool)
    mask[:, 2] = False
    kept = [0, 1, 3]
    torch.testing.assert_close(loss(logits, target, mask), loss(logits[:, kept], target[:, kept]))


def test_height_weights_choose_channels():
    logits, target, _ = sample()
    plain = replace(ALL, lovasz=0)
    loss = replace(plain, height_weights=(0, 3, 0, 0))
    torch.testing.assert_close(loss(logits, target), plain(logits[:, 1:2], target[:, 1:2]))
    assert OccupancyLoss(height_weights=(2, 2, 2, 2))(logits, target).item() == pytest.approx(
        BOTH(logits, target).item(), rel=1e-6
    )


@pytest.mark.parametrize("loss", [BCE, DICE, FOCAL, TVERSKY, LOVASZ, BOTH])
def test_better_logits_cost_less(loss):
    _, target, _ = sample()
    sign = 2 * target - 1
    values = [loss(confidence * sign, target).item() for confidence in (-3.0, 0.0, 3.0, 9.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.02


def test_extreme_logits_stay_finite():
    _, target, _ = sample()
    logits = (1e4 * torch.randn_like(target)).requires_grad_()
    value = ALL(logits, target)
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
    [
        {"bce": -1},
        {"bce": 0, "dice": 0},
        {"tversky": -1},
        {"lovasz": -0.1},
        {"lovasz": math.nan},
        {"tversky_alpha": -0.1},
        {"tversky_alpha": 0, "tversky_beta": 0},
        {"height_weights": (0, 0)},
        {"height_weights": (1, -1)},
        {"lovasz": 1, "height_weights": (1, 1)},
    ],
)
def test_impossible_losses_are_refused(arguments):
    with pytest.raises(OcclabError):
        OccupancyLoss(**arguments)


def test_lovasz_with_height_weights_is_refused_in_one_sentence():
    with pytest.raises(OcclabError, match=r"expected height_weights=None with lovasz=1\.0, got"):
        OccupancyLoss(lovasz=1, height_weights=(1, 2))


def test_shapes_are_checked():
    with pytest.raises(OcclabError, match=r"one shape \(B, Z, Y, X\)"):
        BOTH(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 5))
    with pytest.raises(OcclabError, match="height"):
        OccupancyLoss(height_weights=(1, 2, 3))(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.5])
def test_a_focal_root_has_a_gradient_where_the_network_is_sure(gamma):
    loss = OccupancyLoss(bce=0, dice=0, focal=1, focal_gamma=gamma)
    logits = torch.tensor([-200.0, -100.0, -90.0, -3.0, 0.5, 30.0, 200.0, -200.0]).view(1, 1, 2, 4).requires_grad_()
    target = torch.tensor([0.0, 0, 0, 0, 0, 1, 1, 1]).view(1, 1, 2, 4)
    value = loss(logits, target)
    value.backward()
    assert logits.grad.isfinite().all()
    p = torch.sigmoid(logits.detach())
    wrong, cost = p + target - 2 * p * target, F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    alpha = torch.where(target > 0, 0.25, 0.75)
    assert float(value.detach()) == float((alpha * wrong**gamma * cost).mean().detach())  # as without the guard


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_guard_leaves_gradients_elsewhere_as_they_are(gamma):
    logits, target, _ = sample(soft=True)
    loss = OccupancyLoss(bce=0, dice=0, focal=1, focal_gamma=gamma)
    (guarded,) = torch.autograd.grad(loss(logits, target), logits)
    p = torch.sigmoid(logits)
    wrong, cost = p + target - 2 * p * target, F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    alpha = 0.75 + (2 * 0.25 - 1) * target
    (plain,) = torch.autograd.grad((alpha * wrong**gamma * cost).mean(), logits)
    assert torch.equal(guarded, plain)


@pytest.mark.parametrize("name", ["bce", "dice", "focal_alpha", "dice_smooth"])
def test_a_switch_is_no_number(name):
    with pytest.raises(OcclabError, match="finite numbers"):
        OccupancyLoss(**{name: True})


@pytest.mark.parametrize("name", ["focal_alpha", "focal_gamma", "tversky_alpha", "tversky_beta"])
def test_a_setting_of_a_loss_that_is_off_is_refused(name):
    with pytest.raises(OcclabError, match=f"{name}=0.5 changes nothing"):
        OccupancyLoss(**{name: 0.5})
    assert OccupancyLoss(**{name: getattr(OccupancyLoss, name)}) == OccupancyLoss()

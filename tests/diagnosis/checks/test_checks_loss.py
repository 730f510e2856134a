"""What a loss is divided by, what it counts, and which of its terms is heard."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from occlab import OccupancyLoss
from occlab.diagnosis.checks.loss import loss_normalisation, loss_term_dominance
from occlab.diagnosis.subject import Subject

BCE = F.binary_cross_entropy_with_logits
G = torch.Generator().manual_seed(0)
TARGET = (torch.rand(2, 6, 16, 16, generator=G) < 0.06).float()
X = torch.cat([TARGET.sum(1, keepdim=True), torch.randn(2, 3, 16, 16, generator=G)], 1)
MASK = torch.rand(2, 1, 16, 16, generator=G) < 0.6
CELLS = TARGET.numel()


def net(*behind, heights=6):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, heights, 1), *behind)


def subject(loss, target=TARGET, model=None, inputs=X, sgd=None, **options):
    model = model or net()
    optimizer = torch.optim.SGD(model.parameters(), lr=sgd) if sgd else torch.optim.AdamW(model.parameters())
    return Subject(model, inputs, target, loss, optimizer, steps=20, **options)


def held(finding):
    experiment = finding.next_experiment
    without, measured = experiment.run()
    assert experiment.low <= measured <= experiment.high, (str(experiment), without, measured)
    return without, measured


def summed(output, target):
    return BCE(output, target, reduction="sum")


def divided(output, target):
    value = BCE(output, target)
    return value / value.detach()


def masked(mask):
    mask = mask.expand_as(TARGET)
    return lambda o, t: BCE(o[mask], t[mask])


def thresholded(output, target):
    return ((output > 0).float() - target).square().mean()


ALARMS = [
    ("sum", "warn", subject(summed)),
    ("sum", "fail", subject(summed, sgd=0.2)),
    ("sum", "warn", subject(summed, sgd=0.2, clip_norm=0.1)),
    ("sum", "warn", subject(lambda o, t: OccupancyLoss(bce=0, dice=0, focal=1)(o, t) * o.numel())),
    ("self-normalised", "fail", subject(divided)),
    ("wrong-mask", "fail", subject(BCE, mask=MASK)),
    ("wrong-mask", "fail", subject(masked(~MASK), mask=MASK)),
    ("wrong-mask", "fail", subject(masked(MASK.flip(-1)), mask=MASK)),
    ("not-differentiable", "fail", subject(thresholded)),
    ("not-differentiable", "fail", subject(lambda o, t: BCE(o.detach(), t))),
    ("constant-weight", "fail", subject(lambda o, t: 0 * BCE(o, t))),
]


@pytest.mark.parametrize(("kind", "verdict", "s"), ALARMS)
def test_a_loss_that_is_wrong_is_told_and_its_experiment_holds(kind, verdict, s):
    finding = loss_normalisation(s)
    assert (finding.verdict, finding.evidence["kind"]) == (verdict, kind)
    held(finding)
    assert finding.fix


def test_the_gradient_of_a_sum_shrinks_by_the_number_of_cells():
    without, measured = held(loss_normalisation(subject(summed)))
    assert without / measured == pytest.approx(CELLS, rel=1e-3)


def test_a_mask_is_called_inverted_or_not_applied():
    assert loss_normalisation(subject(BCE, mask=MASK)).evidence["mask"] == "not applied"
    assert loss_normalisation(subject(masked(~MASK), mask=MASK)).evidence["mask"] == "inverted"


def tversky(o, t):
    return OccupancyLoss(bce=0, dice=0, tversky=1)(o, t)


def retina(o, t):
    return OccupancyLoss(bce=0, dice=0, focal=1)(o, t) * o.numel() / (t > 0).sum()


def hardest(o, t):
    return BCE(o, t, reduction="none").flatten().topk(200).values.mean()


def captured(o, t, mask=MASK[:1]):  # one frame, a mask of one frame: broadcasts against two
    return (BCE(o, t, reduction="none") * mask).sum() / (mask.sum() * 6)


HEALTHY = {
    "BCE": subject(BCE),
    "BCE + Dice": subject(OccupancyLoss()),
    "Dice": subject(OccupancyLoss(bce=0, dice=1)),
    "focal": subject(OccupancyLoss(bce=0, dice=0, focal=1)),
    "focal over the positives": subject(retina),
    "Tversky": subject(tversky),
    "Lovász": subject(OccupancyLoss(bce=0, dice=0, lovasz=1)),
    "pos_weight": subject(nn.BCEWithLogitsLoss(pos_weight=torch.tensor(9.0))),
    "soft": subject(OccupancyLoss(), 0.8 * TARGET),
    "probabilities": subject(F.binary_cross_entropy, model=net(nn.Sigmoid())),
    "SGD": subject(BCE, sgd=0.2),
    "a loss times 100": subject(lambda o, t: 100 * BCE(o, t)),
    "a loss times 1e-9": subject(lambda o, t: 1e-9 * BCE(o, t)),
    "mask": subject(masked(MASK), mask=MASK),
    "mask, BCE + Dice": subject(lambda o, t: OccupancyLoss()(o, t, MASK), mask=MASK),
    "mask, Lovász": subject(lambda o, t: OccupancyLoss(bce=0, dice=0, lovasz=1)(o, t, MASK), mask=MASK),
    "mask, hardest cells": subject(lambda o, t: hardest(o[MASK.expand_as(o)], t[MASK.expand_as(t)]), mask=MASK),
    "mask of one frame": subject(captured, TARGET[:1], inputs=X[:1], mask=MASK[:1]),
    "hardest cells": subject(hardest),
    "empty, Dice": subject(OccupancyLoss(bce=0, dice=1), torch.zeros_like(TARGET)),
    "terms by name": subject(lambda o, t: {"loss_bce": BCE(o, t), "loss_dice": tversky(o, t)}),
    "classes": subject(nn.CrossEntropyLoss(), TARGET.long() * 2, net(nn.Unflatten(1, (3, 6)), heights=18)),
    "saturated and right": subject(BCE, forward=lambda m, x: 200 * TARGET - 100 + 0 * m(x)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_sound_loss_is_let_be(name):
    finding = loss_normalisation(HEALTHY[name])
    assert finding.verdict in ("pass", "note"), finding.title
    assert not loss_term_dominance(HEALTHY[name]).alarming


def test_a_sum_over_frames_of_means_is_a_note():
    per_frame = subject(lambda o, t: BCE(o, t, reduction="none").flatten(1).mean(1).sum())
    assert loss_normalisation(per_frame).verdict == "note"


def test_a_sum_that_takes_one_batch_size_only_is_measured_on_its_frames():
    weights = torch.ones(TARGET.shape)

    def loss(o, t):
        return (BCE(o, t, reduction="none") * weights[: len(o)]).sum()

    assert loss_normalisation(subject(loss)).evidence["kind"] == "sum"


def test_shares_of_the_terms_are_those_of_their_gradients():
    s = subject(OccupancyLoss(bce=1.0, dice=0.5))
    shares = loss_term_dominance(s).evidence["shares"]
    logits = s.output.clone().requires_grad_()
    sizes = []
    for term in (OccupancyLoss(dice=0.0), OccupancyLoss(bce=0.0, dice=0.5)):
        sizes.append(float(torch.autograd.grad(term(logits, TARGET), logits)[0].norm()))
    assert shares["bce"] == pytest.approx(sizes[0] / sum(sizes), rel=1e-4)
    assert math.fsum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("factor", [1e-7, 1e7])
def test_a_term_alone_or_unheard_fails_and_its_remedy_is_predicted(factor):
    named = subject(
        lambda o, t: {"loss_bce": BCE(o, t), "loss_dice": factor * OccupancyLoss(bce=0, dice=1)(o, t), "iou": o.mean()}
    )
    finding = loss_term_dominance(named)
    assert finding.verdict == "fail"
    assert "iou" not in finding.evidence["shares"]
    assert held(finding)[1] == pytest.approx(0.5, abs=0.02)
    assert loss_term_dominance(subject(OccupancyLoss(bce=1.0, dice=1e-7))).verdict == "fail"


def test_a_small_term_is_a_note_and_one_number_is_not_measured():
    assert loss_term_dominance(subject(OccupancyLoss(bce=1.0, dice=1e-3))).verdict == "note"
    assert loss_term_dominance(subject(BCE)).verdict == "not-measurable"
    other = subject(lambda o, t: {"loss_occupancy": BCE(o, t), "loss_depth": torch.tensor(0.3)})
    assert loss_term_dominance(other).verdict == "not-measurable"


@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0, 15.0])
@pytest.mark.parametrize("rate", [0.0, 0.001, 0.05, 0.3])
@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_and_dice_are_both_heard_however_well_the_network_does(scale, rate, soft):
    target = (torch.rand(TARGET.shape, generator=G) < rate).float() * (0.7 if soft else 1)
    s = subject(OccupancyLoss(), target, forward=lambda m, x: scale * (2 * (target > 0).float() - 1) + 0.1 * m(x))
    assert not loss_term_dominance(s).alarming

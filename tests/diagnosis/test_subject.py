"""The harness: what the loss takes, what constants cost, and that copies are copies."""

import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from occlab import OcclabError, OccupancyLoss
from occlab.diagnosis.copying import clone, random_numbers_kept, tensors
from occlab.diagnosis.subject import Subject


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    target = (torch.rand(2, 4, 10, 10, generator=g) < 0.1).float()
    return target + 0.1 * torch.randn(target.shape, generator=g), target


def network(*behind):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), *behind)


def dice_of(p, target):
    return 1 - (2 * (p * target).sum() + 1e-6) / (p.sum() + target.sum() + 1e-6)


LOGITS = {
    "BCE": F.binary_cross_entropy_with_logits,
    "pos_weight": lambda x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=torch.tensor(20.0)),
    "BCE + Dice": OccupancyLoss(),
    "Dice": OccupancyLoss(bce=0, dice=1),
    "focal": OccupancyLoss(bce=0, dice=0, focal=1),
    "Lovasz": OccupancyLoss(bce=0, dice=0, lovasz=1),
    "terms": lambda x, t: {"loss_bce": F.binary_cross_entropy_with_logits(x, t), "accuracy": torch.tensor(0.3)},
}
PROBABILITIES = {
    "BCE": F.binary_cross_entropy,
    "clamped BCE": lambda p, t: F.binary_cross_entropy(p.clamp(1e-6, 1 - 1e-6), t),
    "Dice": dice_of,
    "squared error": F.mse_loss,
    "focal": lambda p, t: ((1 - torch.where(t > 0, p, 1 - p)).square() * F.binary_cross_entropy(p, t, reduction="none")).mean(),
}


@pytest.mark.parametrize("name", LOGITS)
def test_a_loss_of_logits_is_recognised(batch, name):
    assert Subject(network(), *batch, LOGITS[name]).takes == "logits"


@pytest.mark.parametrize("name", PROBABILITIES)
def test_a_loss_of_probabilities_is_recognised(batch, name):
    assert Subject(network(nn.Sigmoid()), *batch, PROBABILITIES[name]).takes == "probabilities"


def test_floors_of_cross_entropy_are_the_closed_forms(batch):
    inputs, target = batch
    rate = float(target.mean())
    entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    for behind, loss in (((), F.binary_cross_entropy_with_logits), ((nn.Sigmoid(),), F.binary_cross_entropy)):
        floors = Subject(network(*behind), inputs, target, loss).floors
        assert floors.half == pytest.approx(math.log(2), abs=1e-6)
        assert floors.best_constant == pytest.approx(entropy, rel=1e-3)
        assert floors.best_p == pytest.approx(rate, rel=0.05)
        assert floors.perfect == pytest.approx(0, abs=1e-6)


def test_skill_is_nothing_at_the_base_rate_and_one_at_the_target(batch):
    s = Subject(network(), *batch, F.binary_cross_entropy_with_logits)
    assert s.skill(s.of_constant(s.rate)) == pytest.approx(0, abs=1e-3)
    assert s.skill(s.of_probabilities(s.target)) == pytest.approx(1, abs=1e-6)


def test_copies_train_and_the_given_stay_as_they_were(batch):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    before = [t.clone() for t in model.state_dict().values()]
    s = Subject(model, *batch, F.binary_cross_entropy_with_logits, optimizer, steps=20)
    probe = s.own
    assert probe.end < probe.losses[0]
    assert len(probe.losses) == 21
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))
    assert not optimizer.state
    held = {id(p) for group in probe.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in probe.model.parameters()}


def test_a_probe_takes_the_steps_that_the_own_loop_would(batch):
    inputs, target = batch
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    probe = Subject(model, inputs, target, F.binary_cross_entropy_with_logits, optimizer, steps=5, clip_norm=0.05).own
    model.train()
    for step in range(5):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(inputs), target)
        assert probe.losses[step] == float(loss.detach())
        loss.backward()
        assert probe.norms[step] == float(nn.utils.clip_grad_norm_(model.parameters(), 0.05))
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(probe.model.parameters(), model.parameters(), strict=True))


def test_from_the_base_rate_starts_at_the_best_constant(batch):
    s = Subject(network(), *batch, F.binary_cross_entropy_with_logits)
    probe = s.from_base_rate(5, 1e-3)
    assert probe.losses[0] == pytest.approx(s.floors.best_constant, rel=0.3)
    assert probe.losses[0] < 0.7 * s.look.loss


def test_random_numbers_are_given_back():
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    with random_numbers_kept():
        torch.rand(3), np.random.rand(3), random.random()
    drawn = (float(torch.rand(1)), np.random.rand(), random.random())
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    assert drawn == (float(torch.rand(1)), np.random.rand(), random.random())


def test_nested_inputs_are_copied_and_found():
    inputs = {"map": torch.ones(2), "rest": [torch.zeros(1), (torch.ones(3), "text")]}
    copied = clone(inputs)
    copied["map"].zero_()
    assert inputs["map"].sum() == 2
    assert [t.numel() for t in tensors(inputs)] == [2, 1, 3]


def test_a_model_that_returns_several_tensors_is_refused_in_a_sentence(batch):
    class Two(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(OcclabError, match=r"one tensor, got tuple; name the tensor with forward="):
        _ = Subject(Two(), *batch, F.mse_loss).output


def test_a_loss_that_does_not_take_the_output_is_refused_in_a_sentence(batch):
    inputs, target = batch
    with pytest.raises(OcclabError, match=r"does not take output \(2, 4, 10, 10\) and target \(2, 4, 10, 9\)"):
        _ = Subject(network(), inputs, target[..., :9], F.binary_cross_entropy_with_logits).look


def test_a_schedule_that_waits_for_a_score_stands_still(batch):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    probe = Subject(model, *batch, F.binary_cross_entropy_with_logits, optimizer, scheduler=scheduler, steps=5).own
    assert probe.rates == [[1e-3]] * 5

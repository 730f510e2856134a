"""Short trainings, and what they convict."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from occlab.diagnosis.checks.probe import (
    accuracy_trap,
    cannot_overfit,
    constant_prediction,
    diverged,
    eval_gap,
    ignores_input,
    low_skill,
    plateau_at_floor,
    spikes,
    threshold,
)
from occlab.diagnosis.subject import Subject

BCE = F.binary_cross_entropy_with_logits


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    target = (torch.rand(2, 4, 12, 12, generator=g) < 0.1).float()
    return target + 0.3 * torch.randn(target.shape, generator=g), target


def network(*before):
    torch.manual_seed(0)
    return nn.Sequential(*before, nn.Conv2d(4, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 1))


def subject(batch, model=None, rate=1e-2, **parts):
    model = model or network()
    return Subject(model, *batch, parts.pop("loss", BCE), torch.optim.AdamW(model.parameters(), lr=rate), **parts)


def trained(batch, steps=200, loss=BCE):
    model = network().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(batch[0]), batch[1]).backward()
        optimizer.step()
    return model


CHECKS = (
    diverged, spikes, cannot_overfit, ignores_input, constant_prediction, plateau_at_floor, low_skill, eval_gap, threshold,
    accuracy_trap,
)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_a_healthy_network_is_left_in_peace(batch, check):
    for model in (network(), trained(batch, 20), trained(batch)):
        finding = check(subject(batch, model))
        assert not finding.alarming
        assert finding.id == check.__name__.replace("_", "-")


def test_a_rate_a_hundred_times_too_high_diverges_and_a_hundredth_does_not(batch):
    model = network()
    s = Subject(model, *batch, BCE, torch.optim.SGD(model.parameters(), lr=1e3))
    finding = diverged(s)
    assert finding.verdict == "fail"


def test_a_network_that_sees_nothing_of_the_scene_cannot_learn_it(batch):
    inputs, target = batch
    noise = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    finding = cannot_overfit(subject((noise, target), nn.Conv2d(4, 4, 1)))
    assert finding.verdict == "fail"
    assert finding.evidence["skill"] < 0.05


def test_dropout_that_leaves_nothing_is_named_and_its_removal_mends_it(batch):
    finding = cannot_overfit(subject(batch, network(nn.Dropout(0.98))))
    assert (finding.verdict, finding.evidence["kind"]) == ("fail", "dropout")
    without, measured = finding.next_experiment.run()
    assert measured <= finding.next_experiment.high < without
    assert cannot_overfit(subject(batch, network(nn.Dropout(0.1)))).verdict == "pass"


def test_an_input_that_is_multiplied_by_zero_is_not_heard(batch):
    class Nothing(nn.Module):
        def forward(self, x):
            return 0 * x

    s = subject(batch, network(Nothing()))
    finding = ignores_input(s)
    assert (finding.verdict, finding.evidence["change_over_spread"]) == ("fail", 0.0)
    without, measured = finding.next_experiment.run()
    assert measured == pytest.approx(without, rel=1e-3)
    assert constant_prediction(s).verdict in ("fail", "pass")


def test_one_answer_everywhere_stops_at_the_best_constant(batch):
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.logit = nn.Parameter(torch.tensor(-2.0))

        def forward(self, x):
            return self.logit.expand_as(x)

    s = subject(batch, One())
    assert constant_prediction(s).verdict == "fail"
    finding = plateau_at_floor(s)
    assert finding.verdict == "fail"
    rate = float(batch[1].mean())
    assert s.own.end == pytest.approx(-rate * math.log(rate) - (1 - rate) * math.log(1 - rate), rel=0.01)


def test_running_averages_that_never_moved_show_in_evaluation_mode_and_new_ones_mend_it(batch):
    model = trained(batch)
    model[1].reset_running_stats()
    nn.init.constant_(model[1].running_var, 100.0)
    finding = eval_gap(subject(batch, model))
    assert finding.verdict == "fail"
    without, measured = finding.next_experiment.run()
    assert without == finding.evidence["evaluated"]
    assert measured <= finding.next_experiment.high


def test_a_large_pos_weight_moves_the_best_threshold(batch):
    target, g = batch[1], torch.Generator().manual_seed(2)
    noisy = (target + 0.3 * torch.randn(target.shape, generator=g), target)

    def weighted(x, t):
        return F.binary_cross_entropy_with_logits(x, t, pos_weight=torch.tensor(200.0))

    model = trained(noisy, 200, weighted)
    finding = threshold(subject(noisy, model, loss=weighted))
    assert finding.verdict == "warn"
    without, measured = finding.next_experiment.run()
    assert measured == pytest.approx(finding.evidence["best_iou"], abs=0.02)
    assert without == pytest.approx(finding.evidence["iou"], abs=1e-6)


def test_an_empty_answer_has_high_accuracy_and_that_is_only_said(batch):
    model = network()
    nn.init.constant_(model[-1].bias, -8.0)
    finding = accuracy_trap(subject(batch, model))
    rate = float(batch[1].mean())
    assert (finding.verdict, finding.evidence["iou"]) == ("note" if rate < 0.1 else "pass", 0.0)
    assert finding.evidence["accuracy"] == pytest.approx(1 - rate, abs=1e-6)

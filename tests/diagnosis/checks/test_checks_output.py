"""The output head, pushed."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from occlab.diagnosis.checks.output import bounded_output, dead_head, initial_loss, output_prior, soft_target_floor
from occlab.diagnosis.subject import Subject

BCE = F.binary_cross_entropy_with_logits


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    target = (torch.rand(2, 4, 10, 10, generator=g) < 0.1).float()
    return target + 0.3 * torch.randn(target.shape, generator=g), target


def subject(batch, *behind, loss=BCE, **parts):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1), *behind)
    return Subject(model, *batch, loss, **parts)


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


@pytest.mark.parametrize(
    ("behind", "loss", "kind", "low", "high"),
    [
        ([nn.ReLU()], BCE, "relu-before-sigmoid", 0.5, 1),
        ([nn.BatchNorm2d(4), nn.ReLU()], BCE, "relu-before-sigmoid", 0.5, 1),
        ([nn.ReLU(), nn.Sigmoid()], F.binary_cross_entropy, "relu-before-sigmoid", 0.5, 1),
        ([nn.Sigmoid()], BCE, "double-sigmoid", 0.5, 1 / (1 + math.exp(-1))),
        ([nn.ReLU(), nn.Sigmoid()], BCE, "relu-double-sigmoid", 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(-1))),
        ([nn.Hardtanh(-1, 1)], BCE, "clamped", 1 / (1 + math.exp(1)), 1 / (1 + math.exp(-1))),
        ([nn.Tanh()], BCE, "clamped", 1 / (1 + math.exp(1)), 1 / (1 + math.exp(-1))),
    ],
)
def test_a_bounded_head_is_named_with_its_range(batch, behind, loss, kind, low, high):
    finding = bounded_output(subject(batch, *behind, loss=loss))
    assert (finding.verdict, finding.evidence["kind"]) == ("fail", kind)
    assert finding.evidence["lowest"] == pytest.approx(low, abs=1e-4)
    assert finding.evidence["highest"] == pytest.approx(high, abs=1e-4)


def test_the_floor_of_a_rectified_head_is_that_of_one_half(batch):
    s = subject(batch, nn.ReLU())
    evidence = bounded_output(s).evidence
    assert evidence["floor"] == pytest.approx(math.log(2), abs=1e-6)
    rate = float(batch[1].mean())
    assert evidence["floor_with_perfect_answers"] == pytest.approx((1 - rate) * math.log(2), abs=1e-3)


@pytest.mark.parametrize("behind", [[], [Times(0.01)], [Times(100.0)], [nn.BatchNorm2d(4)], [nn.LeakyReLU(0.01)], [nn.PReLU()]])
def test_a_free_head_passes(batch, behind):
    assert bounded_output(subject(batch, *behind)).verdict == "pass"


def test_one_rectified_channel_is_enough(batch):
    class First(nn.Module):
        def forward(self, x):
            return torch.cat([x[:, :1].relu(), x[:, 1:]], 1)

    assert bounded_output(subject(batch, First())).evidence["kind"] == "relu-before-sigmoid"


def test_classes_behind_two_softmaxes_are_bounded(batch):
    inputs, target = batch
    classes = target[:, 0].long()
    torch.manual_seed(0)
    free = nn.Conv2d(4, 3, 1)
    assert bounded_output(Subject(free, inputs, classes, F.cross_entropy)).verdict == "pass"
    twice = bounded_output(Subject(nn.Sequential(free, nn.Softmax(1)), inputs, classes, F.cross_entropy))
    assert twice.verdict == "fail"
    assert twice.evidence["highest"] == pytest.approx(math.e / (math.e + 2), abs=1e-3)


def test_freeing_a_rectified_head_takes_the_loss_under_its_floor(batch):
    trial_of = bounded_output(subject(batch, nn.BatchNorm2d(4), nn.ReLU())).next_experiment
    without, measured = trial_of.run()
    assert trial_of.low <= measured <= trial_of.high
    assert without > measured


def test_a_dead_relu_sends_nothing_back(batch):
    s = subject(batch, nn.ReLU())
    nn.init.constant_(s.model[2].bias, -50.0)
    finding = dead_head(s)
    assert (finding.verdict, finding.evidence["share"]) == ("fail", 1.0)
    assert dead_head(subject(batch)).verdict == "pass"


def test_probabilities_that_have_rounded_to_one_send_nothing_back(batch):
    s = subject(batch, nn.Sigmoid(), loss=F.binary_cross_entropy)
    nn.init.constant_(s.model[2].bias, 200.0)
    assert dead_head(s).verdict == "fail"


def test_a_certain_answer_of_occupied_is_a_wrong_prior_and_its_mending_is_predicted(batch):
    s = subject(batch)
    nn.init.constant_(s.model[2].bias, 6.0)
    finding = output_prior(s)
    assert finding.verdict == "fail"
    without, measured = finding.next_experiment.run()
    assert without == s.look.loss
    assert measured <= finding.next_experiment.high
    assert output_prior(subject(batch)).verdict == "note"  # one half is far from a tenth, and where most networks start
    s = subject(batch)
    nn.init.constant_(s.model[2].bias, math.log(0.1 / 0.9))
    assert output_prior(s).verdict == "pass"


def test_exploding_last_weights_start_too_high(batch):
    s = subject(batch)
    with torch.no_grad():
        s.model[2].weight.mul_(100)
    finding = initial_loss(s)
    assert finding.verdict == "fail"
    assert finding.next_experiment.run()[1] <= finding.next_experiment.high
    assert initial_loss(subject(batch)).verdict == "pass"


@pytest.mark.parametrize("init", [nn.init.kaiming_normal_, nn.init.xavier_uniform_])
def test_the_usual_initial_weights_do_not(batch, init):
    s = subject(batch)
    for m in (s.model[0], s.model[2]):
        init(m.weight)
    assert initial_loss(s).verdict == "pass"


def test_targets_near_one_half_leave_nothing_to_save(batch):
    inputs, target = batch
    assert soft_target_floor(subject(batch)).verdict == "pass"
    assert soft_target_floor(subject((inputs, 0.05 + 0.9 * target))).verdict == "note"
    assert soft_target_floor(subject((inputs, 0.45 + 0.1 * target))).verdict == "fail"

"""Numbers that are not finite, empty frames and repeated frames: each planted, each set right by its experiment."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from occlab.diagnosis.checks.data import duplicate_frames, empty_targets, non_finite
from occlab.diagnosis.subject import Subject

BCE = F.binary_cross_entropy_with_logits


def net(channels=4, heights=6):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, heights, 1))


def frames(n=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    target = (torch.rand(n, 6, 20, 20, generator=g) < 0.05).float()
    return torch.cat([target.sum(1, keepdim=True), torch.randn(n, 3, 20, 20, generator=g)], 1), target


def subject(inputs=None, target=None, loss=BCE, model=None, **options):
    x, t = frames()
    return Subject(model or net(), x if inputs is None else inputs, t if target is None else target, loss, **options)


def held(finding):
    experiment = finding.next_experiment
    without, measured = experiment.run()
    assert experiment.low <= measured <= experiment.high, (str(experiment), without, measured)
    return without, measured


def poked(t, value=math.nan):
    t = t.detach().clone()
    t.view(-1)[7] = value
    return t


def with_state(name, value):
    model = net()
    model.state_dict()[name].view(-1)[0] = value
    return model


class Root(nn.Module):
    """The root of a square of a ReLU: where it cuts, a slope of 0 times infinity."""

    def forward(self, x):
        return torch.sqrt((x * (x > 0)).square()) - 1


def own_cross_entropy(logits, target):
    p = torch.sigmoid(logits)
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


PLANTED = {
    "inputs": lambda: subject(poked(frames()[0])),
    "target": lambda: subject(target=poked(frames()[1], -math.inf)),
    "parameters": lambda: subject(model=with_state("0.weight", math.nan)),
    "buffers": lambda: subject(model=with_state("1.running_var", math.nan)),
    "output": lambda: subject(model=nn.Sequential(net(), nn.Softplus(), nn.Conv2d(6, 6, 1).half().float(), Overflow())),
    "loss": lambda: subject(loss=own_cross_entropy, forward=lambda m, x: 100 * m(x)),
    "gradients": lambda: subject(model=nn.Sequential(net(), nn.Flatten(), Root(), nn.Unflatten(1, (6, 20, 20)))),
}


class Overflow(nn.Module):
    def forward(self, x):
        return x * 1e38 * 1e3


@pytest.mark.parametrize("kind", PLANTED)
def test_the_first_thing_that_is_not_finite_is_named(kind):
    finding = non_finite(PLANTED[kind]())
    assert (finding.verdict, finding.evidence["kind"]) == ("fail", kind)
    assert finding.fix
    assert finding.next_experiment.low == 0


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_put_right_leaves_nothing_that_is_not_finite(kind):
    without, measured = held(non_finite(PLANTED[kind]()))
    assert without > 0
    assert measured == 0


def test_a_gradient_that_the_loss_makes_is_the_output_s():
    root = subject(loss=lambda o, t: BCE(o, t) + (o * (o > 1e9)).square().sum().sqrt())
    finding = non_finite(root)
    assert (finding.evidence["kind"], finding.evidence["name"]) == ("gradients", "of the output")


def test_a_parameter_and_a_layer_are_named():
    assert non_finite(PLANTED["parameters"]()).evidence["name"] == "0.weight"
    assert non_finite(PLANTED["parameters"]()).evidence["bad"] == 1
    assert non_finite(PLANTED["buffers"]()).evidence["name"] == "1.running_var"
    assert non_finite(PLANTED["output"]()).evidence["name"] == "3"


def test_nan_that_the_loss_and_the_network_leave_out_is_a_note():
    def known(output, target):
        return BCE(output[target.isfinite()], target[target.isfinite()])

    assert non_finite(subject(target=poked(frames()[1]), loss=known)).verdict == "note"
    cleaning = subject(poked(frames()[0], math.inf), forward=lambda m, x: m(x.nan_to_num(0, 0, 0)))
    assert non_finite(cleaning).verdict == "note"
    masked = subject()
    masked.model.register_buffer("attention", torch.full((3, 3), -math.inf).triu(1))
    assert non_finite(masked).verdict == "pass"


def test_finite_numbers_pass():
    assert non_finite(subject()).verdict == "pass"


def test_frames_without_an_occupied_cell():
    _, target = frames()
    assert empty_targets(subject()).verdict == "pass"
    finding = empty_targets(subject(target=torch.zeros_like(target)))
    assert finding.verdict == "fail"
    without, measured = held(finding)
    assert measured > without + 0.01  # it learns to say "empty"
    one = target.clone()
    one[1] = 0
    assert empty_targets(subject(target=one)).verdict == "note"


def test_two_empty_frames_of_ten_are_a_warning_whose_mean_is_predicted():
    x, target = frames(10)
    target[3], target[7] = 0, 0
    finding = empty_targets(subject(x, target))
    assert finding.verdict == "warn"
    without, measured = held(finding)
    assert measured == pytest.approx(without * 10 / 8)
    assert empty_targets(subject(*frames(10))).verdict == "pass"


def test_cells_outside_the_mask_do_not_fill_a_frame():
    _, target = frames()
    assert empty_targets(subject(mask=target == 0)).verdict == "fail"


def test_frames_of_one_class_are_empty():
    x, target = frames(2)
    model = nn.Sequential(net(heights=18), nn.Unflatten(1, (3, 6)))
    classes = target.long() * 2
    whole = Subject(model, x, classes, nn.CrossEntropyLoss())
    assert empty_targets(whole).verdict == "pass"
    nothing = Subject(model, x, torch.full_like(classes, 2), nn.CrossEntropyLoss(), steps=20)
    assert empty_targets(nothing).verdict == "fail"
    held(empty_targets(nothing))


def doubled(inputs=True, target=True):
    x, t = frames(3)
    if inputs:
        x[2] = x[0]
    if target:
        t[2] = t[0]
    return subject(x, t)


@pytest.mark.parametrize(
    ("changes", "kind", "verdict"),
    [
        ({}, "same-frame", "warn"),
        ({"target": False}, "one-input-two-targets", "fail"),
        ({"inputs": False}, "same-target", "warn"),
    ],
)
def test_repeated_frames_are_told_apart(changes, kind, verdict):
    finding = duplicate_frames(doubled(**changes))
    assert (finding.verdict, finding.evidence["kind"]) == (verdict, kind)
    assert finding.evidence["pairs"] == [[2, 0]]
    assert held(finding) == (1, 0)


def test_frames_that_only_look_alike_pass():
    assert duplicate_frames(subject(*frames(4))).verdict == "pass"
    assert duplicate_frames(subject(*frames(1))).verdict == "not-measurable"
    x, target = frames(2)
    assert duplicate_frames(subject(x, torch.zeros_like(target))).verdict == "pass"  # two empty ones have one target
    assert duplicate_frames(subject(torch.zeros_like(x), target)).verdict == "pass"  # the scale's business
    several = subject({"camera": x, "range": torch.ones(2, 2)}, target, forward=lambda m, i: m(i["camera"]))
    assert duplicate_frames(several).verdict == "pass"

"""The size of the inputs: convicted by what the first layers make of it, not by taste."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from occlab.diagnosis.checks.scale import input_scale
from occlab.diagnosis.subject import Subject

G = torch.Generator().manual_seed(0)
TARGET = (torch.rand(2, 6, 20, 20, generator=G) < 0.05).float()
NOISE = torch.randn(2, 4, 20, 20, generator=G)
COUNTS = torch.poisson(torch.full((2, 4, 20, 20), 0.2), generator=G) * 30
IMAGES = F.interpolate(torch.rand(2, 4, 5, 5, generator=G) * 255, (20, 20)).round()


def net(norm=True, first=None):
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8) if norm else nn.Identity(), nn.ReLU(), nn.Conv2d(8, 6, 1)]
    return nn.Sequential(*([first] if first else []), *layers)


def subject(inputs, model=None, **options):
    return Subject(model or net(), inputs, TARGET, F.binary_cross_entropy_with_logits, **options)


class Divide(nn.Module):
    def forward(self, x):
        return x / 255


def loud(x, size):
    x = x.clone()
    x[:, 2] = size * (1 + 0.01 * x[:, 2])
    return x


ALARMS = [
    ("constant", "fail", torch.full_like(NOISE, 3.0), net()),
    ("zero-frame", "fail", NOISE * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1), net()),
    ("large", "warn", NOISE * 2e3, net(norm=False)),
    ("large", "fail", NOISE * 1e5, net(norm=False)),
    ("small", "warn", NOISE * 1e-6, net(norm=False)),
    ("byte-image", "warn", IMAGES, net(norm=False)),
    ("one-channel", "fail", loud(NOISE, 1e7), net()),
]


@pytest.mark.parametrize(("kind", "verdict", "inputs", "model"), ALARMS, ids=[f"{a[0]}, {a[1]}" for a in ALARMS])
def test_inputs_out_of_scale_are_found_and_put_right(kind, verdict, inputs, model):
    finding = input_scale(subject(inputs, model))
    assert (finding.verdict, finding.evidence["kind"]) == (verdict, kind)
    experiment = finding.next_experiment
    without, measured = experiment.run()
    assert experiment.low <= measured <= experiment.high
    assert not experiment.low <= without <= experiment.high
    assert finding.fix


HEALTHY = {
    "noise": (NOISE, net()),
    "noise, no norm": (NOISE, net(norm=False)),
    "counts, no norm": (COUNTS, net(norm=False)),
    "images behind BatchNorm": (IMAGES, net()),
    "images that the model divides": (IMAGES, net(norm=False, first=Divide())),
    "images normalised first": (IMAGES, net(norm=False, first=nn.BatchNorm2d(4))),
    "large behind BatchNorm": (NOISE * 1e5, net()),
    "small behind BatchNorm": (NOISE * 1e-2, net()),
    "one channel 30 times the others": (loud(NOISE, 30.0), net()),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_inputs_that_the_first_layers_can_take_pass(name):
    finding = input_scale(subject(*HEALTHY[name]))
    assert finding.verdict == "pass", finding.title


def test_a_sensor_may_be_silent_where_another_is_not():
    silent = NOISE * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    both = {"camera": silent, "lidar": NOISE[:, :1]}
    assert input_scale(subject(both, forward=lambda m, x: m(x["camera"]))).verdict == "pass"
    neither = {"camera": silent, "lidar": silent[:, :1]}
    assert input_scale(subject(neither, forward=lambda m, x: m(x["camera"]))).evidence["kind"] == "zero-frame"


def test_an_empty_frame_without_input_is_no_fault_of_the_input():
    silent, target = NOISE * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1), TARGET.clone()
    target[1] = 0
    assert input_scale(Subject(net(), silent, target, F.binary_cross_entropy_with_logits)).verdict == "pass"


def test_integers_are_not_measured():
    words = subject(torch.ones(2, 4, 20, 20, dtype=torch.long), forward=lambda m, x: m(x.float()))
    assert input_scale(words).verdict == "not-measurable"

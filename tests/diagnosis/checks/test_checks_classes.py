"""What the target's values are taken for."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from occlab.diagnosis.checks.classes import class_map
from occlab.diagnosis.subject import Subject

BCE = F.binary_cross_entropy_with_logits
G = torch.Generator().manual_seed(0)
X = torch.randn(2, 4, 16, 16, generator=G)
HARD = (torch.rand(2, 6, 16, 16, generator=G) < 0.06).float()
CLASSES = torch.randint(0, 3, (2, 6, 16, 16), generator=G)


def net(heights=6, classes=1):
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, heights * classes, 1)]
    return nn.Sequential(*layers, *([nn.Unflatten(1, (classes, heights))] if classes > 1 else []))


def binary(target=HARD, loss=BCE, **options):
    return Subject(net(), X, target, loss, steps=20, **options)


def by_class(target=CLASSES, loss=None, classes=3):
    return Subject(net(classes=classes), X, target, loss or nn.CrossEntropyLoss(), steps=20)


def patch(target, value):
    target = target.clone()
    target[:, :, 3:6, 3:6] = value
    return target


ALARMS = [
    ("byte-mask", "fail", binary(255 * HARD)),
    ("out-of-range", "fail", binary(patch(HARD, -3.0))),
    ("inverted", "warn", binary(1 - HARD)),
    ("class-index", "fail", by_class(CLASSES + 1)),
    ("class-index", "fail", by_class(patch(CLASSES, 7))),
    ("ignore-index", "fail", by_class(patch(CLASSES, 255))),
    ("free-ignored", "fail", by_class(2 * HARD.long(), nn.CrossEntropyLoss(ignore_index=0))),
    ("free-ignored", "fail", by_class(2 * HARD.long(), partial(F.cross_entropy, ignore_index=0))),
    ("channels", "fail", Subject(net(heights=4), X, HARD, BCE, steps=20)),
]


@pytest.mark.parametrize(("kind", "verdict", "s"), ALARMS)
def test_a_target_that_means_something_else_is_found_and_put_right(kind, verdict, s):
    finding = class_map(s)
    assert (finding.verdict, finding.evidence["kind"]) == (verdict, kind)
    without, measured = finding.next_experiment.run()
    assert finding.next_experiment.low <= measured <= finding.next_experiment.high
    assert without != measured
    assert finding.fix


def test_classes_counted_from_one_are_told_to_start_at_zero():
    assert "target - 1" in class_map(by_class(CLASSES + 1)).fix
    assert "8" in class_map(by_class(patch(CLASSES, 7))).fix  # eight classes


def without(value, target, output):
    kept = target != value
    return BCE(output[kept], target[kept].float())


HEALTHY = {
    "hard": binary(),
    "soft": binary(HARD * 0.7),
    "bool": binary(HARD.bool(), lambda o, t: BCE(o, t.float())),
    "integers 0 and 1": binary(HARD.long(), lambda o, t: BCE(o, t.float())),
    "empty": binary(torch.zeros_like(HARD)),
    "255 outside the mask": binary(patch(HARD, 255.0), mask=patch(HARD, 255.0) < 2),
    "-1 that the loss leaves out": binary(patch(HARD, -1.0), lambda o, t: without(-1, t, o)),
    "classes": by_class(),
    "classes with a rare one": by_class(HARD.long() * 2),
    "255 that the loss ignores": by_class(patch(CLASSES, 255), nn.CrossEntropyLoss(ignore_index=255)),
    "-100, torch's own": by_class(patch(CLASSES, -100)),
    "-1, ignored in a lambda": by_class(patch(CLASSES, -1), lambda o, t: F.cross_entropy(o, t, ignore_index=-1)),
    "one output for two classes": Subject(net(heights=1), X, HARD[:, 0].long(), lambda o, t: BCE(o[:, 0], t.float())),
    "a class left out that is rare": by_class(CLASSES, nn.CrossEntropyLoss(ignore_index=1)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_targets_that_mean_what_they_say_are_let_be(name):
    finding = class_map(HEALTHY[name])
    assert not finding.alarming, finding.title


def test_a_class_that_never_occurs_is_a_note():
    finding = class_map(by_class(CLASSES.clamp(max=1)))
    assert (finding.verdict, finding.evidence["missing"]) == ("note", [2])


def test_a_map_that_is_mostly_road_is_no_inverted_volume():
    road = (torch.rand(2, 1, 16, 16, generator=G) < 0.95).float()
    assert class_map(Subject(net(heights=1), X, road, BCE)).verdict == "pass"


def test_a_loss_that_resamples_its_target_is_not_judged():
    def at_half_size(output, target):
        return BCE(output, F.max_pool2d(target, 2))

    s = Subject(nn.Sequential(net(), nn.MaxPool2d(2)), X, HARD, at_half_size)
    assert class_map(s).verdict == "not-measurable"

"""Healthy set-ups unlike those of the zoo, as they are met in the field: no alarm, and nothing left behind."""

import random
from collections import namedtuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from occlab import OcclabError
from occlab.diagnosis import diagnose
from occlab.diagnosis.checks.probe import spikes
from occlab.diagnosis.layout import in_usual_form
from occlab.diagnosis.subject import Probe, Subject

BCE = F.binary_cross_entropy_with_logits
K, Z = 5, 4


def scene():
    """Inputs (2, 6, 16, 16), of which four channels nearly are the target (2, 4, 16, 16), and classes of the same shape."""
    g = torch.Generator().manual_seed(0)
    target = (torch.rand(2, Z, 16, 16, generator=g) < 0.15).float()
    inputs = torch.cat([target + 0.3 * torch.randn(target.shape, generator=g), torch.randn(2, 2, 16, 16, generator=g)], 1)
    return inputs, target, (target * torch.arange(1, K).view(1, Z, 1, 1)).long()


INPUTS, TARGET, CLASSES = scene()
UNKNOWN = CLASSES.clone()
UNKNOWN[:, :, :3] = 255
LAST = UNKNOWN.permute(0, 2, 3, 1).contiguous()
HOT = F.one_hot(CLASSES, K).movedim(-1, 1).float()


def net(out=Z, *behind, norm=nn.BatchNorm2d):
    torch.manual_seed(0)
    layers = [nn.Conv2d(6, 16, 3, padding=1), norm(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), norm(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, out, 1), *behind)


def of_classes(*behind):
    return net(K * Z, nn.Unflatten(1, (K, Z)), *behind)


class Apply(nn.Module):
    """A function behind a module."""

    def __init__(self, module, function):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, x):
        return self.function(self.module(x))


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.net = nn.Conv2d(6, 6, 1), net()

    def forward(self, x):
        return checkpoint(self.net, self.stem(x), use_reentrant=True)


class Keeping(nn.Module):
    """Keeps its features, as many a detector does."""

    def __init__(self):
        super().__init__()
        self.net, self.head, self.kept = net(16), nn.Conv2d(16, Z, 1), []

    def forward(self, x):
        self.kept = [F.relu(self.net(x))]
        return self.head(self.kept[0])


class Two(nn.Module):
    """A head whose loss is another one's business."""

    def __init__(self):
        super().__init__()
        self.net, self.depth = net(), nn.Conv2d(6, 32, 3)

    def forward(self, x):
        return {"occupancy": self.net(x), "depth": self.depth(x)}


class Weighing(nn.Module):
    """A loss that learns the weights of its terms."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(2))

    def forward(self, output, target):
        terms = torch.stack([BCE(output, target), F.mse_loss(output.sigmoid(), target)])
        return ((-self.weights).exp() * terms + self.weights).sum()


def called(model):
    model(INPUTS)
    return model


def normalised():
    model = net(norm=lambda _: nn.Identity())
    model[0], model[3] = nn.utils.spectral_norm(model[0]), nn.utils.weight_norm(model[3])
    return called(model)


def known(output, target):
    inside = (target != 255) & (target != -1)
    return BCE(output[inside], target[inside].float())


def by_cell(output, target):
    return F.cross_entropy(output.reshape(-1, K), target.view(-1), ignore_index=255)


def soft_cross_entropy_dice(output, target):
    """As MONAI's DiceCELoss(to_onehot_y=True, softmax=True)."""
    hot = F.one_hot(target.squeeze(1).long(), output.shape[1]).movedim(-1, 1).float()
    p = output.softmax(1)
    return F.cross_entropy(output, hot) + 1 - (2 * (p * hot).sum() / (p + hot).sum())


def named_terms(output, target):
    rows = F.binary_cross_entropy_with_logits(output, target, reduction="none").mean((0, 2, 3))
    return {"loss_rows": rows, "loss_levels": [BCE(output, target), BCE(output[:, :2], target[:, :2])], "acc": 0.9, "log": "x"}


def without_the_word(output, target):
    return {"bce": BCE(output, target), "iou": 0.3}


Views = namedtuple("Views", "first second")
FLOAT_UNKNOWN = TARGET.masked_fill(UNKNOWN == 255, 255.0)

HEALTHY = {
    "classes with weights and an ignored one": lambda: (
        of_classes(), (INPUTS, UNKNOWN), nn.CrossEntropyLoss(weight=torch.linspace(0.5, 3, K), ignore_index=255), {},
    ),
    "classes on the last dimension": lambda: (
        Apply(of_classes(), lambda x: x.permute(0, 3, 4, 2, 1)), (INPUTS, LAST), by_cell, {},
    ),
    "classes by cell": lambda: (
        Apply(of_classes(), lambda x: x.permute(0, 3, 4, 2, 1).reshape(-1, K)), (INPUTS, LAST.reshape(-1)), by_cell, {},
    ),
    "classes of a softmax": lambda: (
        of_classes(nn.Softmax(1)), (INPUTS, CLASSES), lambda p, t: F.nll_loss((p + 1e-6).log(), t), {},
    ),
    "classes of a logarithm": lambda: (of_classes(nn.LogSoftmax(1)), (INPUTS, CLASSES), nn.NLLLoss(), {}),
    "classes, one hot": lambda: (of_classes(), (INPUTS, HOT), F.cross_entropy, {}),
    "classes, one hot, of a softmax": lambda: (
        of_classes(nn.Softmax(1)), (INPUTS, HOT), lambda p, t: -(t * (p + 1e-6).log()).sum(1).mean(), {},
    ),
    "classes in a channel of their own": lambda: (
        of_classes(), (INPUTS, CLASSES.unsqueeze(1)), soft_cross_entropy_dice, {"mask": torch.ones(2, 1, 1, 16, 16) > 0},
    ),
    "occupied or not in a channel of its own": lambda: (
        net(2 * Z, nn.Unflatten(1, (2, Z))), (INPUTS, TARGET.unsqueeze(1)), soft_cross_entropy_dice, {},
    ),
    "occupancy by cell": lambda: (Apply(net(), torch.flatten), (INPUTS, TARGET.flatten()), BCE, {}),
    "a target of integers with unknown cells": lambda: (net(), (INPUTS, FLOAT_UNKNOWN.to(torch.uint8)), known, {}),
    "a target of floats with unknown cells": lambda: (net(), (INPUTS, FLOAT_UNKNOWN), known, {}),
    "a target of bool": lambda: (net(), (INPUTS, TARGET > 0), lambda o, t: BCE(o, t.float()), {}),
    "a mask of columns": lambda: (
        net(), (INPUTS, TARGET), lambda o, t: BCE(o[:, :, 4:], t[:, :, 4:]),
        {"mask": (torch.arange(16) >= 4).view(1, 1, 16, 1).expand(2, 1, 16, 16)},
    ),
    "one cell": lambda: (nn.Conv2d(4, 1, 1), (INPUTS[:1, :4, :1, :1], torch.ones(1, 1, 1, 1)), BCE, {}),
    "terms by row and level, with logs": lambda: (net(), (INPUTS, TARGET), named_terms, {}),
    "terms without the word": lambda: (net(), (INPUTS, TARGET), without_the_word, {}),
    "a checkpoint of the older kind": lambda: (Checkpointed(), (INPUTS, TARGET), BCE, {}),
    "normalised weights": lambda: (normalised(), (INPUTS, TARGET), BCE, {}),
    "kept features": lambda: (called(Keeping()), (INPUTS, TARGET), BCE, {}),
    "a second output": lambda: (Two(), (INPUTS, TARGET), BCE, {"forward": lambda m, x: m(x)["occupancy"]}),
    "named inputs": lambda: (
        net(), (Views(INPUTS[:, :3], INPUTS[:, 3:]), TARGET), BCE, {"forward": lambda m, x: m(torch.cat(tuple(x), 1))},
    ),
    "half precision": lambda: (net().bfloat16(), (INPUTS.bfloat16(), TARGET.bfloat16()), BCE, {}),
}  # fmt: skip


def alarms(report):
    return [(f.verdict, f.id, f.title) for f in report.findings if f.alarming]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_set_up_is_left_in_peace(name):
    model, batch, loss, options = HEALTHY[name]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    report = diagnose(model, batch, loss, optimizer=optimizer, steps=20, **options)
    assert alarms(report) == []
    assert report["frozen-parameters"].verdict in ("pass", "note")  # the loss was had, and its gradients


def test_a_class_head_that_cannot_be_sure_is_named_in_either_layout():
    for behind in (of_classes(nn.Hardtanh()), of_classes(nn.Softmax(1))):  # CrossEntropyLoss applies the softmax again
        assert diagnose(behind, (INPUTS, CLASSES), nn.CrossEntropyLoss(), steps=20).cause == "bounded-output"
        last = Apply(behind, lambda x: x.permute(0, 3, 4, 2, 1))
        assert diagnose(last, (INPUTS, LAST), by_cell, steps=20).cause == "bounded-output"


def test_jumps_of_a_network_that_learns_all_the_same_are_a_note():
    start = [0.3, 0.45, 0.2, 0.35, 0.19, 0.3, *(0.18 * 0.97**i for i in range(25))]
    for end, verdict in ((0.01, "note"), (0.6, "warn")):
        s = Subject(net(), INPUTS, TARGET, BCE)
        s.own = Probe([*start, end], [], [], [[1e-3]], s.model, torch.optim.AdamW(s.model.parameters()), s.output)
        assert spikes(s).verdict == verdict


@pytest.mark.parametrize("behind", [(nn.Hardtanh(),), (nn.Tanh(),), (nn.ReLU(), nn.Hardtanh())])
def test_the_experiment_on_a_bounded_output_predicts_what_a_free_one_gains(behind):
    report = diagnose(net(Z, *behind), (INPUTS, TARGET), BCE, steps=20)
    assert report.cause == "bounded-output"
    assert report.try_next().held


def test_the_usual_form_gives_the_same_loss():
    for name in ("classes on the last dimension", "classes in a channel of their own", "classes, one hot"):
        model, (inputs, target), loss, options = HEALTHY[name]()
        given = Subject(model, inputs, target, loss, mask=options.get("mask"))
        usual = in_usual_form(given)
        assert usual.by_class
        assert usual.output.shape == (2, K, *usual.target.shape[1:])
        assert usual.counted.shape == usual.target.shape
        assert usual.look.loss == pytest.approx(given.look.loss, rel=1e-5)


def test_a_target_that_a_squared_error_spreads_over_two_channels_is_still_named():
    report = diagnose(net(2), (INPUTS, TARGET[:, :1]), F.mse_loss, steps=20)
    assert report.cause == "class-map"


def test_gradients_of_what_the_loss_learns_itself_are_given_back():
    model, loss = net(), Weighing()
    loss(model(INPUTS), TARGET).backward()
    before = [p.grad.clone() for p in (*model.parameters(), *loss.parameters())]
    optimizer = torch.optim.AdamW([*model.parameters(), *loss.parameters()], lr=2e-3)
    diagnose(model, (INPUTS, TARGET), lambda o, t: loss(o, t), optimizer=optimizer, steps=20)
    assert all(map(torch.equal, before, [p.grad for p in (*model.parameters(), *loss.parameters())]))


def test_an_experiment_draws_no_random_numbers_either():
    model = net(Z, nn.Dropout(0.3), nn.ReLU())
    report = diagnose(model, (INPUTS, TARGET), BCE, steps=20)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    report.try_next()
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_looked_at_where_they_are_switched_off_around(context):
    with context():
        assert diagnose(net(), (INPUTS, TARGET), BCE, steps=20).cause is None
        assert not torch.is_grad_enabled()


def test_a_compiled_model_is_examined_without_compiling_copies():
    compiled = torch.compile(net(), backend=lambda *_: pytest.fail("compiled"))
    assert diagnose(compiled, (INPUTS, TARGET), BCE, steps=20).subject == "Sequential"


def test_many_small_frames_are_looked_at_in_time():
    g = torch.Generator().manual_seed(0)
    points = torch.rand(20_000, 3, generator=g)
    inside = ((points - 0.5).norm(dim=1, keepdim=True) < 0.3).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1))
    report = diagnose(model, (points, inside), BCE, steps=20)
    assert report["empty-targets"].verdict == report["duplicate-frames"].verdict == "pass"


@pytest.mark.parametrize(
    ("model", "mask", "message"),
    [
        (net(), torch.ones(2, 16, 16) > 0, r"expected mask= of bool, broadcastable to the target's \(2, 4, 16, 16\)"),
        (net(), torch.ones(2, 4, 16, 16), "expected mask= of bool"),
        (nn.LazyConv2d(4, 1), None, "expected a model that has seen one batch"),
    ],
)
def test_what_cannot_be_examined_is_one_sentence(model, mask, message):
    with pytest.raises(OcclabError, match=message) as error:
        diagnose(model, (INPUTS, TARGET), BCE, mask=mask)
    assert "\n" not in str(error.value)

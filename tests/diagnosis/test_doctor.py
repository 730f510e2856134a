"""The doctor on a model: one cause, nothing touched, a sentence for what it cannot use."""

import copy
import hashlib
import json
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from occlab import OcclabError, OccupancyLoss, OccupancyUNet, UNetConfig
from occlab.diagnosis.doctor import PROBES, STRUCTURE, diagnose
from occlab.diagnosis.finding import CAUSES

BCE = F.binary_cross_entropy_with_logits


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    target = (torch.rand(2, 4, 12, 12, generator=g) < 0.1).float()
    return target + 0.3 * torch.randn(target.shape, generator=g), target


def network(head="logits", seed=0):
    torch.manual_seed(seed)
    config = UNetConfig(in_channels=4, out_channels=4, width=1 / 16, head=head, bn_momentum=0.1)
    return OccupancyUNet(config)


def digest(*values):
    """A hash of everything in nested state: tensors bit for bit."""
    found = hashlib.sha256()

    def add(value):
        if isinstance(value, torch.Tensor):
            found.update(str((value.dtype, tuple(value.shape))).encode() + value.detach().cpu().numpy().tobytes())
        elif isinstance(value, np.ndarray):
            found.update(value.tobytes())
        elif isinstance(value, dict):
            for key in value:
                found.update(repr(key).encode())
                add(value[key])
        elif isinstance(value, tuple | list):
            for item in value:
                add(item)
        else:
            found.update(repr(value).encode())

    for value in values:
        add(value)
    return found.hexdigest()


def state(model, optimizer, scheduler, batch):
    modes = [(name, m.training, list(m._forward_hooks)) for name, m in model.named_modules()]
    gradients = [None if p.grad is None else p.grad for p in model.parameters()]
    numbers = (torch.get_rng_state(), np.random.get_state(), random.getstate())
    return digest(
        model.state_dict(), modes, gradients, optimizer.state_dict(), scheduler.state_dict(), numbers, batch[0], batch[1],
        torch.is_grad_enabled(), [p.requires_grad for p in model.parameters()],
    )  # fmt: skip


@pytest.mark.parametrize("head", ["rectified", "logits"])
@pytest.mark.parametrize("training", [True, False])
def test_weights_buffers_optimiser_random_numbers_and_modes_are_bit_for_bit_what_they_were(batch, head, training):
    model = network(head)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    for _ in range(3):  # so that there is a state to keep
        optimizer.zero_grad()
        BCE(model(batch[0]), batch[1]).backward()
        optimizer.step(), scheduler.step()
    model.train(training)
    model.stem.eval()  # a mode of its own
    before = state(model, optimizer, scheduler, batch)
    report = diagnose(model, batch, OccupancyLoss(), optimizer=optimizer, scheduler=scheduler, clip_norm=0.1, steps=20)
    assert state(model, optimizer, scheduler, batch) == before
    if report.findings[0].next_experiment is not None:
        report.try_next()
        assert state(model, optimizer, scheduler, batch) == before


def test_the_network_as_it_stood_has_one_cause(batch):
    model = network("rectified")
    report = diagnose(model, batch, OccupancyLoss(), optimizer=torch.optim.AdamW(model.parameters(), lr=1e-4), clip_norm=0.1)
    assert report.cause == "bounded-output"
    assert report.findings[0].evidence["kind"] == "relu-before-sigmoid"
    assert report["cannot-overfit"].verdict == "not-measurable"
    trial = report.try_next()
    assert trial.held
    assert trial.measured < trial.without


def test_a_healthy_network_has_none(batch):
    model = network()
    report = diagnose(model, batch, OccupancyLoss(), optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3))
    assert report.cause is None
    assert not report.consequences
    assert json.loads(report.to_json())["cause"] is None


def test_every_check_reports_exactly_once(batch):
    model = network()
    report = diagnose(model, batch, BCE, steps=20)
    ids = [f.id for f in report.findings]
    assert len(ids) == len(set(ids))
    assert set(ids) <= set(CAUSES)
    expected = {check.__name__.replace("_", "-") for check in (*STRUCTURE, *PROBES)} - {"unchanged-parameters"}
    assert set(ids) == expected
    assert all(f.title and isinstance(json.dumps(f.to_dict()), str) for f in report.findings)


def test_what_fails_or_warns_says_how_to_mend_it_and_what_to_try(batch):
    for head in ("rectified", "logits"):
        for target in (batch[1], 255 * batch[1], torch.zeros_like(batch[1])):
            report = diagnose(network(head), (batch[0], target), BCE, steps=20)
            for finding in report.findings:
                if finding.alarming:
                    assert finding.why
                    assert finding.fix
                    assert finding.evidence


def test_two_inputs_as_a_tuple_or_a_dict_and_a_forward_of_ones_own(batch):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, first, second):
            return {"logits": self.net(first + 0 * second), "other": second}

    inputs, target = batch
    report = diagnose(Two(), ((inputs, inputs), target), BCE, forward=lambda m, x: m(*x)["logits"], steps=20)
    assert report.cause is None
    named = {"first": inputs, "second": inputs}
    assert diagnose(Two(), (named, target), BCE, forward=lambda m, x: m(**x)["logits"], steps=20).cause is None


def test_a_volume_network_with_one_channel(batch):
    inputs, target = (t.unsqueeze(1) for t in batch)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 1, 1))
    assert diagnose(model, (inputs, target), BCE, steps=30).cause is None
    rectified = nn.Sequential(copy.deepcopy(model), nn.ReLU())
    assert diagnose(rectified, (inputs, target), BCE, steps=30).cause == "bounded-output"


def refusing(output, target):
    raise ValueError("expected something else\nand more")


def minus(output, target):
    return output - target


def test_an_output_of_another_shape_than_the_target_is_a_finding():
    report = diagnose(nn.Conv2d(4, 4, 1), (torch.rand(1, 4, 3, 3), torch.rand(1, 4, 2, 3)), BCE, steps=5)
    assert report.cause == "class-map"
    assert "(1, 4, 3, 3)" in report.findings[0].title


@pytest.mark.parametrize(
    ("model", "batch_", "loss", "message"),
    [
        (nn.Conv2d(4, 4, 1), (torch.zeros(1, 4, 3, 3),), BCE, "expected batch"),
        (nn.Conv2d(4, 4, 1), (torch.zeros(1, 4, 3, 3), None), BCE, "expected batch"),
        (nn.Conv2d(5, 4, 1), (torch.zeros(1, 4, 3, 3), torch.zeros(1, 4, 3, 3)), BCE, "does not run on this batch"),
        (nn.Conv2d(4, 4, 1), (torch.rand(1, 4, 3, 3), torch.eye(3).expand(1, 4, 3, 3)), refusing, "does not take output"),
        (nn.Conv2d(4, 4, 1), ("text", torch.zeros(1, 4, 3, 3)), BCE, "inputs with a tensor"),
        (nn.Conv2d(4, 4, 1), (torch.rand(1, 4, 3, 3), torch.eye(3).expand(1, 4, 3, 3)), minus, "returns one number"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(model, batch_, loss, message):
    with pytest.raises(OcclabError, match=message) as error:
        diagnose(model, batch_, loss, steps=5)
    assert "\n" not in str(error.value)


def test_the_number_of_steps_is_bounded(batch):
    with pytest.raises(OcclabError, match="steps from 1 to 1000, got 0"):
        diagnose(network(), batch, BCE, steps=0)


def test_a_model_that_cannot_be_copied_is_one_sentence(batch):
    class Stubborn(nn.Module):
        def __deepcopy__(self, memo):
            raise RuntimeError("no")

    with pytest.raises(OcclabError, match="expected a model that can be copied"):
        diagnose(Stubborn(), batch, BCE)

"""Signals and gradients against closed forms and plain backward; and that looking leaves no trace."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from occlab import OccupancyLoss
from occlab.diagnosis import gradient_flow, signal_flow
from occlab.errors import OcclabError
from occlab.models import OccupancyUNet, UNetConfig


def network(head="rectified"):
    torch.manual_seed(0)
    return OccupancyUNet(UNetConfig(in_channels=8, out_channels=4, width=1 / 16, head=head))


def batch():
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(1, 8, 12, 12, generator=generator)
    return inputs, (torch.rand(1, 4, 12, 12, generator=generator) < 0.1).float()


def squares(output, target):
    return ((output - target) ** 2).mean()


def test_signals_by_hand():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(inplace=True))
    model[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    linear, relu = signal_flow(model, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert (linear.name, linear.kind) == ("0", "convolution")  # the outputs are 1, -2, 3, -4
    assert linear.mean == pytest.approx(-0.5)
    assert linear.std == pytest.approx(torch.tensor([1.0, -2, 3, -4]).std(correction=0).item())
    assert linear.share_zero == 0  # measured before the ReLU overwrote it
    assert (relu.name, relu.kind, relu.mean, relu.share_zero) == ("1", "activation", 1.0, 0.5)


def test_signals_come_in_the_order_of_the_pass_and_batchnorm_uses_the_batch():
    model = network().eval()
    signals = signal_flow(model, batch()[0])
    assert [signals[0].name, signals[-1].name] == ["stem", "head.5"]
    norms = [s for s in signals if s.kind == "norm"]
    assert len(norms) == sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert all(abs(s.mean) < 1e-4 for s in norms)  # of the batch; the running averages still say 0 and 1
    assert [s.kind for s in signal_flow(model, batch()[0], activations_only=True)] == ["activation"] * len(norms)


def test_a_module_called_twice_is_told_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(-self.relu(x))

    assert [(s.name, s.share_zero) for s in signal_flow(Twice(), torch.tensor([1.0, -1.0]))] == [
        ("relu", 0.5),
        ("relu (call 2)", 1.0),
    ]


@pytest.mark.parametrize("head", ["rectified", "logits"])
def test_gradients_are_those_of_a_plain_backward(head):
    model, (inputs, target) = network(head), batch()
    twin = copy.deepcopy(model).train()
    OccupancyLoss()(twin(inputs), target).backward()
    found = gradient_flow(model, inputs, target, OccupancyLoss())
    convolutions = {name: m for name, m in twin.named_modules() if isinstance(m, nn.Conv2d)}
    assert {g.name for g in found} == set(convolutions)
    assert [found[0].name, found[-1].name] == ["stem", "head.3"]
    for g in found:
        weight = convolutions[g.name].weight
        assert g.gradient_norm == pytest.approx(weight.grad.norm().item(), rel=1e-5)
        assert g.weight_norm == pytest.approx(weight.norm().item(), rel=1e-6)
        assert g.ratio == pytest.approx(g.gradient_norm / g.weight_norm)
        assert g.share_zero == pytest.approx((weight.grad == 0).float().mean().item())


def test_no_gradient_passes_a_dead_relu():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    model[0].bias.data.fill_(-100.0)
    first, last = gradient_flow(model, torch.randn(4, 2), torch.ones(4, 1), squares)
    assert (first.gradient_norm, first.ratio, first.share_zero) == (0, 0, 1)
    assert (last.gradient_norm, last.share_zero) == (0, 1)  # its input is all zeros
    model[0].bias.data[0] = 100.0
    first, last = gradient_flow(model, torch.randn(4, 2), torch.ones(4, 1), squares)
    assert first.share_zero == last.share_zero == pytest.approx(2 / 3)


def test_frozen_and_cut_off_layers():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen, self.cut, self.free = nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1)
            self.frozen.requires_grad_(False)

        def forward(self, x):
            return self.free(self.cut(self.frozen(x)).detach())

    found = gradient_flow(Cut(), torch.ones(3, 1), torch.zeros(3, 1), squares)
    assert [(g.name, g.share_zero) for g in found] == [("cut", 1.0), ("free", 0.0)]


@pytest.mark.parametrize("mode", [True, False])
def test_looking_leaves_no_trace(mode):
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(8, 8, 1), nn.Dropout(0.5), network()).train(mode)
    model[3].stem.eval()  # a mixed mode
    inputs, target = batch()
    inputs.requires_grad_()
    kept, given = copy.deepcopy(model.state_dict()), inputs.detach().clone()
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    with torch.no_grad():  # the caller's setting neither matters nor changes
        first = (signal_flow(model, inputs), gradient_flow(model, inputs, target, OccupancyLoss()))
        assert not torch.is_grad_enabled()
    assert first == (signal_flow(model, inputs), gradient_flow(model, inputs, target, OccupancyLoss()))
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())
    assert inputs.grad is None
    assert torch.equal(inputs, given)
    assert not any(m._forward_hooks for m in model.modules())


def test_what_cannot_be_looked_at_is_refused():
    linear, x = nn.Linear(2, 2), torch.ones(1, 2)
    with pytest.raises(OcclabError, match="signal_flow expects a model that calls an activation"):
        signal_flow(linear, x, activations_only=True)
    with pytest.raises(OcclabError, match="trainable"):
        gradient_flow(nn.Sequential(nn.ReLU()), x, x, squares)
    for loss, words in [
        (lambda o, t: o - t, r"got \(1, 2\)"),
        (lambda o, t: 0.5, "got 0.5"),
        (lambda o, t: F.mse_loss(o, t).detach(), "depends on the weights"),
        (lambda o, t: o.sum() * float("nan"), "finite"),
    ]:
        with pytest.raises(OcclabError, match=words):
            gradient_flow(linear, x, x, loss)

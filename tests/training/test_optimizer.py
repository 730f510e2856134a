"""Optimisers and schedules: PyTorch's own as references; what AdamW and SGD make of a smaller gradient."""

import warnings
from dataclasses import replace
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from occlab import OcclabError, OccupancyLoss, OccupancyUNet, UNetConfig
from occlab.settings import PROFILES
from occlab.training import Batches, preset, training_steps
from occlab.training.optimizer import learning_rate, make_optimizer, parameter_groups

TINY = PROFILES["tiny"]


def rates_of(scheduler, optimizer, steps):
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(steps):
            rates.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step() if len(rates) < steps else None
    return rates


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 200), st.floats(1e-6, 1))
def test_one_cycle_is_pytorchs(steps, peak):
    config = preset("as-it-stood", TINY, steps=steps, learning_rate=peak, schedule="one-cycle")
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    expected = rates_of(OneCycleLR(optimizer, peak, total_steps=steps, cycle_momentum=False), optimizer, steps)
    assert [learning_rate(config, i) for i in range(steps)] == pytest.approx(expected, rel=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 200), st.floats(1e-6, 1), st.data())
def test_cosine_is_pytorchs_after_the_warmup(steps, peak, data):
    warmup = data.draw(st.integers(0, steps - 2))
    config = preset("as-it-stood", TINY, steps=steps, learning_rate=peak, schedule="cosine", warmup_steps=warmup)
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = CosineAnnealingLR(optimizer, steps - warmup - 1, eta_min=peak / 1000)
    expected = rates_of(scheduler, optimizer, steps - warmup)
    assert [learning_rate(config, i) for i in range(warmup, steps)] == pytest.approx(expected, rel=1e-6)
    assert learning_rate(config, steps - 1) == pytest.approx(peak / 1000)
    constant = replace(config, schedule="constant")
    assert [learning_rate(config, i) for i in range(warmup)] == [learning_rate(constant, i) for i in range(warmup)]


def test_a_run_follows_its_schedule(frames, config):
    config = replace(config, schedule="one-cycle", custom_keys={"head": {"lr_mult": 3}})
    model = OccupancyUNet(config.model)
    optimizer = make_optimizer(model, config)
    for step in training_steps(model, Batches(frames, config), config, optimizer=optimizer):
        assert step.learning_rate == learning_rate(config, step.step - 1)
        rates = sorted({group["lr"] for group in optimizer.param_groups})
        assert rates == pytest.approx([step.learning_rate, 3 * step.learning_rate])


@pytest.mark.parametrize(
    "model",
    [
        UNetConfig(width=1 / 16, channels=(256,)),
        UNetConfig(width=1 / 16),
        UNetConfig(width=1 / 16, channels=(256, 512, 512, 512), block="residual", attention="both"),
        UNetConfig(width=1 / 16, channels=(256, 512, 512), skip="half"),
    ],
)
def test_layer_decay_counts_the_stages_as_they_run(config, model):
    """The reference is the order in which a forward pass enters the stages."""
    config = replace(config, model=model, layer_decay=0.5, custom_keys={"refine": {"lr_mult": 10}})
    network, order = OccupancyUNet(model), []
    stages = {name: m for name, m in network.named_children() if not isinstance(m, nn.ModuleList)}
    stages |= {f"{k}.{i}": m for k in ("encoders", "decoders") for i, m in enumerate(getattr(network, k))}
    for name, stage in stages.items():
        stage.register_forward_hook(lambda *_, name=name: order.append(name))
    network(torch.zeros(2, 256, 36, 36))
    assert len(order) == len(stages) == 3 + len(model.channels) + len(model.channels) - 1
    expected = {name: 0.5 ** (len(order) - 1 - i) for i, name in enumerate(order)}
    expected["refine"] *= 10
    names = {id(p): name for name, p in network.named_parameters()}
    for group in parameter_groups(network, config):
        for p in group["params"]:
            stage = next(s for s in stages if names[id(p)].startswith(s + "."))
            assert group["lr_mult"] == expected[stage], names[id(p)]
    assert sum(len(g["params"]) for g in parameter_groups(network, config)) == len(names)


def test_layer_decay_slows_the_early_stages(config, frames):
    config = replace(config, layer_decay=0.5, weight_decay=0.0)
    model = OccupancyUNet(config.model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    next(training_steps(model, Batches(frames, config), config))
    moved = lambda name: (model.get_parameter(name) - before[name]).abs().max().item() / config.learning_rate  # noqa: E731
    # AdamW's first step is the rate in the sign of the gradient. In order: stem, 2 encoders, decoder, refine, head.
    assert moved("head.0.weight") == pytest.approx(1, rel=0.01)
    assert moved("refine.0.weight") == pytest.approx(1 / 2, rel=0.01)
    assert moved("stem.weight") == pytest.approx(1 / 32, rel=0.01)


def test_layer_decay_knows_only_the_unets_stages(config):
    with pytest.raises(OcclabError, match=r"layer_decay knows the stages head, refine, stem; '0.weight' is in none"):
        make_optimizer(nn.Sequential(nn.Conv2d(1, 1, 1)), replace(config, layer_decay=0.9))


def test_make_optimizer_passes_its_settings_on(config):
    model = OccupancyUNet(config.model)
    adam = make_optimizer(model, replace(config, adam_epsilon=1e-5))
    assert (type(adam), adam.defaults["eps"], adam.defaults["betas"]) == (torch.optim.AdamW, 1e-5, (0.9, 0.999))
    sgd = make_optimizer(model, replace(config, optimizer="sgd", momentum=0.5))
    assert (type(sgd), sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (SGD, 0.5, 0.01)


def exact(config):
    """A network in float64: what rounding does to gradients that should be 0 is another matter."""
    torch.manual_seed(0)
    model = OccupancyUNet(config.model).double()
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    return model


def test_sgd_by_hand(config, frames):
    """v = 0.9 v + g + decay w; w = w - lr v."""
    config = replace(config, optimizer="sgd", learning_rate=0.1, clip_norm=None)
    model, reference, batches = exact(config), exact(config), Batches(frames, config)
    velocity = [torch.zeros_like(p) for p in reference.parameters()]
    for number, _ in enumerate(islice(training_steps(model, batches, config), 3)):
        loss = config.loss(reference(batches[number].features), batches[number].target)
        gradients = torch.autograd.grad(loss, list(reference.parameters()))
        with torch.no_grad():
            for p, g, v in zip(reference.parameters(), gradients, velocity, strict=True):
                v.mul_(0.9).add_(g + 0.01 * p)
                p -= 0.1 * v
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def update(config, frames, steps):
    """What a run adds to the parameters, as one vector."""
    model = exact(config)
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    for _ in islice(training_steps(model, Batches(frames, config), config), steps):
        pass
    return torch.cat([p.detach().flatten() for p in model.parameters()]) - before


def smaller(config):
    """The same training on a loss, and so on gradients, a hundred times smaller."""
    return replace(config, loss=OccupancyLoss(bce=config.loss.bce / 100, dice=config.loss.dice / 100))


@pytest.mark.parametrize("head", ["rectified", "logits"])
@pytest.mark.parametrize("steps", [1, 5])
def test_adamw_hardly_notices_a_gradient_a_hundred_times_smaller(config, frames, head, steps):
    config = replace(config, clip_norm=None, model=replace(config.model, head=head))
    a, b = update(config, frames, steps), update(smaller(config), frames, steps)
    assert float(b.norm() / a.norm()) == pytest.approx(1, abs=0.01 if steps > 1 else 0.02)
    assert float((a - b).norm() / a.norm()) < 0.06
    # What is left is epsilon's doing: a smaller one takes it away, a large one makes AdamW follow the gradient's size.
    tiny = replace(config, adam_epsilon=1e-12)
    a, b = update(tiny, frames, steps), update(smaller(tiny), frames, steps)
    assert float((a - b).norm() / a.norm()) < 1e-3
    large = replace(config, adam_epsilon=1e-3)
    assert update(smaller(large), frames, steps).norm() < 0.1 * update(large, frames, steps).norm()


@pytest.mark.parametrize("head", ["rectified", "logits"])
def test_sgd_moves_a_hundred_times_less(config, frames, head):
    config = replace(config, model=replace(config.model, head=head), optimizer="sgd", clip_norm=None, weight_decay=0.0)
    a, b = update(config, frames, 1), update(smaller(config), frames, 1)
    torch.testing.assert_close(100 * b, a, rtol=1e-3, atol=1e-4 * float(a.abs().max()))

"""How faults are planted: functions (set-up, seed) -> set-up, which may change the one they are given."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..losses import OccupancyLoss
from .copying import random_numbers_kept
from .setups import ARCHITECTURES, NZ, On, Setup, adam, batch, by_height, last_convolution, network, swap_norms, train, visible

Plant = Callable[[Setup, int], Setup]

# --- the output ---------------------------------------------------------------------------------------------------------


class Detached(nn.Module):
    """Passes no gradient back."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor], *args: Any) -> None:
        super().__init__()
        self.function, self.args = function, args

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.args)


def behind(*modules: nn.Module) -> Plant:
    """Modules behind the output, before a loss of logits."""
    return lambda s, seed: adam(s, nn.Sequential(s.model, *modules))


def before_probabilities(*modules: nn.Module) -> Plant:
    """Modules behind the output, the last of which gives probabilities, and a loss of those."""
    return lambda s, seed: replace(adam(s, nn.Sequential(s.model, *modules)), loss=bce_of_probabilities)


def bce_of_probabilities(p: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy(p, target)


def normalised(s: Setup) -> nn.Module:
    """A BatchNorm for the output's channels."""
    return nn.BatchNorm2d(NZ) if s.target.dim() == 4 else nn.BatchNorm3d(1)


def batchnorm_relu(s: Setup, seed: int) -> Setup:
    return adam(s, nn.Sequential(s.model, normalised(s), nn.ReLU()))


def last_bias(value: float) -> Plant:
    def plant(s: Setup, seed: int) -> Setup:
        nn.init.constant_(last_convolution(s.model).bias, value)
        return s

    return plant


def dead_last_relu(s: Setup, seed: int) -> Setup:
    return behind(nn.ReLU())(last_bias(-20.0)(s, seed), seed)


def last_scale(factor: float) -> Plant:
    def plant(s: Setup, seed: int) -> Setup:
        with torch.no_grad():
            last_convolution(s.model).weight.mul_(factor)
        return s

    return plant


def saturated(s: Setup, seed: int) -> Setup:
    return before_probabilities(nn.Sigmoid())(last_bias(-2000.0)(last_scale(100.0)(s, seed), seed), seed)


def prior_before_norm(s: Setup, seed: int) -> Setup:
    s = last_bias(-math.log((1 - 0.05) / 0.05))(s, seed)
    return adam(s, nn.Sequential(s.model, normalised(s)))


# --- what is trained ----------------------------------------------------------------------------------------------------


def encoder_detached(s: Setup, seed: int) -> Setup:
    if s.architecture == ARCHITECTURES[0]:
        s.model.encoders[0] = nn.Sequential(s.model.encoders[0], Detached())
    else:
        s.model.model[0] = nn.Sequential(s.model.model[0], Detached())
    return s


def optimised(choose: Callable[[Setup, list[nn.Parameter]], list[nn.Parameter]]) -> Plant:
    """Only these parameters in the optimiser."""
    return lambda s, seed: replace(s, optimizer=torch.optim.AdamW(choose(s, list(s.model.parameters())), lr=2e-3))


def without_head(s: Setup, parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    head = {id(p) for p in last_convolution(s.model).parameters()}
    return [p for p in parameters if id(p) not in head]


def of_another_copy(s: Setup, parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    return [nn.Parameter(p.detach().clone()) for p in parameters]


def without_gradients(s: Setup, seed: int) -> Setup:
    s.model.requires_grad_(False)
    return s


def output_detached(s: Setup, seed: int) -> Setup:
    return replace(s, forward=lambda model, x: model(x).detach())


# --- how it is trained --------------------------------------------------------------------------------------------------


def adamw(**options: Any) -> Plant:
    return lambda s, seed: adam(s, **options)


def sgd(clip_norm: float | None = None, **options: Any) -> Plant:
    """SGD with momentum; at a rate of 0.2 it learns the task."""
    options = {"lr": 0.2, "momentum": 0.9} | options
    return lambda s, seed: replace(s, optimizer=torch.optim.SGD(s.model.parameters(), **options), clip_norm=clip_norm)


def decays_at_once(s: Setup, seed: int) -> Setup:
    return replace(s, scheduler=torch.optim.lr_scheduler.ExponentialLR(s.optimizer, gamma=0.3))


def with_loss(make: Callable[[Any], Callable[[Tensor, Tensor], Any]]) -> Plant:
    """Another loss, made from the healthy one."""
    return lambda s, seed: replace(s, loss=make(s.loss))


def sum_of_losses(s: Setup, seed: int) -> Setup:
    loss = nn.BCEWithLogitsLoss(reduction="sum")
    return replace(sgd()(s, seed), loss=loss)


def masked(make: Callable[[Tensor], Tensor | None]) -> Plant:
    """A set-up with a mask, whose loss uses another."""

    def plant(s: Setup, seed: int) -> Setup:
        mask = visible(s.target)
        return replace(s, mask=mask.reshape(s.target.shape), loss=On(OccupancyLoss(), make(mask)))

    return plant


def over_itself(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Always 1, while its gradient is that of the logarithm."""

    def divided(output: Tensor, target: Tensor) -> Tensor:
        value = loss(output, target)
        return value / value.detach()

    return divided


def hard_output(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss((output > 0).float(), target)


def dominated(output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """A term that keeps neighbours alike, at a million times its weight."""
    rough = (output[..., 1:] - output[..., :-1]).square().mean()
    return {"loss_bce": F.binary_cross_entropy_with_logits(output, target), "loss_smooth": 1e6 * rough}


# --- the network --------------------------------------------------------------------------------------------------------


def norms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)]


def dead_hidden(s: Setup, seed: int) -> Setup:
    for norm in norms(s.model):
        nn.init.constant_(norm.bias, -20.0)
    return s


def all_zero(s: Setup, seed: int) -> Setup:
    for p in s.model.parameters():
        if p.dim() > 1:
            nn.init.zeros_(p)
    return s


def with_dropout(s: Setup, seed: int) -> Setup:
    """Of the input: of a hundred values one is left."""
    return adam(s, nn.Sequential(nn.Dropout(0.99), s.model))


def one_useless_channel(s: Setup, seed: int) -> Setup:
    """A convolution of one pixel that sees only noise."""
    with random_numbers_kept():
        torch.manual_seed(seed)
        last = nn.Conv2d(1, NZ, 1) if s.target.dim() == 4 else nn.Conv3d(1, 1, 1)
    return adam(s, nn.Sequential(Apply(lambda x: x[:, -1:]), last))


def blind(s: Setup, seed: int) -> Setup:
    return replace(s, forward=lambda model, x: model(torch.zeros_like(x)))


def times_zero(s: Setup, seed: int) -> Setup:
    return adam(s, nn.Sequential(Apply(torch.mul, 0.0), s.model))


def in_other_units(s: Setup) -> Setup:
    """Every layer before the last gives numbers ten times as large, which a norm takes out again: then its running statistics
    are far from those it starts with, as they are in most networks and, by luck, not in a small one."""
    last = last_convolution(s.model)
    with torch.no_grad():
        for m in s.model.modules():
            if isinstance(m, nn.modules.conv._ConvNd) and m is not last:
                m.weight.mul_(10)
    return s


def slow_statistics(s: Setup, seed: int) -> Setup:
    """Trained, but the running statistics hardly moved."""
    for norm in norms(s.model):
        norm.momentum = 1e-4
    return trained_here(in_other_units(s), seed)


def lost_statistics(s: Setup, seed: int) -> Setup:
    """Trained, but loaded without the buffers."""
    s = trained_here(in_other_units(s), seed)
    for norm in norms(s.model):
        norm.reset_running_stats()
    return s


def trained_here(s: Setup, seed: int, steps: int = 200) -> Setup:
    batches = [batch(s.architecture, seed + i) for i in range(8)]
    train(s, [batches[i % 8] for i in range(steps)])
    return s


def weighted(s: Setup, seed: int) -> Setup:
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(50.0))
    return trained_here(replace(s, loss=loss), seed, 100)


# --- the data -----------------------------------------------------------------------------------------------------------


def with_target(make: Callable[[Tensor], Tensor]) -> Plant:
    """Another target, made from the right one, whose last dimensions are (Z, Y, X)."""
    return lambda s, seed: replace(s, target=make(s.target).contiguous())


def with_inputs(make: Callable[[Tensor], Tensor]) -> Plant:
    return lambda s, seed: replace(s, inputs=make(s.inputs))


def after_training(make: Callable[[Tensor], Tensor]) -> Plant:
    """The target goes wrong after the network was trained, as on validation frames with another set of axes."""
    return lambda s, seed: with_target(make)(trained_here(s, seed), seed)


def poke(t: Tensor, value: float) -> Tensor:
    t = t.clone()
    t.view(-1)[t.numel() // 2] = value
    return t


def timestamps(x: Tensor) -> Tensor:
    """The last channel, which is noise, as large as seconds since some day, where one varies by a hundredth."""
    x = x.clone()
    x[:, -1] = 1e6 * (1 + 0.01 * x[:, -1])
    return x


def large_inputs(s: Setup, seed: int) -> Setup:
    """Raw integers in place of metres; BatchNorm would take the scale out, so it goes too."""
    return replace(adam(s, swap_norms(s.model, "none")), inputs=1e6 * s.inputs)


def nan_weight(s: Setup, seed: int) -> Setup:
    with torch.no_grad():
        next(s.model.parameters()).view(-1)[0] = math.nan
    return s


def same_frame_twice(s: Setup, seed: int) -> Setup:
    twice = lambda t: t[:1].expand_as(t).clone()  # noqa: E731
    return replace(s, inputs=twice(s.inputs), target=twice(s.target))


def one_input_two_targets(s: Setup, seed: int) -> Setup:
    return replace(s, inputs=s.inputs[:1].expand_as(s.inputs).clone())


def classes(change: Callable[[Tensor], Tensor], ignore_index: int = -100) -> Plant:
    """Three classes in place of occupied or not, then a change of their ids."""

    def plant(s: Setup, seed: int) -> Setup:
        s = adam(s, network(s.architecture, seed, classes=3))
        return replace(s, target=change(by_height(s.target)), loss=nn.CrossEntropyLoss(ignore_index=ignore_index))

    return plant

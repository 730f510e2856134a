"""A small occupancy task, networks that can learn it, and what the tests of the training step's checks share."""

import torch
from torch import nn

from occlab import OccupancyLoss
from occlab.diagnosis.subject import Subject

STEPS = 30


def batch(seed=0):
    """Columns to be told from their noisy counts, among channels of noise: (2, 6, 12, 12) and (2, 4, 12, 12)."""
    g = torch.Generator().manual_seed(seed)
    target = (torch.rand(2, 4, 12, 12, generator=g) < 0.1).float()
    counts = torch.poisson(5 * target + 0.02, generator=g)
    return torch.cat([counts, torch.randn(2, 2, 12, 12, generator=g)], 1), target


def network(seed=0, norm=True, last=None):
    torch.manual_seed(seed)
    stage = lambda a, b: [nn.Conv2d(a, b, 3, padding=1), *([nn.BatchNorm2d(b)] if norm else []), nn.ReLU()]  # noqa: E731
    return nn.Sequential(*stage(6, 16), *stage(16, 16), last or nn.Conv2d(16, 4, 1))


def subject(model=None, optimizer=None, seed=0, **changes):
    """An occupancy task with AdamW at 3e-3, or what ``optimizer(parameters)`` makes."""
    model = network(seed) if model is None else model
    made = (optimizer or (lambda p: torch.optim.AdamW(p, lr=3e-3)))(model.parameters()) if optimizer is not False else None
    inputs, target = batch(seed)
    settings_of = {"loss": OccupancyLoss(), "steps": STEPS} | changes
    return Subject(model, inputs, target, optimizer=made, **settings_of)


def trained(steps=300, **changes):
    s = subject(**changes)
    s.train(s.model, s.optimizer, None, s.clip_norm, steps=steps)
    return s


class Detached(nn.Module):
    def forward(self, x):
        return x.detach()


def held(finding):
    """Does the finding's prediction hold, and does it not hold already?"""
    experiment = finding.next_experiment
    without, measured = experiment.run()
    return experiment.low <= measured <= experiment.high and not experiment.low <= without <= experiment.high


def scheduled(curve, s=None, last=0):
    s = s or subject()
    s.scheduler = torch.optim.lr_scheduler.LambdaLR(s.optimizer, curve)
    for _ in range(last):
        s.optimizer.step()
        s.scheduler.step()
    return s


def sgd(p):
    return torch.optim.SGD(p, lr=0.2, momentum=0.9)

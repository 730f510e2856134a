"""Healthy set-ups, on which a doctor has to stay silent: a list that covers losses, optimisers, heads, targets, norms and masks
before the first step, in the middle of training and at its end."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..losses import OccupancyLoss
from .setups import ARCHITECTURES, On, Setup, batch, by_height, last_convolution, network, train, visible

TOTAL = 650
"""Steps of a training with a cosine schedule; a set-up that is late has 50 of them left, for the probe."""


def _terms(mask: Tensor | None) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    bce, dice = On(OccupancyLoss(dice=0.0), mask), On(OccupancyLoss(bce=0.0, dice=0.5), mask)
    return lambda output, target: {"loss_bce": bce(output, target), "loss_dice": dice(output, target)}


def _of_probabilities(mask: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    if mask is None:
        return F.binary_cross_entropy
    weight = mask.float()
    return lambda p, t: (F.binary_cross_entropy(p.view_as(weight), t.view_as(weight), weight) / weight.mean()).reshape(())


def _weighted(mask: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    return nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))


LOSSES: dict[str, Callable[[Tensor | None], Callable[[Tensor, Tensor], Any]]] = {
    "BCE": lambda mask: On(OccupancyLoss(dice=0.0), mask),
    "BCE + Dice": lambda mask: On(OccupancyLoss(), mask),
    "focal": lambda mask: On(OccupancyLoss(bce=0.0, dice=0.0, focal=1.0), mask),
    "focal + Dice": lambda mask: On(OccupancyLoss(bce=0.0, focal=10.0), mask, by_channel=False),
    "Dice": lambda mask: On(OccupancyLoss(bce=0.0, dice=1.0), mask, by_channel=False),
    "Tversky": lambda mask: On(OccupancyLoss(bce=0.0, dice=0.0, tversky=1.0), mask, by_channel=False),
    "Lovasz": lambda mask: On(OccupancyLoss(bce=0.0, dice=0.0, lovasz=1.0), mask),
    "BCE + Lovasz": lambda mask: On(OccupancyLoss(dice=0.0, lovasz=1.0), mask),
    "BCE with pos_weight 3": _weighted,
    "terms by name": _terms,
    "BCE of probabilities": _of_probabilities,
    "cross-entropy of classes": lambda mask: nn.CrossEntropyLoss(),
}
"""From a mask, (B, Z, Y, X) or None, which those with a pos_weight and of classes do not use."""


@dataclass(frozen=True)
class Recipe:
    """One healthy training, and how far it has come."""

    architecture: str
    loss: str = "BCE + Dice"
    optimizer: Literal["AdamW", "Adam", "SGD"] = "AdamW"
    head: Literal["default", "prior of 0.01", "zero-init"] = "default"
    targets: Literal["hard", "soft"] = "hard"
    steps: int = 0
    """Trained so far, on eight batches in turn."""
    schedule: Literal["constant", "cosine", "warm-up"] = "constant"
    norm: Literal["batch norm", "group norm", "no norm"] = "batch norm"
    masked: bool = False
    frames: int = 2
    clip_norm: float | None = None

    @property
    def name(self) -> str:
        """Architecture, loss, steps, and what else is not the default."""
        words = {"targets": "soft targets", "masked": "mask", "frames": f"batch of {self.frames}"}
        words |= {"clip_norm": f"clipped at {self.clip_norm}"}
        plain = Recipe(self.architecture, self.loss, steps=self.steps)
        others = [f.name for f in fields(self) if getattr(self, f.name) != getattr(plain, f.name)]
        described = [words.get(name, str(getattr(self, name))) for name in others]
        return ", ".join([self.architecture, self.loss, f"{self.steps} steps", *described])

    def build(self, seed: int = 0) -> Setup:
        """The set-up, trained so far."""
        batches = [batch(self.architecture, seed + i, self.frames, soft=self.targets == "soft") for i in range(8)]
        several = self.loss == "cross-entropy of classes"
        if several:
            batches = [(inputs, by_height(target)) for inputs, target in batches]
        inputs, target = batches[0]
        norm = self.norm.removesuffix(" norm").replace("no", "none")
        model = network(self.architecture, seed, classes=3 if several else 1, norm=norm)
        last = last_convolution(model)
        if self.head == "prior of 0.01":
            nn.init.constant_(last.bias, math.log(0.01 / 0.99))
        if self.head == "zero-init":
            nn.init.zeros_(last.weight)
        if self.loss == "BCE of probabilities":
            model = nn.Sequential(model, nn.Sigmoid())
        mask = visible(target) if self.masked else None
        setup = Setup(
            self.name, model, inputs, target, LOSSES[self.loss](mask), self._optimizer(model),
            mask=None if mask is None else mask.reshape(target.shape), clip_norm=self.clip_norm,
        )  # fmt: skip
        if self.schedule != "constant":
            curve = _cosine if self.schedule == "cosine" else _warm_up
            setup = replace(setup, scheduler=torch.optim.lr_scheduler.LambdaLR(setup.optimizer, curve))
        train(setup, [batches[i % 8] for i in range(self.steps)])
        return setup

    def _optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        if self.optimizer == "SGD":
            return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
        return getattr(torch.optim, self.optimizer)(model.parameters(), lr=2e-3)


def _cosine(step: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(step / TOTAL, 1)))


def _warm_up(step: int) -> float:
    return min((step + 1) / 20, 1)


FLAT, VOLUME = ARCHITECTURES

RECIPES = (
    # Before the first step.
    Recipe(FLAT),
    Recipe(VOLUME),
    Recipe(FLAT, "BCE", head="prior of 0.01"),
    Recipe(VOLUME, "focal", head="prior of 0.01", frames=1),
    Recipe(FLAT, "Dice", frames=4),
    Recipe(VOLUME, "BCE of probabilities", head="zero-init"),
    Recipe(FLAT, "terms by name", "SGD", head="zero-init", schedule="warm-up"),
    Recipe(VOLUME, "Lovasz", "Adam", targets="soft"),
    Recipe(FLAT, "BCE with pos_weight 3", "Adam", targets="soft", clip_norm=0.1),
    Recipe(VOLUME, "Tversky", masked=True, norm="group norm"),
    Recipe(FLAT, "cross-entropy of classes", schedule="warm-up"),
    Recipe(FLAT, "focal + Dice", norm="no norm", masked=True),
    # In the middle.
    Recipe(FLAT, "BCE", "SGD", steps=100, clip_norm=35.0),
    Recipe(VOLUME, "BCE + Dice", "SGD", steps=100, masked=True),
    Recipe(FLAT, "Tversky", "Adam", steps=100, frames=1),
    Recipe(VOLUME, "terms by name", steps=100, targets="soft", clip_norm=0.1),
    Recipe(FLAT, "BCE + Lovasz", steps=100, norm="group norm"),
    Recipe(VOLUME, "BCE with pos_weight 3", head="prior of 0.01", steps=100, frames=4),
    Recipe(FLAT, "BCE of probabilities", steps=100, masked=True, head="prior of 0.01"),
    Recipe(VOLUME, "Dice", "Adam", steps=100, norm="no norm"),
    Recipe(FLAT, "BCE + Dice", steps=100, targets="soft", schedule="cosine"),
    Recipe(VOLUME, "cross-entropy of classes", steps=100),
    # Late, near the end of the schedule.
    Recipe(FLAT, steps=600, schedule="cosine"),
    Recipe(VOLUME, steps=600, schedule="cosine", clip_norm=0.1),
    Recipe(FLAT, "BCE", steps=600, schedule="cosine", targets="soft", norm="group norm"),
    Recipe(VOLUME, "BCE", "SGD", steps=600, schedule="cosine", masked=True),
    Recipe(FLAT, "focal", "Adam", head="prior of 0.01", steps=600, schedule="cosine"),
    Recipe(VOLUME, "Dice", steps=600, schedule="cosine", frames=1),
    Recipe(FLAT, "terms by name", "SGD", steps=600, clip_norm=35.0),
    Recipe(VOLUME, "BCE + Lovasz", steps=600, schedule="cosine", targets="soft"),
    Recipe(VOLUME, "BCE of probabilities", steps=600, norm="no norm", frames=4),
    Recipe(VOLUME, "Tversky", "Adam", head="zero-init", steps=600, schedule="cosine"),
)


@lru_cache
def healthy_setups() -> tuple[Setup, ...]:
    """All of them, trained once in a process: about half a minute."""
    return tuple(recipe.build() for recipe in RECIPES)

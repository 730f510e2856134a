"""Small set-ups to try a doctor on: a synthetic occupancy task, two networks that can learn it, and what training needs.

The task: walls and boxes stand on the ground of an (8, 24, 24) grid and fill some 5 % of it. The network sees a *pseudo*
version of them, with cells moved, missing and made up, beside channels of noise, and should give the true one. Everything
follows from a seed.

Legend: B frames, C channels, Z heights, Y X cells; ``U-Net`` takes (B, C, Y, X) and gives (B, Z, Y, X), ``3-D U-Net`` takes
(B, C, Z, Y, X) and gives (B, 1, Z, Y, X).
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import require
from ..losses import OccupancyLoss
from ..models import OccupancyUNet, UNetConfig
from .copying import random_numbers_kept
from .finding import Report
from .subject import advance, trainable

ARCHITECTURES = ("U-Net", "3-D U-Net")
"""occlab's own, on a bird's-eye-view map; MONAI's, on a volume."""

NZ, NY, NX = 8, 24, 24
DISTRACTORS = 4
"""Channels of noise in a bird's-eye-view map; a volume has one."""


@dataclass(frozen=True)
class Setup:
    """What :func:`occlab.diagnose` takes, under a name."""

    name: str
    model: nn.Module
    inputs: Tensor
    target: Tensor
    loss: Callable[[Any, Any], Any]
    optimizer: Optimizer
    forward: Callable[[nn.Module, Any], Any] | None = None
    mask: Tensor | None = None
    clip_norm: float | None = None
    scheduler: Any = None
    steps: int = 50

    def diagnose(self) -> Report:
        """The doctor's report on it."""
        from .doctor import diagnose

        return diagnose(
            self.model, (self.inputs, self.target), self.loss, optimizer=self.optimizer, forward=self.forward,
            mask=self.mask, steps=self.steps, clip_norm=self.clip_norm, scheduler=self.scheduler,
        )  # fmt: skip

    @property
    def architecture(self) -> str:
        return ARCHITECTURES[0] if self.inputs.dim() == 4 else ARCHITECTURES[1]

    def copy(self) -> "Setup":
        """A set-up of its own: the optimiser of the copy holds the parameters of the copied model."""
        model, optimizer, scheduler = copy.deepcopy((self.model, self.optimizer, self.scheduler))
        batch = {"inputs": self.inputs.clone(), "target": self.target.clone()}
        return replace(self, model=model, optimizer=optimizer, scheduler=scheduler, **batch)

    def run(self) -> Tensor:
        """The output on the batch."""
        return self.forward(self.model, self.inputs) if self.forward else self.model(self.inputs)


def scene(seed: int) -> tuple[Tensor, Tensor]:
    """One frame: what the sensor would count, (8, 24, 24) float, some tens of points at most, and true occupancy, 0 or 1."""
    g = torch.Generator().manual_seed(seed)
    whole = lambda low, high: int(torch.randint(low, high + 1, (), generator=g))  # noqa: E731
    target = torch.zeros(NZ, NY, NX)
    for _ in range(4):  # boxes: four sides and a lid
        z, y, x = whole(2, 4), whole(0, NY - 7), whole(0, NX - 7)
        height, width = whole(3, 6), whole(3, 6)
        target[:z, y : y + height, x : x + width] = 1
        target[: z - 1, y + 1 : y + height - 1, x + 1 : x + width - 1] = 0
    y, x = whole(2, NY - 3), whole(2, NX - 3)  # walls, one along each axis, of different height
    target[: whole(4, 6), y, : whole(8, 14)] = 1
    target[: whole(2, 4), whole(8, 14) :, x] = 1
    moved = torch.zeros_like(target)
    z, y, x = target.nonzero().T
    seen = torch.rand(len(z), generator=g) < 0.85
    jitter = torch.where(torch.rand(2, len(z), generator=g) < 0.15, torch.randint(-1, 2, (2, len(z)), generator=g), 0)
    points = torch.poisson(torch.full((len(z),), 4.0), generator=g) + 1
    cell = (z[seen], (y + jitter[0]).clamp(0, NY - 1)[seen], (x + jitter[1]).clamp(0, NX - 1)[seen])
    moved.index_put_(cell, points[seen], accumulate=True)
    made_up = torch.rand(target.shape, generator=g) < 0.01
    return moved + made_up, target


def batch(architecture: str, seed: int, frames: int = 2, *, soft: bool = False) -> tuple[Tensor, Tensor]:
    """Inputs and target of some frames. A soft target is 1 - exp(-0.3 n) where n points, about 7, fell into an occupied cell.

    Shape:
        U-Net: (B, 12, 24, 24) and (B, 8, 24, 24), counts of the heights, then noise.
        3-D U-Net: (B, 2, 8, 24, 24) and (B, 1, 8, 24, 24), counts, then noise.
    """
    g = torch.Generator().manual_seed(seed)
    counts, target = (torch.stack(t) for t in zip(*(scene(1000 * seed + i) for i in range(frames)), strict=True))
    if soft:
        target = target * (1 - torch.exp(-0.3 * (1 + torch.poisson(torch.full(target.shape, 6.0), generator=g))))
    if architecture == ARCHITECTURES[0]:
        noise = torch.randn(frames, DISTRACTORS, NY, NX, generator=g)
        return torch.cat([counts, noise], 1), target
    noise = torch.randn(frames, 1, NZ, NY, NX, generator=g)
    return torch.cat([counts.unsqueeze(1), noise], 1), target.unsqueeze(1)


def network(architecture: str, seed: int, *, classes: int = 1, norm: str = "batch") -> nn.Module:
    """A network of some thousand parameters that gives logits.

    Args:
        classes: output channels for each cell, (B, K, Z, Y, X) where there are several.
        norm: ``batch``, ``group`` or ``none``.
    """
    with random_numbers_kept():
        torch.manual_seed(seed)
        if architecture == ARCHITECTURES[0]:
            config = UNetConfig(
                in_channels=NZ + DISTRACTORS, out_channels=NZ * classes, stem=16, channels=(16, 24), head_channels=16,
                head="logits", bn_momentum=0.1,
            )  # fmt: skip
            model: nn.Module = OccupancyUNet(config)
            if classes > 1:
                model = nn.Sequential(model, nn.Unflatten(1, (classes, NZ)))
        else:
            model = require("monai.networks.nets", package="monai", extra="test").UNet(
                spatial_dims=3, in_channels=2, out_channels=classes, channels=(8, 12), strides=(2,), act="RELU", norm="BATCH"
            )
        return model if norm == "batch" else swap_norms(model, norm)


def swap_norms(model: nn.Module, norm: str) -> nn.Module:
    """GroupNorm or nothing in place of every BatchNorm; the model itself."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(module, name, nn.GroupNorm(4, child.num_features) if norm == "group" else nn.Identity())
    return model


def by_height(target: Tensor) -> Tensor:
    """Integer classes, (B, Z, Y, X): 0 empty, 1 occupied below the third height, 2 occupied above."""
    high = torch.arange(NZ).view(1, NZ, 1, 1) >= 2
    return (volumes(target) > 0) * (1 + high.long())


def visible(target: Tensor) -> Tensor:
    """A mask, (B, Z, Y, X) bool: two thirds of the columns."""
    b, z, y, x = volumes(target).shape
    columns = torch.rand(b, 1, y, x, generator=torch.Generator().manual_seed(7)) < 0.67
    return columns.expand(b, z, y, x)


def volumes(t: Tensor) -> Tensor:
    """(B, Z, Y, X), whichever of the two architectures it comes from."""
    return t.squeeze(1) if t.dim() == 5 else t


@dataclass(frozen=True)
class On:
    """An :class:`OccupancyLoss` for either architecture's output."""

    loss: OccupancyLoss
    mask: Tensor | None = None
    """(B, Z, Y, X)."""
    by_channel: bool = True
    """False: Dice and Tversky of a whole frame. By height channel they leave those free in which the target is empty, which is
    healthy only beside a term that does not."""

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        shape = volumes if self.by_channel else (lambda t: volumes(t).flatten(1, 2).unsqueeze(1))
        return self.loss(shape(output), shape(target), None if self.mask is None else shape(self.mask))


def plain(architecture: str, seed: int = 0, **changes: Any) -> Setup:
    """The healthy set-up that faults are planted into: bare logits, BCE + 0.5 Dice, AdamW at 2e-3, before the first step."""
    inputs, target = batch(architecture, seed)
    model = changes.pop("model", None) or network(architecture, seed)
    optimizer = changes.pop("optimizer", None) or torch.optim.AdamW(model.parameters(), lr=2e-3)
    made = {"name": "plain", "inputs": inputs, "target": target, "loss": On(OccupancyLoss())} | changes
    return Setup(model=model, optimizer=optimizer, **made)


def adam(setup: Setup, model: nn.Module | None = None, **options: Any) -> Setup:
    """The set-up with another model, or other options of AdamW, and a new optimiser for it."""
    model = model or setup.model
    options = {"lr": setup.optimizer.param_groups[0]["lr"]} | options
    return replace(setup, model=model, optimizer=torch.optim.AdamW(trainable(model), **options))


def train(setup: Setup, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Train in place, a step a batch; the loss must not close over one batch's mask then."""
    setup.model.train()
    parameters = [p for group in setup.optimizer.param_groups for p in group["params"]]
    for inputs, target in batches:
        setup.optimizer.zero_grad()
        output = setup.forward(setup.model, inputs) if setup.forward else setup.model(inputs)
        value = setup.loss(output, target)
        value = sum(value.values()) if isinstance(value, dict) else value
        if not value.requires_grad:
            return
        value.backward()
        if setup.clip_norm:
            nn.utils.clip_grad_norm_(parameters, setup.clip_norm)
        setup.optimizer.step()
        if setup.scheduler is not None:
            advance(setup.scheduler)


def last_convolution(model: nn.Module) -> nn.Module:
    """The convolution whose outputs are the logits: in both networks the one defined last."""
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d)
    return [m for m in model.modules() if isinstance(m, kinds)][-1]

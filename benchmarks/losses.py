"""Losses, forward and backward, on a batch of four full volumes: occlab against MONAI, kornia and plain torch."""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timing import Candidate, interleave, optional, table
from torch import Tensor

from occlab import OccupancyLoss

Loss = Callable[[Tensor, Tensor], Tensor]


def tables(device: str, quick: bool, left_out: list[str]) -> list[dict[str, Any]]:
    shape, seconds, least = ((1, 32, 60, 60), 0.3, 2) if quick else ((4, 32, 180, 180), 8.0, 5)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator).to(device).requires_grad_()
    rate = torch.linspace(0, 0.15, shape[1]).view(1, -1, 1, 1)  # low heights hold little, high ones nothing: 7.5 % on average
    target = (torch.rand(shape, generator=generator) < rate).float().to(device)
    content = []
    for title, make in (("BCE + 0.5 Dice", _bce_dice), ("Focal loss, alpha 0.25, gamma 2", _focal)):
        candidates = make(logits, target, quick, left_out if not content else [])
        interleave(candidates, seconds, least=least, device=device)
        content.append(table(f"{title}, forward and backward, {tuple(shape)} float32", candidates))
    return content


def _candidates(logits: Tensor, target: Tensor, reference: Loss) -> Callable[[str, Loss], Candidate]:
    wide = logits.detach().double().requires_grad_()
    true_value = reference(wide, target.double())
    (true_gradient,) = torch.autograd.grad(true_value, wide)
    true_value = true_value.detach()

    def check(result: tuple[Tensor, Tensor]) -> dict[str, str]:
        value, gradient = result
        largest = true_gradient.abs().max()
        return {
            "error of the value": f"{float((value - true_value).abs() / true_value):.0e}",
            "error of the gradient": f"{float((gradient - true_gradient).abs().max() / largest):.0e}",
        }

    def candidate(name: str, loss: Loss) -> Candidate:
        def run() -> tuple[Tensor, Tensor]:
            value = loss(logits, target)
            (gradient,) = torch.autograd.grad(value, logits)
            return value.detach(), gradient

        return Candidate(name, run, check)

    return candidate


def _compiled(candidate: Callable[[str, Loss], Candidate], loss: Loss) -> list[Candidate]:
    compiled = candidate("", torch.compile(lambda logits, target: loss(logits, target)))
    began = time.perf_counter()
    compiled.run()
    compiled.name = f"occlab.OccupancyLoss, torch.compile (first call {time.perf_counter() - began:.0f} s)"
    return [compiled]


def _memory(logits: Tensor, target: Tensor) -> Candidate:
    """The least that must be done: read logits and targets, write the gradient."""
    gradient = torch.empty_like(target)
    return Candidate(
        "read logits and targets, write a gradient (memory alone)", lambda: torch.add(logits.detach(), target, out=gradient)
    )


def _bce_dice(logits: Tensor, target: Tensor, quick: bool, left_out: list[str]) -> list[Candidate]:
    def plain(logits: Tensor, target: Tensor) -> Tensor:
        p = torch.sigmoid(logits)
        overlap, total = (p * target).sum((2, 3)), p.sum((2, 3)) + target.sum((2, 3))
        dice = 1 - (2 * overlap + 1e-6) / (total + 1e-6)
        return F.binary_cross_entropy_with_logits(logits, target) + 0.5 * dice.mean()

    ours, one = OccupancyLoss(), _candidates(logits, target, plain)
    candidates = [one("occlab.OccupancyLoss", ours), one("torch: the formula", plain), _memory(logits, target)]
    if not quick:
        candidates += optional(left_out, "torch.compile", lambda: _compiled(one, ours))

    def monai() -> list[Candidate]:
        from monai.losses import DiceLoss

        dice, bce = DiceLoss(sigmoid=True, smooth_nr=1e-6, smooth_dr=1e-6), torch.nn.BCEWithLogitsLoss()
        return [one("MONAI DiceLoss + BCEWithLogitsLoss", lambda x, t: bce(x, t) + 0.5 * dice(x, t))]

    return candidates + optional(left_out, "MONAI", monai)


def _focal(logits: Tensor, target: Tensor, quick: bool, left_out: list[str]) -> list[Candidate]:
    def plain(logits: Tensor, target: Tensor) -> Tensor:
        """As torchvision.ops.sigmoid_focal_loss writes it."""
        p = torch.sigmoid(logits)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        p_t = p * target + (1 - p) * (1 - target)
        alpha_t = 0.25 * target + 0.75 * (1 - target)
        return (alpha_t * (1 - p_t) ** 2 * cross_entropy).mean()

    ours, one = OccupancyLoss(bce=0, dice=0, focal=1), _candidates(logits, target, plain)
    candidates = [one("occlab.OccupancyLoss", ours), one("torch: the formula", plain), _memory(logits, target)]
    if not quick:
        candidates += optional(left_out, "torch.compile", lambda: _compiled(one, ours))

    def monai() -> list[Candidate]:
        from monai.losses import FocalLoss

        return [one("MONAI FocalLoss", FocalLoss(alpha=0.25, gamma=2.0))]

    def kornia() -> list[Candidate]:
        from kornia.losses import binary_focal_loss_with_logits as focal

        return [one("kornia binary_focal_loss_with_logits", lambda x, t: focal(x, t, 0.25, 2.0, "mean"))]

    return candidates + optional(left_out, "MONAI", monai) + optional(left_out, "kornia", kornia)

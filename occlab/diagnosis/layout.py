"""Classes in the form that the checks know: an integer target, and an output with the classes on dimension 1.

Three other forms are common: classes on the last dimension, as occupancy heads for nuScenes return them; a target that keeps a
channel of its own, as MONAI's losses take it; and one-hot targets. The model and the loss go on as they are: what is handed
between them is turned on the way.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .subject import ERRORS, Subject, sums_to_one


def in_usual_form(s: Subject) -> Subject:
    """The same model, batch and loss, with the classes where the checks look for them."""
    output, target = tuple(s.output.shape), tuple(s.target.shape)
    if len(output) < 2:
        return s
    integer = not s.target.is_floating_point() and s.target.dtype != torch.bool
    cells = output[:1] + output[2:]
    if integer and target == output[:-1] != cells and output[-1] > 1:
        return _classes_last(s)
    if target == (*output[:1], 1, *output[2:]) and output[1] > 1 and _names_classes(s):
        return _own_channel(s)
    return _one_hot(s) if target == output and output[1] > 1 and _is_one_hot(s) else s


def _classes_last(s: Subject) -> Subject:
    return replace(
        s,
        forward=lambda model, inputs: s.run(model, inputs).movedim(-1, 1),
        loss=lambda output, target: s.loss(output.movedim(1, -1).contiguous(), target),
    )


def _own_channel(s: Subject) -> Subject:
    kind = s.target.dtype
    return replace(
        s,
        target=s.target.squeeze(1).long(),
        loss=lambda output, target: s.loss(output, target.unsqueeze(1).to(kind)),
        mask=None if s.mask is None else s.mask.expand_as(s.target).squeeze(1),
    )


def _one_hot(s: Subject) -> Subject:
    kind, k = s.target.dtype, s.target.shape[1]
    return replace(
        s,
        target=s.target.to(torch.uint8).argmax(1),
        loss=lambda output, target: s.loss(output, _hot(target, k).to(kind)),
        mask=None if s.mask is None else s.mask.expand_as(s.target).all(1),
    )


def _names_classes(s: Subject) -> bool:
    """Are the numbers of a target with one channel classes to the loss? Then it costs little to give the right ones."""
    k, target = s.output.shape[1], s.target.squeeze(1)
    if not bool(((target >= 0) & (target < k) & (target == target.float().round())).all()):
        return False
    right = 10 * _hot(target.long(), k).to(s.output)
    with torch.no_grad():
        try:
            return float(s.value(right)) < 0.5 * float(s.value(right.roll(1, 1)))
        except ERRORS:
            return False


def _is_one_hot(s: Subject) -> bool:
    """One 1 in every cell, and a network or a loss with a softmax, which does not hear what all channels have in common?"""
    target = s.target.float()
    if not bool(((target == 0) | (target == 1)).all() and (target.sum(1) == 1).all()):
        return False
    if sums_to_one(s.output):
        return True
    common = torch.linspace(-1, 1, s.output[:, :1].numel()).view(s.output[:, :1].shape).to(s.output)
    with torch.no_grad():
        try:
            value, moved = float(s.value(s.output)), float(s.value(s.output + common))
        except ERRORS:
            return False
    return abs(moved - value) < 1e-3 * abs(value)


def _hot(target: Tensor, k: int) -> Tensor:
    """(B, K, ...) of (B, ...)."""
    return F.one_hot(target.long().clamp(0, k - 1), k).movedim(-1, 1)

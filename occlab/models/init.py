"""How a network starts: the weights' scale, and what the output says before the first step. All of it in place.

The order matters: :func:`initialise` draws every weight anew and sets every bias to 0, so it comes before
:func:`zero_last` and :func:`set_output_prior`.
"""

import math
from typing import Literal

import torch
from torch import nn

from ..errors import OcclabError
from .unet import OccupancyUNet


def initialise(model: nn.Module, scheme: Literal["default", "kaiming", "xavier"]) -> None:
    """Draw the weights of every convolution from torch's global generator.

    Args:
        scheme: ``default`` leaves what PyTorch drew: uniform, variance 1 / (3 fan_in), biases too.
            ``kaiming``: normal, variance 2 / fan_out (He et al. 2015, arXiv 1502.01852, in the backward form, for ReLU).
            ``xavier``: uniform, variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010).
            The latter two set biases to 0, and BatchNorm to scale 1 and shift 0. Before a BatchNorm the weights' scale
            changes no output in training, only how fast a step of given size turns them.

    Raises:
        OcclabError: another scheme.
    """
    if scheme not in ("default", "kaiming", "xavier"):
        raise OcclabError(f"scheme must be 'default' or 'kaiming' or 'xavier', got {scheme!r}")
    if scheme == "default":
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            if scheme == "kaiming":
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def last_convolution(model: OccupancyUNet) -> nn.Conv2d:
    """The convolution whose outputs are the height channels."""
    return [module for module in model.head if isinstance(module, nn.Conv2d)][-1]


def zero_last(model: OccupancyUNet) -> None:
    """Set the weight of the last convolution to 0, so that every voxel starts at the bias.

    Goyal et al. 2017 (arXiv 1706.02677) start the last BatchNorm scale of each residual block at 0 for the same reason: what a
    random last layer would add is noise. The first gradient reaches only the last convolution; the second reaches all. That is
    for a head of bare logits: in a rectified one, what leaves the BatchNorm is rounding error around its shift of 0, and a
    channel where that is not above 0 passes no gradient: about half to two thirds of them are silent so at the start. Some
    recover, as the layers before them move.
    """
    nn.init.zeros_(last_convolution(model).weight)


def set_output_prior(model: OccupancyUNet, p: float, where: Literal["convolution", "norm"] = "convolution") -> None:
    """Let the network start at the answer "occupied with probability p": bias = log(p / (1 - p)).

    The prior of RetinaNet (Lin et al. 2017, arXiv 1708.02002, section 4.1).

    Args:
        p: in (0, 1).
        where: ``convolution``: the bias of the last convolution. In a rectified head the BatchNorm behind it subtracts it
            again, so that in training it does nothing. ``norm``: the shift of that BatchNorm, which only a rectified head has.
            A p below 1/2 puts it below 0, and the ReLU behind cuts off what does not reach back above it: at 0.1 some 98 of
            100 outputs were exactly 0, and those pass no gradient back. How many are left at a lower p depends on the grid:
            at 0.001 it may be none, and then the network never moves; on cells of 1.2 m it was none only from 1e-6 on.

    Raises:
        OcclabError: p outside (0, 1), or ``norm`` with a head of bare logits.
    """
    if not (isinstance(p, int | float) and 0 < p < 1):
        raise OcclabError(f"the output prior p must be a probability between 0 and 1, both excluded, got {p!r}")
    if where not in ("convolution", "norm"):
        raise OcclabError(f"where must be 'convolution' or 'norm', got {where!r}")
    if where == "norm" and model.config.head != "rectified":
        raise OcclabError(
            "where 'norm' needs a BatchNorm after the last convolution, which only a 'rectified' head has, "
            f"got a head of {model.config.head!r}"
        )
    target = last_convolution(model) if where == "convolution" else model.head[-2]
    with torch.no_grad():
        target.bias.fill_(math.log(p / (1 - p)))

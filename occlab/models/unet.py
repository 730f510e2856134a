"""The 2-D U-Net over a BEV map whose output channels are heights.

Legend: B frames, C feature channels, Z height channels, Y X cells.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import OcclabError
from .blocks import HalfDecoder, conv_bn_relu, stage, upsample

_CHOICES = {
    "head": ("rectified", "logits"),
    "block": ("plain", "residual"),
    "attention": ("none", "channel", "spatial", "both"),
    "skip": ("full", "half"),
}


@dataclass(frozen=True)
class UNetConfig:
    """The default is ``shallow``, the network as it stood: 6,832,928 parameters, 809 GFLOP a training step and sample.

    Depth is ``len(channels)``: (256, 512, 1024, 2048) has four stages and 124,825,376 parameters.
    """

    in_channels: int = 256
    out_channels: int = 32
    """Height channels."""
    stem: int = 128
    """Channels after the first 1 x 1 convolution, and before the head."""
    channels: tuple[int, ...] = (256, 512)
    """Channels of the encoder stages; each after the first halves the resolution."""
    head_channels: int = 64
    width: float = 1.0
    """Multiplies every channel count but the input's and the output's."""
    head: Literal["rectified", "logits"] = "rectified"
    """``rectified``: BatchNorm and ReLU after the last convolution too, as it stood, so that the probability
    sigmoid(output) cannot go under 1/2. ``logits``: the last convolution is bare."""
    bn_eps: float = 1e-3
    bn_momentum: float = 0.01
    block: Literal["plain", "residual"] = "plain"
    """``plain``: an encoder stage, a decoder stage and the refinement are two 3 x 3 conv-BN-ReLU each. ``residual``: with a
    shortcut added before the last ReLU, the identity where shapes agree, else a 1 x 1 convolution and BatchNorm."""
    attention: Literal["none", "channel", "spatial", "both"] = "none"
    """After each encoder and decoder stage. ``channel``: squeeze-and-excitation. ``spatial``: the spatial half of CBAM.
    ``both``: the one, then the other."""
    skip: Literal["full", "half"] = "full"
    """Where a decoder meets its skip. ``full``: at the skip's resolution, as it stood. ``half``: at the coarser one, pooled,
    and added whole behind the upsampling: as many parameters, a third fewer operations (551 for 809 GFLOP a step)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise OcclabError(f"UNetConfig.{name} must be {' or '.join(map(repr, allowed))}, got {getattr(self, name)!r}")
        sizes = (self.in_channels, self.out_channels, self.stem, self.head_channels, *self.channels)
        if not self.channels or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in sizes):
            raise OcclabError(f"UNetConfig needs at least one stage, and whole channel counts of at least 1, got {self}")
        for name in ("width", "bn_eps", "bn_momentum"):
            x, most = getattr(self, name), 1 if name == "bn_momentum" else math.inf
            if not isinstance(x, int | float) or isinstance(x, bool) or not (0 < x <= most and math.isfinite(x)):
                expected = "a number above 0 and at most 1" if most == 1 else "a finite number above 0"
                raise OcclabError(f"UNetConfig.{name} must be {expected}, got {x!r}")
            object.__setattr__(self, name, float(x))  # 1 and 1.0 are one network, and one run
        if self.skip == "half" and len(self.channels) == 1:
            raise OcclabError(f"UNetConfig.skip 'half' needs a skip, so at least two stages, got channels {self.channels}")


class OccupancyUNet(nn.Module):
    """BEV features to occupancy **logits**; probabilities are ``torch.sigmoid`` of them, for every head.

    Shape:
        input: (B, C, Y, X), Y and X of any size from ``2 ** (stages - 1)`` up.
        output: (B, Z, Y, X).

    >>> model = OccupancyUNet(UNetConfig(width=1 / 16))
    >>> model(torch.zeros(1, 256, 36, 36)).shape
    torch.Size([1, 32, 36, 36])
    """

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UNetConfig()
        scale = lambda n: max(1, round(n * config.width))  # noqa: E731
        bn = {"eps": config.bn_eps, "momentum": config.bn_momentum}
        stem, head, stages = scale(config.stem), scale(config.head_channels), [scale(c) for c in config.channels]

        residual, half = config.block == "residual", config.skip == "half"
        block = {"residual": residual, "attention": config.attention, **bn}

        self.stem = nn.Conv2d(config.in_channels, stem, 1)
        self.encoders = nn.ModuleList([stage((stem, stem, stages[0]), **block)])
        self.decoders = nn.ModuleList()
        for above, below in pairwise(stages):
            self.encoders.append(stage((above, below, below), stride=2, **block))
            self.decoders.append(HalfDecoder(below, above, **block) if half else stage((above + below, above, above), **block))
        self.refine = stage((stages[0], stem, stem), residual=residual, **bn)
        last = conv_bn_relu(head, config.out_channels, kernel=1, **bn)
        self.head = nn.Sequential(
            *conv_bn_relu(stem, head, kernel=1, **bn), *(last if config.head == "rectified" else last[:1])
        )

    def forward(self, features_BCYX: Tensor) -> Tensor:
        if features_BCYX.ndim != 4 or features_BCYX.shape[1] != self.config.in_channels:
            raise OcclabError(f"OccupancyUNet expects (B, {self.config.in_channels}, Y, X), got {tuple(features_BCYX.shape)}")
        x = self.stem(features_BCYX)
        skips = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
        for decoder, skip in zip(reversed(self.decoders), reversed(skips[:-1]), strict=True):
            x = decoder(x, skip) if self.config.skip == "half" else decoder(torch.cat([upsample(x, skip), skip], dim=1))
        return self.head(self.refine(x))

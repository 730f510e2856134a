"""What the U-Net is built of.

Legend: B frames, C feature channels, Y X cells.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int = 3, *, stride: int = 1, eps: float, momentum: float
) -> list[nn.Module]:
    """A convolution with bias, BatchNorm and ReLU, as a list to splice into a Sequential.

    The bias before a BatchNorm does nothing but count as a parameter; the original has it, so it stays.
    """
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2),
        nn.BatchNorm2d(out_channels, eps=eps, momentum=momentum),
        nn.ReLU(inplace=True),
    ]


def stage(
    channels: tuple[int, int, int], *, stride: int = 1, residual: bool = False, attention: str = "none", **bn: float
) -> nn.Sequential:
    """Two 3 x 3 conv-BN-ReLU, or one :class:`Residual` of them, and the attention behind.

    Args:
        channels: of the input, after the first convolution, and of the output.
        stride: of the first convolution.
        bn: ``eps`` and ``momentum`` of every BatchNorm.
    """
    into, between, out = channels
    pair = [*conv_bn_relu(into, between, stride=stride, **bn), *conv_bn_relu(between, out, **bn)]
    body = [Residual(nn.Sequential(*pair[:-1]), shortcut(into, out, stride=stride, **bn))] if residual else pair
    return nn.Sequential(*body, *attend(attention, out))


def shortcut(in_channels: int, out_channels: int, *, stride: int = 1, **bn: float) -> nn.Module:
    """The identity where the shapes agree, else a 1 x 1 convolution and BatchNorm (He et al. 2015, 1512.03385, option B)."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return nn.Sequential(*conv_bn_relu(in_channels, out_channels, kernel=1, stride=stride, **bn)[:-1])


class Residual(nn.Module):
    """``relu(branch(x) + shortcut(x))``: the basic block of He et al. 2015 (arXiv 1512.03385)."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, x_BCYX: Tensor) -> Tensor:
        return F.relu(self.branch(x_BCYX) + self.shortcut(x_BCYX))


class HalfDecoder(nn.Module):
    """A decoder stage that meets its skip at the coarser resolution, where a convolution costs a quarter.

    ``small = cat(below, avg_pool(skip))``; ``second(up(first(small)) + skip)``. The skip comes in twice: pooled, through
    the first convolution, and whole, added behind it, which keeps what pooling loses. A residual stage adds
    ``up(shortcut(small))`` before its last ReLU.

    Shape:
        input: below (B, C_below, ceil(Y / 2), ceil(X / 2)) and skip (B, C, Y, X).
        output: (B, C, Y, X).
    """

    def __init__(self, below: int, skip: int, *, residual: bool = False, attention: str = "none", **bn: float) -> None:
        super().__init__()
        self.first = nn.Sequential(*conv_bn_relu(below + skip, skip, **bn))
        second = conv_bn_relu(skip, skip, **bn)
        self.second = nn.Sequential(*(second[:-1] if residual else second))
        self.shortcut = shortcut(below + skip, skip, **bn) if residual else None
        self.attention = nn.Sequential(*attend(attention, skip))

    def forward(self, below_BCYX: Tensor, skip_BCYX: Tensor) -> Tensor:
        small = torch.cat([below_BCYX, F.avg_pool2d(skip_BCYX, 2, ceil_mode=True)], dim=1)
        x = self.second(upsample(self.first(small), skip_BCYX) + skip_BCYX)
        if self.shortcut is not None:
            x = F.relu(x + upsample(self.shortcut(small), skip_BCYX))
        return self.attention(x)


def upsample(x_BCYX: Tensor, like_BCYX: Tensor) -> Tensor:
    """Bilinear, to the Y and X of ``like``."""
    return F.interpolate(x_BCYX, size=like_BCYX.shape[2:], mode="bilinear", align_corners=False)


def attend(kind: Literal["none", "channel", "spatial", "both"], channels: int) -> list[nn.Module]:
    """The attention of a stage's output, as a list to splice; ``both`` is channels first, in CBAM's order."""
    modules: list[nn.Module] = []
    if kind in ("channel", "both"):
        modules.append(ChannelAttention(channels))
    if kind in ("spatial", "both"):
        modules.append(SpatialAttention())
    return modules


class ChannelAttention(nn.Module):
    """Each channel times a number in (0, 1) made from the means of all.

    It is squeeze-and-excitation (Hu et al. 2018, arXiv 1709.01507). The bottleneck has a sixteenth of the channels, as there,
    and at least 4, so that it lives in a narrow network too.

    Shape:
        input and output: (B, C, Y, X).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(4, channels // 16)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()
        )

    def forward(self, x_BCYX: Tensor) -> Tensor:
        return x_BCYX * self.gate(x_BCYX.mean((2, 3), keepdim=True))


class SpatialAttention(nn.Module):
    """Each cell times a number in (0, 1), from a 7 x 7 convolution over the mean and the maximum of the channels.

    It is the spatial half of CBAM (Woo et al. 2018, arXiv 1807.06521), without the BatchNorm that the authors' code adds.

    Shape:
        input and output: (B, C, Y, X).
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3), nn.Sigmoid())

    def forward(self, x_BCYX: Tensor) -> Tensor:
        seen = torch.cat([x_BCYX.mean(1, keepdim=True), x_BCYX.amax(1, keepdim=True)], dim=1)
        return x_BCYX * self.gate(seen)

"""What the U-Net is built of."""

from torch import nn


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

"""The networks. All return logits."""

from .unet import OccupancyUNet, UNetConfig

__all__ = ["OccupancyUNet", "UNetConfig"]

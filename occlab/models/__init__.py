"""The networks, and how they start. All return logits."""

from .init import initialise, set_output_prior, zero_last
from .unet import OccupancyUNet, UNetConfig

__all__ = ["OccupancyUNet", "UNetConfig", "initialise", "set_output_prior", "zero_last"]

"""What a stalled loss says. Works on anybody's targets and model; knows nothing of occlab's training loop."""

from .floors import HALF, Floor, Ladder, ladder
from .flow import LayerGradient, LayerSignal, gradient_flow, signal_flow
from .output import OutputReach, Push, output_reach

__all__ = [
    "HALF",
    "Floor",
    "Ladder",
    "LayerGradient",
    "LayerSignal",
    "OutputReach",
    "Push",
    "gradient_flow",
    "ladder",
    "output_reach",
    "signal_flow",
]

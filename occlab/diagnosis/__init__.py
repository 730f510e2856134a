"""What a stalled loss says. Works on anybody's targets and model; knows nothing of occlab's training loop."""

from .floors import HALF, Floor, Ladder, ladder

__all__ = ["HALF", "Floor", "Ladder", "ladder"]

"""Under and on the screen: a training steered from outside (no widgets), and ipywidgets over the rest of the library."""

from .picker import FolderPicker
from .run_folder import unfinished
from .session import Session

__all__ = ["FolderPicker", "Session", "unfinished"]

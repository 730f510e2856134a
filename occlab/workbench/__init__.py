"""Under and on the screen: a training steered from outside (no widgets), and ipywidgets over the rest of the library."""

from typing import Any

from ..errors import require
from .picker import FolderPicker
from .run_folder import unfinished
from .session import Session

__all__ = ["FolderPicker", "Session", "Workbench", "unfinished"]


def __getattr__(name: str) -> Any:
    if name == "Workbench":  # the only one that needs Jupyter's packages
        for module in ("ipywidgets", "plotly", "anywidget"):
            require(module)
        from .app import Workbench

        return Workbench
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

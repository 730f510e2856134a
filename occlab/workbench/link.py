"""One camera for all scenes of a live figure, as it is turned."""

from pathlib import Path
from uuid import uuid4

import anywidget
import traitlets


class Link(anywidget.AnyWidget):
    """Shows nothing; put it on the page beside a ``FigureWidget`` with several 3-D scenes.

    Its script follows the mouse; without it the other scenes would turn when the mouse is released, after a message to Python
    and back.
    """

    _esm = Path(__file__).parent / "link.js"
    figure_class = traitlets.Unicode().tag(sync=True)
    """By which the script finds the figure on the page."""

    def __init__(self, figure: anywidget.AnyWidget) -> None:
        super().__init__(figure_class=f"occlab-linked-{uuid4().hex}")
        figure.add_class(self.figure_class)

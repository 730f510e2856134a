"""One camera for all scenes of a live figure, as it is turned."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import anywidget
import traitlets


class Link(anywidget.AnyWidget):
    """Shows nothing; put it on the page beside a ``FigureWidget`` whose ``layout.meta`` is :attr:`mark`.

    Its script turns the figure's other 3-D scenes while the mouse turns one; without it they would turn when the mouse is
    released, by way of Python.
    """

    _esm = Path(__file__).parent / "link.js"
    mark = traitlets.Unicode().tag(sync=True)
    """By which the script finds the figure on the page: in the layout from the start, when its class may not be known yet."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(mark=f"linked-{uuid4().hex}", layout={"display": "none"}, **kwargs)
